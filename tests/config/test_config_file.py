"""pocket_agent.config.file: YAML text to dotted keys with their lines."""

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.config.file import MAX_FILE_SIZE, parse_text, read_file, read_word

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def values(text: str) -> dict[str, object]:
    """What a text without problems gives."""
    given_settings, problems = parse_text(dedent(text), "f")
    assert problems == []
    return {item.key: item.value for item in given_settings}


def problem(text: str) -> str:
    """The one problem of a text."""
    _, problems = parse_text(dedent(text), "f")
    assert len(problems) == 1
    return str(problems[0])


def test_settings_come_with_their_lines() -> None:
    text = "# first\nserver:\n  port: 9000\n  tls:\n    enabled: no\n"
    text += "projects:\n  allowed_roots:\n    - /a\n    - /b\ndemo: true\n"
    given_settings, problems = parse_text(text, "c.yaml")
    assert problems == []
    assert [(item.key, item.value, item.source) for item in given_settings] == [
        ("server.port", 9000, "c.yaml:3"),
        ("server.tls.enabled", "no", "c.yaml:5"),
        ("projects.allowed_roots", ["/a", "/b"], "c.yaml:7"),
        ("demo", True, "c.yaml:10"),
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "server:\n", "server: {tls: }\n", "\n" * 9])
def test_empty_files_and_sections_say_nothing(text: str) -> None:
    assert values(text) == {}


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("~", None), ("", None), ("null", None), ("true", True), ("FALSE", False),
        ("yes", "yes"), ("off", "off"),
        ("0", 0), ("-7", -7), ("0123", "0123"), ("0o17", "0o17"), ("0x1f", "0x1f"), ("1_000", "1_000"),
        ("5:30", "5:30"), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.inf", float("-inf")),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"), ("9" * 31, "9" * 31), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(word: str, meaning: object) -> None:
    read = read_word(word)
    assert read == meaning
    assert type(read) is type(meaning)


def test_not_a_number_is_read_as_one() -> None:
    read = read_word(".nan")
    assert isinstance(read, float)
    assert read != read  # noqa: PLR0124 - that is how one tells


def test_quoted_words_are_texts_and_variables_keep_their_spelling() -> None:
    assert values("""\
        server: {host: "off"}
        logging: {fields: {build: 12, canary: true, name: '12'}}
        claude: {environment: {A: 1.10, B: yes, C: 0123, D: "null", E: true}}
    """) == {
        "server.host": "off",
        "logging.fields": {"build": 12, "canary": True, "name": "12"},
        "claude.environment": {"A": "1.10", "B": "yes", "C": "0123", "D": "null", "E": "true"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server:\n  prot: 1\n", "server.prot (f:2): unknown setting; did you mean port?"),
        ("a:\n  b: 1\n", "a (f:1): unknown setting; known here: alerts, audit, claude, data, demo,"),
        ("\nport: 1\n", "port (f:2): unknown setting; did you mean server.port or metrics.port?"),
        ("tls: {}\n", "tls (f:1): unknown setting; did you mean server.tls?"),
        ("sever:\n  port: 1\n", "sever (f:1): unknown setting; did you mean server?"),
        ("<<: {demo: true}\n", "<< (f:1): unknown setting"),
        ("server.port: 1\n", "server.port (f:1): sections are written as nested mappings"),
        ("server:\n  port: 1\n  host: x\n  port: 2\n", "server.port (f:4): given twice; first on line 2"),
        ("demo: true\nserver: {}\ndemo: true\n", "demo (f:3): given twice; first on line 1"),
        ("claude:\n  environment:\n    A: x\n    A: y\n", "claude.environment.A (f:4): given twice; first"),
        ("- a\n", "the file (f:1): not a mapping of sections"),
        ("5m\n", "the file (f:1): not a mapping of sections"),
        ("server: 5\n", "server (f:1): not a mapping of settings"),
        ("server:\n  tls: off\n", "server.tls (f:2): not a mapping of settings"),
        ("server: ''\n", "server (f:1): not a mapping of settings"),
        ("? [a]\n: b\n", "the file (f:1): a key that is not a word"),
        ("server:\n\tport: 1\n", "the file (f:2): not YAML that can be read"),
        ("a: [1\n", "the file (f:2): not YAML that can be read"),
        ("a: b\n---\nc: d\n", "the file (f:2): not YAML that can be read: but found another document"),
        ("server: &a {port: 1}\nmetrics: *a\n", "the file (f:2): not YAML that can be read: aliases are"),
        ("demo: !!python/object/apply:os.getpid []\n", "the file (f:1): not YAML that can be read: tags"),
        ("demo: !!bool yes\n", "the file (f:1): not YAML that can be read: tags are not accepted"),
        ("demo:\n  " + "[" * 100_000, "the file (f:2): not YAML that can be read: nested too deeply"),
        ("- " * 50_000, "the file (f:1): not YAML that can be read: nested too deeply"),
        ("demo: true\n# \0\n", "the file (f:2): has a character that YAML does not allow"),
        ('demo: "\\UFFFFFFFF"\n', "the file (f): not YAML that can be read"),
        ("%YAML 1." + "1" * 5000 + "\n---\n", "the file (f): not YAML that can be read"),
        ('"a\\u009bb": 1\n', "'a\\x9bb' (f:1): unknown setting"),
    ],
)  # fmt: skip
def test_problems_name_the_place_and_the_way_out(text: str, message: str) -> None:
    assert problem(text).startswith(message)


def test_every_problem_is_listed() -> None:
    _, problems = parse_text("prot: 1\nserver:\n  hots: x\nlogging: []\n", "f")
    assert [item.source for item in problems] == ["f:1", "f:3", "f:4"]


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    large, bytes_file, marked = tmp_path / "large", tmp_path / "bytes", tmp_path / "marked"
    large.write_text("#" * (MAX_FILE_SIZE + 1))
    bytes_file.write_bytes(b"demo: true\n# \xff\n")
    marked.write_bytes(b"\xef\xbb\xbfdemo: true\n")
    messages = {path: [str(item) for item in read_file(path)[1]] for path in (large, bytes_file, marked)}
    assert messages[large] == [f"the file ({large}): larger than 256 KiB"]
    assert messages[bytes_file] == [f"the file ({bytes_file}:2): not UTF-8"]
    assert messages[marked] == []
    for path in (tmp_path / "missing", tmp_path, Path("a\0b"), Path("/dev/zero")):
        given_settings, problems = read_file(path)
        assert given_settings == []
        assert len(problems) == 1
        assert str(problems[0]).isprintable()


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("demo: true\n" + "#" * (MAX_FILE_SIZE - 11))
    assert [item.key for item in read_file(path)[0]] == ["demo"]


@UNHURRIED
@given(
    st.text(alphabet=st.sampled_from("abs:-?[]{},&*!|>'\"%@`#\\ \n\t.0~\x85\ufeff\ud800\0U"), max_size=60) | st.text()
)
def test_no_text_raises(text: str) -> None:
    given_settings, problems = parse_text(text, "f")
    assert isinstance(given_settings, list)
    assert all(str(item).isprintable() for item in problems)
