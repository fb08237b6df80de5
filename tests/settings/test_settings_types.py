"""pocket_agent.settings.types: what each type of setting accepts, and durations and sizes."""

import math
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import SchemaValidator

from pocket_agent.settings import ServerSettings, Settings, TimeoutSettings
from pocket_agent.settings.sections import SECTION_KEYS, SETTINGS
from pocket_agent.settings.types import (
    ATTRIBUTES,
    BOOLEAN,
    HEADERS,
    HOST,
    LOG_FIELDS,
    MAX_DURATION,
    MAX_SIZE,
    ORIGINS,
    URL,
    VARIABLES,
    PathContext,
    RefusedError,
    ValueType,
    choice,
    format_duration,
    format_size,
    number,
    parse_duration,
    parse_size,
    path,
    path_list,
    quote,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HOME = PathContext(home=Path("/home/ada"), base=Path("/etc/agent"))
Letter = Literal["a", "b"]


def parse(kind: ValueType, value: object, context: PathContext | None = None) -> object:
    """The value that a type makes of another."""
    return SchemaValidator(kind.schema).validate_python(value, context=context)


def refuses(kind: ValueType, value: object, context: PathContext | None = None) -> bool:
    """Whether a type does not accept a value."""
    try:
        parse(kind, value, context)
    except ValidationError:
        return True
    return False


ACCEPTED: list[tuple[ValueType, object, object]] = [
    (BOOLEAN, True, True),
    (BOOLEAN, "off", False),
    (BOOLEAN, " YES ", True),
    (BOOLEAN, "0", False),
    (number(1, 10), "7", 7),
    (number(1, 10), 10, 10),
    (number(0, 9).optional("off"), "off", None),
    (number(0, 9).optional("off"), False, None),
    (number(0, 9).optional("off"), None, None),
    (number(0, 9).optional("off"), 0, 0),
    (choice(Letter, bee="b"), "BEE", "b"),
    (HOST, "LocalHost", "localhost"),
    (HOST, "[::1]", "::1"),
    (HOST, "0:0:0:0:0:0:0:1", "::1"),
    (path(), Path("/x"), Path("/x")),
    (path(words=frozenset({"stdout"})), "stdout", "stdout"),
    (path(bare_names=True), "claude", Path("claude")),
    (path_list(""), "/a, /b,", (Path("/a"), Path("/b"))),
    (path_list(""), ["/a", "/a"], (Path("/a"),)),
    (ORIGINS, '["https://Phone.example:8443/"]', ("https://phone.example:8443",)),
    (ORIGINS, "capacitor://localhost", ("capacitor://localhost",)),
    (ORIGINS, "http://[::1]:5173", ("http://[::1]:5173",)),
    (ORIGINS, [], ()),
    (VARIABLES, "A=1,B=x=y", {"A": "1", "B": "x=y"}),
    (VARIABLES, '{"A": "line\\nline"}', {"A": "line\nline"}),
    (HEADERS, "Authorization=Bearer a=b,x-scope.id=1", {"authorization": "Bearer a=b", "x-scope.id": "1"}),
    (HEADERS, {"X-Empty": ""}, {"x-empty": ""}),
    (ATTRIBUTES, "team.name=a b,region-2=x", {"team.name": "a b", "region-2": "x"}),
    (URL, "https://user@collector.example:4318/otlp?x=1", "https://user@collector.example:4318/otlp?x=1"),
    (URL, " http://[::1]:4318 ", "http://[::1]:4318"),
    (LOG_FIELDS, {"a": 1, "b": True, "c": "x", "d": 0.5}, {"a": 1, "b": True, "c": "x", "d": 0.5}),
]

REFUSED: list[tuple[ValueType, list[object]]] = [
    (BOOLEAN, [1, "maybe", None]),
    (number(1, 10), [0, 11, True, 5.0, "07", "9" * 10_000]),
    (number(0, 9).optional("off"), [True]),
    (path().optional(), [False]),
    (choice(Letter), [None, "c"]),
    (HOST, ["", "*", "a b", "http://x", 127]),
    (path(), ["x/y", "/a\0b"]),
    (path(bare_names=True), ["bin/claude"]),
    (path_list(""), ["a", {"a": "b"}, "[1", "[" * 100_000]),
    (ORIGINS, ["*", "https://x/path", "https://user@x", "x.example"]),
    (VARIABLES, [{"A B": "x"}, {"A": 1}, {"A": "x\0"}, {"A": "\ud800"}, "A", "A=1,A=2"]),
    (VARIABLES, ['{"A": "1", "A": "2"}', "[]"]),
    (HEADERS, [{"a b": "x"}, {"": "x"}, {"a": "x\ny"}, {"a": "\u00e9"}, {"a": 1}, {1: "x"}, {"a": "1", "A": "2"}]),
    (ATTRIBUTES, [{"1a": "x"}, {"a b": "x"}, {"a": ""}, {"a": "x\ny"}, {"a": 1}]),
    (URL, ["collector:4318", "ftp://collector", "http://", "http://[::1", "http://c:99999", "http://c:0"]),
    (URL, ["http://c/a b", "http://c\u00e9.example", 4318]),
    (LOG_FIELDS, [{"a": None}, {"a": []}, {"a": math.nan}, {"a": 10**30}, {"a\n": "x"}, {"a": "x\ny"}]),
    (LOG_FIELDS, [{"level": "x"}]),
]


def test_values_are_parsed_and_parsed_again_as_themselves() -> None:
    wrong = []
    for kind, value, expected in ACCEPTED:
        once = parse(kind, value)
        if once != expected or parse(kind, once) != once:
            wrong.append((kind.accepts, value, once))
    assert wrong == []


def test_other_values_are_refused() -> None:
    assert [(kind.accepts, value) for kind, values in REFUSED for value in values if not refuses(kind, value)] == []


def test_paths_are_completed_from_the_place_of_their_source() -> None:
    cases: list[tuple[ValueType, object, object]] = [
        (path(), "~/x", Path("/home/ada/x")),
        (path(), "~", Path("/home/ada")),
        (path(), "x/y", Path("/etc/agent/x/y")),
        (path(), Path("x"), Path("/etc/agent/x")),
        (path(), "/x", Path("/x")),
        (path().optional(), None, None),
        (path().optional(), "null", None),
        (path(words=frozenset({"stderr"})), "stderr", "stderr"),
        (path(bare_names=True), "claude", Path("claude")),
        (path(bare_names=True), "./claude", Path("/etc/agent/claude")),
        (path_list(""), "~/a, /b", (Path("/home/ada/a"), Path("/b"))),
    ]
    assert [(value, expected) for kind, value, expected in cases if parse(kind, value, HOME) != expected] == []
    assert refuses(path(), 5, HOME)
    assert refuses(path_list(""), "~/a, b", HOME)


def test_paths_that_cannot_be_completed_are_refused() -> None:
    nowhere = PathContext(home=None, base=None)
    assert [value for value in ("~bob/x", "~/x", "x") if not refuses(path(), value, nowhere)] == []


def test_every_setting_has_help_and_a_variable_of_its_own() -> None:
    assert [key for key, setting in SETTINGS.items() if not setting.help.endswith(".")] == []
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)
    assert {"server", "server.tls", "storage"} <= SECTION_KEYS
    assert SECTION_KEYS.isdisjoint(SETTINGS)


def test_every_default_is_valid_and_prints_as_text_that_reads_back() -> None:
    wrong = []
    for key, setting in SETTINGS.items():
        default = setting.default
        if parse(setting.type, default) != default or parse(setting.type, setting.show(default)) != default:
            wrong.append(key)
    assert wrong == []


def test_sections_are_frozen_and_closed() -> None:
    found = Settings()
    with pytest.raises(ValidationError):
        found.server.port = 1
    with pytest.raises(ValidationError):
        ServerSettings(prot=1)  # type: ignore[call-arg]  # that is what is refused
    with pytest.raises(ValidationError):
        ServerSettings(port=70_000)
    assert isinstance(found.claude.environment, MappingProxyType)


def test_an_error_of_a_section_does_not_quote_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"notifications": {"urls": ["hunter2"]}})
    assert "hunter2" not in str(caught.value)


def test_sections_take_units_when_they_are_built_in_code() -> None:
    assert TimeoutSettings.model_validate({"idle": "5m"}).idle == 300.0


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_no_value_raises_anything_but_a_refusal(value: object) -> None:
    wrong = []
    for key, setting in SETTINGS.items():
        try:
            parsed = parse(setting.type, value)
        except ValidationError:
            continue
        if parse(setting.type, parsed) != parsed:
            wrong.append((key, parsed))
    assert wrong == []


@UNHURRIED
@given(st.text() | st.lists(st.text()))
def test_quoted_values_are_printable_and_bounded(value: object) -> None:
    assert quote(value).isprintable()
    assert len(quote(value)) <= 80


# --- durations and sizes


def test_durations_are_parsed() -> None:
    cases: list[tuple[object, float]] = [
        ("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("2d", 172_800.0), ("1h30m", 5400.0),
        ("1.5h", 5400.0), ("0", 0.0), (" 90 ", 90.0), ("0.1s", 0.1), (90, 90.0), (1.25, 1.25), (0, 0.0),
    ]  # fmt: skip
    assert [(value, seconds) for value, seconds in cases if parse_duration(value) != seconds] == []


def test_sizes_are_parsed() -> None:
    cases: list[tuple[object, int]] = [
        ("1024", 1024), ("1MiB", 2**20), ("512KiB", 2**19), ("1GB", 10**9), ("1.5 GiB", 3 * 2**29), ("1kB", 1000),
        ("2mib", 2**21), ("7B", 7), ("0", 0), (4096, 4096),
    ]  # fmt: skip
    assert [(value, size) for value, size in cases if parse_size(value) != size] == []


def test_other_durations_and_sizes_are_refused() -> None:
    durations = [
        "", " ", "5M", "5 m", "m", "5:30", "1_000", "1e3", "inf", "nan", "-5s", "-1", "5m-", "\u0661s", "5mm", "3651d",
        "9" * 21, "9" * 5000, "1" * 20 + "d", "1m" * 100, True, None, [], {}, -1, -0.5,
        math.inf, -math.inf, math.nan, 10**400, b"5m",
    ]  # fmt: skip
    sizes = [
        "", "MiB", "1M", "1K", "1 G", "1MiBs", "0.3KiB", "0.5", "-1", "-1MiB", "1e6", "0x10", "2PiB", "1,5MiB",
        "9" * 5000, True, None, 1.0, 1.5, math.nan, -1, 2**50 + 1, [], b"1",
    ]  # fmt: skip
    for value in durations:
        with pytest.raises(RefusedError):
            parse_duration(value)
    for value in sizes:
        with pytest.raises(RefusedError):
            parse_size(value)


@UNHURRIED
@given(st.floats(min_value=0, max_value=MAX_DURATION))
def test_a_printed_duration_reads_back_as_the_same(value: float) -> None:
    seconds = parse_duration(value)
    assert parse_duration(format_duration(seconds)) == seconds
    assert abs(seconds - value) <= 0.000_001


@UNHURRIED
@given(st.integers(min_value=0, max_value=MAX_SIZE))
def test_a_printed_size_reads_back_as_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_durations_and_sizes_are_printed_with_the_largest_exact_unit() -> None:
    durations = [
        (0.0, "0s"), (0.5, "500ms"), (0.000_25, "0.00025s"), (30.0, "30s"), (61.0, "61s"), (5400.0, "90m"),
        (86_400.0, "1d"), (90 * 86_400.0, "90d"), (MAX_DURATION, "3650d"),
    ]  # fmt: skip
    sizes = [(0, "0B"), (1, "1B"), (1000, "1kB"), (1024, "1KiB"), (2**30, "1GiB"), (1_000_000, "1MB")]
    assert [(seconds, text) for seconds, text in durations if format_duration(seconds) != text] == []
    assert [(size, text) for size, text in sizes if format_size(size) != text] == []


@UNHURRIED
@given(st.text() | st.integers() | st.floats())
def test_any_value_is_a_duration_or_a_size_or_refused(value: object) -> None:
    for parser in (parse_duration, parse_size):
        try:
            parsed = parser(value)
        except RefusedError:
            continue
        assert 0 <= parsed <= max(MAX_DURATION, MAX_SIZE)
