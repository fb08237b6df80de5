"""pocket_agent.config.form and .collection: what each kind of setting accepts."""

from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pocket_agent.config import ServerSettings, Settings, TimeoutSettings
from pocket_agent.config.collection import attribute_map, constants, header_map, origin_list, path_list, variables
from pocket_agent.config.form import Form, Place, boolean, choice, host, number, path, quote
from pocket_agent.config.leaf import LEAVES, SECTIONS, Leaf
from pocket_agent.config.unit import RefusedError
from pocket_agent.config.url import url

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HOME = Place(home=Path("/home/ada"), base=Path("/etc/agent"))


@pytest.mark.parametrize(
    ("form", "value", "parsed"),
    [
        (boolean(), True, True),
        (boolean(), "off", False),
        (boolean(), " YES ", True),
        (boolean(), "0", False),
        (number(1, 10), "7", 7),
        (number(1, 10), 10, 10),
        (number(0, 9).optional("off"), "off", None),
        (number(0, 9).optional("off"), False, None),
        (number(0, 9).optional("off"), None, None),
        (number(0, 9).optional("off"), 0, 0),
        (choice("a", "b", synonyms={"bee": "b"}), "BEE", "b"),
        (host(), "LocalHost", "localhost"),
        (host(), "[::1]", "::1"),
        (host(), "0:0:0:0:0:0:0:1", "::1"),
        (path(), Path("/x"), Path("/x")),
        (path(words=frozenset({"stdout"})), "stdout", "stdout"),
        (path(bare_names=True), "claude", Path("claude")),
        (path_list(""), "/a, /b,", (Path("/a"), Path("/b"))),
        (path_list(""), ["/a", "/a"], (Path("/a"),)),
        (origin_list(), '["https://Phone.example:8443/"]', ("https://phone.example:8443",)),
        (origin_list(), "capacitor://localhost", ("capacitor://localhost",)),
        (origin_list(), "http://[::1]:5173", ("http://[::1]:5173",)),
        (origin_list(), [], ()),
        (variables(), "A=1,B=x=y", {"A": "1", "B": "x=y"}),
        (variables(), '{"A": "line\\nline"}', {"A": "line\nline"}),
        (header_map(), "Authorization=Bearer a=b,x-scope.id=1", {"authorization": "Bearer a=b", "x-scope.id": "1"}),
        (header_map(), {"X-Empty": ""}, {"x-empty": ""}),
        (attribute_map(), "team.name=a b,region-2=x", {"team.name": "a b", "region-2": "x"}),
        (url(), "https://user@collector.example:4318/otlp?x=1", "https://user@collector.example:4318/otlp?x=1"),
        (url(), " http://[::1]:4318 ", "http://[::1]:4318"),
        (constants(), {"a": 1, "b": True, "c": "x", "d": 0.5}, {"a": 1, "b": True, "c": "x", "d": 0.5}),
    ],
)
def test_values_are_read_and_read_again_as_themselves(form: Form, value: object, parsed: object) -> None:
    once = form.parse(value)
    assert once == parsed
    assert form.parse(once) == once


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (boolean(), 1),
        (boolean(), "maybe"),
        (boolean(), None),
        (number(1, 10), 0),
        (number(1, 10), 11),
        (number(1, 10), True),
        (number(1, 10), 5.0),
        (number(1, 10), "07"),
        (number(1, 10), "9" * 10_000),
        (number(0, 9).optional("off"), True),
        (path().optional(), False),
        (choice("a"), None),
        (host(), ""),
        (host(), "*"),
        (host(), "a b"),
        (host(), "http://x"),
        (host(), 127),
        (path(), "x/y"),
        (path(), "/a\0b"),
        (path(bare_names=True), "bin/claude"),
        (path_list(""), "a"),
        (path_list(""), {"a": "b"}),
        (path_list(""), "[1"),
        (path_list(""), "[" * 100_000),
        (origin_list(), "*"),
        (origin_list(), "https://x/path"),
        (origin_list(), "https://user@x"),
        (origin_list(), "x.example"),
        (variables(), {"A B": "x"}),
        (variables(), {"A": 1}),
        (variables(), {"A": "x\0"}),
        (variables(), {"A": "\ud800"}),
        (variables(), "A"),
        (variables(), "A=1,A=2"),
        (variables(), '{"A": "1", "A": "2"}'),
        (variables(), "[]"),
        (header_map(), {"a b": "x"}),
        (header_map(), {"": "x"}),
        (header_map(), {"a": "x\ny"}),
        (header_map(), {"a": "\u00e9"}),
        (header_map(), {"a": 1}),
        (header_map(), {1: "x"}),
        (header_map(), {"a": "1", "A": "2"}),
        (attribute_map(), {"1a": "x"}),
        (attribute_map(), {"a b": "x"}),
        (attribute_map(), {"a": ""}),
        (attribute_map(), {"a": "x\ny"}),
        (attribute_map(), {"a": 1}),
        (url(), "collector:4318"),
        (url(), "ftp://collector"),
        (url(), "http://"),
        (url(), "http://[::1"),
        (url(), "http://c:99999"),
        (url(), "http://c:0"),
        (url(), "http://c/a b"),
        (url(), "http://c\u00e9.example"),
        (url(), 4318),
        (constants(), {"a": None}),
        (constants(), {"a": []}),
        (constants(), {"a": float("nan")}),
        (constants(), {"a": 10**30}),
        (constants(), {"a\n": "x"}),
        (constants(), {"a": "x\ny"}),
    ],
)
def test_other_values_are_refused(form: Form, value: object) -> None:
    with pytest.raises(RefusedError):
        form.parse(value)


@pytest.mark.parametrize(
    ("form", "value", "completed"),
    [
        (path(), "~/x", "/home/ada/x"),
        (path(), "~", "/home/ada"),
        (path(), "x/y", "/etc/agent/x/y"),
        (path(), Path("x"), "/etc/agent/x"),
        (path(), "/x", "/x"),
        (path(), 5, 5),
        (path().optional(), None, None),
        (path().optional(), "null", "null"),
        (path(words=frozenset({"stderr"})), "stderr", "stderr"),
        (path(bare_names=True), "claude", "claude"),
        (path(bare_names=True), "./claude", "/etc/agent/claude"),
        (path_list(""), "~/a, b", ["/home/ada/a", "b"]),
        (boolean(), "~", "~"),
    ],
)
def test_paths_are_completed_where_they_are_given(form: Form, value: object, completed: object) -> None:
    assert form.complete(value, HOME) == completed


@pytest.mark.parametrize("value", ["~bob/x", "~/x", "x"])
def test_paths_that_cannot_be_completed_are_refused(value: str) -> None:
    with pytest.raises(RefusedError):
        path().complete(value, Place(home=None, base=None))


def test_every_setting_has_help_a_form_and_a_variable_of_its_own() -> None:
    assert all(leaf.help.endswith(".") for leaf in LEAVES.values())
    assert len({leaf.variable for leaf in LEAVES.values()}) == len(LEAVES)
    assert {"server", "server.tls", "storage"} <= SECTIONS
    assert SECTIONS.isdisjoint(LEAVES)


def test_every_default_is_acceptable_and_prints_as_something_that_reads_back() -> None:
    for leaf in LEAVES.values():
        default = leaf.default
        assert leaf.form.parse(default) == default, leaf.key
        assert leaf.form.parse(leaf.show(default)) == default, leaf.key


def test_sections_are_frozen_and_closed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.port = 1
    with pytest.raises(ValidationError):
        ServerSettings(prot=1)  # type: ignore[call-arg]  # that is what is refused
    with pytest.raises(ValidationError):
        ServerSettings(port=70_000)
    assert isinstance(settings.claude.environment, MappingProxyType)


def test_sections_take_units_when_they_are_built_in_code() -> None:
    assert TimeoutSettings.model_validate({"idle": "5m"}).idle == 300.0


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=lambda leaf: leaf.key)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_no_value_raises_anything_but_a_refusal(leaf: Leaf, value: object) -> None:
    try:
        parsed = leaf.form.parse(value)
    except RefusedError as error:
        assert str(error)
        return
    assert leaf.form.parse(parsed) == parsed


@UNHURRIED
@given(st.text() | st.lists(st.text()))
def test_quoted_values_are_printable_and_bounded(value: object) -> None:
    assert quote(value).isprintable()
    assert len(quote(value)) <= 80
