"""pocket_agent.settings.load: the YAML file, as dotted keys with their lines."""

from pathlib import Path
from textwrap import dedent

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.settings.load import MAX_FILE_SIZE, RawValue, SettingsProblem, parse_yaml, read_file, read_word

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def values(text: str) -> dict[str, object]:
    """What a text without problems gives."""
    found = parse_yaml(dedent(text), "f")
    assert [item for item in found if isinstance(item, SettingsProblem)] == []
    return {item.key: item.value for item in found if isinstance(item, RawValue)}


def problem(text: str) -> str:
    """The one problem of a text."""
    (found,) = [item for item in parse_yaml(dedent(text), "f") if isinstance(item, SettingsProblem)]
    return str(found)


def test_settings_come_with_their_lines() -> None:
    text = "# first\nserver:\n  port: 9000\n  tls:\n    enabled: no\n"
    text += "projects:\n  allowed_roots:\n    - /a\n    - /b\ndemo: true\n"
    assert parse_yaml(text, "c.yaml") == [
        RawValue("server.port", 9000, "c.yaml:3"),
        RawValue("server.tls.enabled", "no", "c.yaml:5"),
        RawValue("projects.allowed_roots", ["/a", "/b"], "c.yaml:7"),
        RawValue("demo", True, "c.yaml:10"),
    ]


def test_empty_files_and_sections_set_nothing() -> None:
    for text in ("", "# nothing\n", "---\n", "null\n", "server:\n", "server: {tls: }\n", "\n" * 9):
        assert values(text) == {}


def test_plain_words_mean_what_yaml_1_2_says() -> None:
    cases: list[tuple[str, object]] = [
        ("~", None), ("", None), ("null", None), ("true", True), ("FALSE", False),
        ("yes", "yes"), ("off", "off"),
        ("0", 0), ("-7", -7), ("0123", "0123"), ("0o17", "0o17"), ("0x1f", "0x1f"), ("1_000", "1_000"),
        ("5:30", "5:30"), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.inf", float("-inf")),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"), ("9" * 31, "9" * 31), ("=", "="), ("<<", "<<"),
    ]  # fmt: skip
    found = [(word, read_word(word)) for word, _ in cases]
    assert found == cases
    assert [type(meaning) for _, meaning in found] == [type(meaning) for _, meaning in cases]


def test_not_a_number_is_read_as_one() -> None:
    read = read_word(".nan")
    assert isinstance(read, float)
    assert read != read  # noqa: PLR0124 - NaN is the only value unequal to itself


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


def test_problems_name_the_place_and_the_fix() -> None:
    cases = [
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
        ("server:\n\tport: 1\n", "the file (f:2): invalid YAML"),
        ("a: [1\n", "the file (f:2): invalid YAML"),
        ("a: b\n---\nc: d\n", "the file (f:2): invalid YAML: but found another document"),
        ("server: &a {port: 1}\nmetrics: *a\n", "the file (f:2): invalid YAML: aliases are"),
        ("demo: !!python/object/apply:os.getpid []\n", "the file (f:1): invalid YAML: tags"),
        ("demo: !!bool yes\n", "the file (f:1): invalid YAML: tags are not accepted"),
        ("demo:\n  " + "[" * 100_000, "the file (f:2): invalid YAML: nested too deeply"),
        ("- " * 50_000, "the file (f:1): invalid YAML: nested too deeply"),
        ("demo: true\n# \0\n", "the file (f:2): has a character that YAML does not allow"),
        ('demo: "\\UFFFFFFFF"\n', "the file (f): invalid YAML"),
        ("%YAML 1." + "1" * 5000 + "\n---\n", "the file (f): invalid YAML"),
        ('"a\\u009bb": 1\n', "'a\\x9bb' (f:1): unknown setting"),
    ]  # fmt: skip
    assert [(text[:40], problem(text)) for text, message in cases if not problem(text).startswith(message)] == []


def test_every_problem_is_listed() -> None:
    found = parse_yaml("prot: 1\nserver:\n  hots: x\nlogging: []\n", "f")
    assert [item.source for item in found if isinstance(item, SettingsProblem)] == ["f:1", "f:3", "f:4"]


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    large, bytes_file, marked = tmp_path / "large", tmp_path / "bytes", tmp_path / "marked"
    large.write_text("#" * (MAX_FILE_SIZE + 1))
    bytes_file.write_bytes(b"demo: true\n# \xff\n")
    marked.write_bytes(b"\xef\xbb\xbfdemo: true\n")
    messages = {path: [str(item) for item in read_file(path)] for path in (large, bytes_file, marked)}
    assert messages[large] == [f"the file ({large}): larger than 256 KiB"]
    assert messages[bytes_file] == [f"the file ({bytes_file}:2): not UTF-8"]
    assert read_file(marked) == [RawValue("demo", True, f"{marked}:1")]
    for path in (tmp_path / "missing", tmp_path, Path("a\0b"), Path("/dev/zero")):
        (found,) = read_file(path)
        assert isinstance(found, SettingsProblem)
        assert str(found).isprintable()


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("demo: true\n" + "#" * (MAX_FILE_SIZE - 11))
    assert read_file(path) == [RawValue("demo", True, f"{path}:1")]


@UNHURRIED
@given(
    st.text(alphabet=st.sampled_from("abs:-?[]{},&*!|>'\"%@`#\\ \n\t.0~\x85\ufeff\ud800\0U"), max_size=60) | st.text()
)
def test_no_text_raises(text: str) -> None:
    assert all(str(item).isprintable() for item in parse_yaml(text, "f") if isinstance(item, SettingsProblem))
