"""pocket_agent.config.loader: the sources together."""

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.config import LoadedSettings, Settings, load_settings
from pocket_agent.config.leaf import LEAVES, SECTIONS
from pocket_agent.config.loader import MASK
from pocket_agent.errors import ConfigurationError

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HOME = {"HOME": "/home/ada"}


def load(
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    folder: Path = Path("/nowhere"),
) -> LoadedSettings:
    """Settings out of a file's text, variables and flags."""
    config = None
    if text is not None:
        config = folder / "config.yaml"
        config.write_bytes(text.encode("utf-8", "surrogatepass"))
    return load_settings(config=config, environ=HOME | dict(environ or {}), flags=flags or {})


def refusal(
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    folder: Path = Path("/nowhere"),
) -> list[str]:
    """The problems that the sources have, one a line."""
    with pytest.raises(ConfigurationError) as caught:
        load(text, environ, flags, folder=folder)
    first, *lines = caught.value.message.split("\n")
    assert first == "The settings cannot be used:"
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    assert [f"  {p['setting']} ({p['source']}): {p['message']}" for p in problems] == lines
    return [line.strip() for line in lines]


def test_without_any_source_the_defaults_count() -> None:
    loaded = load()
    assert loaded.file is None
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.sources.keys() == LEAVES.keys()
    assert loaded.settings.data.dir == Path("/home/ada/.local/share/pocket-agent")
    defaults = Settings()
    for key, leaf in LEAVES.items():
        if key != "data.dir":
            assert leaf.value(loaded.settings) == leaf.value(defaults)


def test_a_stronger_source_wins_and_is_named(tmp_path: Path) -> None:
    text = "server:\n  port: 1001\n  host: localhost\nlimits:\n  message_size: 2MiB\n"
    environ = {"PA_SERVER_PORT": "1002", "PA_MESSAGE_SIZE_LIMIT": "3MiB"}
    loaded = load(text, environ, {"server.port": 1003, "logging.level": None}, folder=tmp_path)
    assert loaded.file == tmp_path / "config.yaml"
    assert loaded.settings.server.port == 1003
    assert loaded.settings.server.host == "localhost"
    assert loaded.settings.limits.message_size == 3 * 2**20
    assert {key: source for key, source in loaded.sources.items() if source != "default"} == {
        "server.host": f"{tmp_path}/config.yaml:3",
        "server.port": "flag --port",
        "limits.message_size": "environment PA_MESSAGE_SIZE_LIMIT",
    }


@pytest.mark.parametrize(
    ("key", "value", "source"),
    [
        ("server.host", "::1", "flag --host"),
        ("server.auth", False, "flag --no-auth"),
        ("server.tls.enabled", False, "flag --no-tls"),
        ("data.dir", Path("/d"), "flag --data-dir"),
        ("metrics.port", 0, "flag --metrics-port"),
        ("claude.binary", Path("/c"), "flag --claude"),
        ("logging.level", "debug", "flag --log-level"),
        ("demo", True, "flag --demo"),
        ("storage.max_age", 86_400.0, "flag --storage-max-age"),
    ],
)
def test_flags_are_named_as_they_are_typed(key: str, value: object, source: str) -> None:
    loaded = load(flags={key: value})
    assert LEAVES[key].value(loaded.settings) == value
    assert loaded.sources[key] == source


def test_files_are_found_in_their_order(tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "pocket-agent" / "config.yaml"
    usual.parent.mkdir(parents=True)
    usual.write_text("server: {port: 1}")
    named, given_file = tmp_path / "named.yaml", tmp_path / "given.yaml"
    named.write_text("server: {port: 2}")
    given_file.write_text("server: {port: 3}")
    environ = {"HOME": str(tmp_path)}
    found = [
        load_settings(config=None, environ=environ, flags={}),
        load_settings(config=None, environ=environ | {"PA_CONFIG": ""}, flags={}),
        load_settings(config=None, environ=environ | {"PA_CONFIG": str(named)}, flags={}),
        load_settings(config=given_file, environ=environ | {"PA_CONFIG": str(named)}, flags={}),
    ]
    assert [loaded.settings.server.port for loaded in found] == [1, 1, 2, 3]
    assert [loaded.file for loaded in found] == [usual, usual, named, given_file]


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    assert refusal(environ={"PA_CONFIG": missing}) == [
        f"the file ({missing}): cannot be read: No such file or directory"
    ]


def test_paths_start_where_their_source_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    text = "data: {dir: data}\nlogging: {output: ~/agent.log}\n"
    loaded = load(text, {"PA_CLAUDE_BINARY": "bin/claude"}, folder=tmp_path)
    assert loaded.settings.data.dir == tmp_path / "data"
    assert loaded.settings.logging.output == Path("/home/ada/agent.log")
    assert loaded.settings.claude.binary == Path("/bin/claude")
    monkeypatch.chdir(tmp_path)
    beside = load_settings(config=Path("config.yaml"), environ=HOME, flags={})
    assert beside.settings.data.dir == tmp_path / "data"


def test_every_problem_of_every_source_is_listed(tmp_path: Path) -> None:
    text = "server:\n  port: high\n  prot: 1\ntimeouts:\n  idle: 5:30\n  pong_timeout: 0\n"
    text += "limits: {message_size: 1GiB}\n"
    environ = {"PA_LIMITS_MAX_PROJECTS": "-1", "PA_SEVER_PORT": "1", "PA_STORAGE_MAX_SIZE": "1G"}
    name = f"{tmp_path}/config.yaml"
    lines = refusal(text, environ, {"server.host": "", "servr.host": "x"}, folder=tmp_path)
    assert [line.split(": ")[0] for line in lines] == [
        f"server.prot ({name}:3)",
        f"server.port ({name}:2)",
        f"timeouts.idle ({name}:5)",
        f"timeouts.pong_timeout ({name}:6)",
        f"limits.message_size ({name}:7)",
        "limits.max_projects (environment PA_LIMITS_MAX_PROJECTS)",
        "storage.max_size (environment PA_STORAGE_MAX_SIZE)",
        "PA_SEVER_PORT (environment)",
        "servr.host (flag)",
        "server.host (flag --host)",
    ]
    assert lines[1].endswith(
        "'high': not a whole number; accepted is a whole number from 0 to 65535 (0: any free port)"
    )
    assert "such as 500ms, 30s, 5m, 1h or 2d" in lines[2]
    assert lines[8].endswith("did you mean server.host?")


def test_a_value_must_be_right_even_where_it_does_not_count(tmp_path: Path) -> None:
    assert len(refusal("server: {port: high}", {"PA_SERVER_PORT": "9000"}, folder=tmp_path)) == 1


def test_conflicts_name_their_settings_values_and_sources() -> None:
    assert refusal(environ={"PA_SERVER_HOST": "0.0.0.0"}, flags={"server.auth": False}) == [
        (
            "server.auth and server.host (flag --no-auth, environment PA_SERVER_HOST): connections without "
            "a token: only with a loopback host (127.0.0.1, ::1 or localhost); else keep tokens on and let devices in "
            "by `pocket-agent pair` (server.auth is false, server.host is 0.0.0.0)"
        )
    ]


def test_conflicts_that_may_come_from_a_refused_value_are_not_told() -> None:
    (line,) = refusal(environ={"PA_SERVER_HOST": "bad host"}, flags={"server.auth": False})
    assert line.startswith("server.host (environment PA_SERVER_HOST)")


def test_relative_roots_are_refused() -> None:
    (line,) = refusal(environ={"PA_PROJECTS_ALLOWED_ROOTS": "/a,work"})
    assert "item 2, 'work': a relative path" in line


def test_thousands_of_problems_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    text = "\n".join(f"k{number}: 1" for number in range(150))
    with pytest.raises(ConfigurationError) as caught:
        load(text, folder=tmp_path)
    assert caught.value.message.endswith("\n  and 50 more")


def test_without_a_home_the_data_directory_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(ConfigurationError, match=r"data\.dir \(default\): there is no home directory"):
        load_settings(config=None, environ={}, flags={})
    loaded = load_settings(config=None, environ={"PA_DATA_DIR": "/d"}, flags={})
    assert loaded.settings.data.dir == Path("/d")


@pytest.mark.parametrize("home", ["/a\nb", "/\udcff"])
def test_a_home_that_cannot_be_used_is_a_problem(home: str) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.dir \(default\)"):
        load_settings(config=None, environ={"HOME": home}, flags={})


def test_a_service_keeps_its_data_where_systemd_says() -> None:
    loaded = load(environ={"STATE_DIRECTORY": "/var/lib/agent"})
    assert loaded.settings.data.dir == Path("/var/lib/agent")
    assert loaded.sources["data.dir"] == "default"


def test_secrets_are_masked_in_print_and_kept_in_the_settings() -> None:
    secrets = {
        "ANTHROPIC_API_KEY": "hunter2",
        "github_token": "hunter2",
        "DB_PASSWORD": "hunter2",
        "X_SECRET_Y": "hunter2",
        "PROXY": "http://ada:hunter2@proxy:1",
    }
    variables = secrets | {"EDITOR": "vi"}
    loaded = load(flags={"claude.environment": variables})
    assert loaded.settings.claude.environment == variables
    shown = {item.leaf.key: item.shown for item in loaded}["claude.environment"]
    assert shown == dict.fromkeys(secrets, MASK) | {"EDITOR": "vi"}
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in repr(list(loaded))


def test_iteration_has_every_setting_in_order() -> None:
    loaded = load(flags={"timeouts.execution": "0"})
    assert [item.leaf.key for item in loaded] == list(LEAVES)
    shown = {item.leaf.key: item.shown for item in loaded}
    assert shown["timeouts.execution"] == "0s"
    assert shown["limits.message_size"] == "1MiB"
    assert shown["server.plain_port"] == 8080


values = st.recursive(
    st.sampled_from(
        ["null", "true", "off", "5m", "1MiB", "-1", ".nan", "~", "~bob", "/x", "[]", "{}", "0123", "'", '"a"']
    )
    | st.text(max_size=10).map(ascii)
    | st.integers().map(str)
    | st.floats().map(str),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"A{n}: {v}" for n, v in enumerate(items)) + "}"
        )
    ),
    max_leaves=4,
)
names = st.sampled_from([*{key.split(".")[-1] for key in LEAVES}, *SECTIONS]) | st.text(max_size=5)
lines = st.tuples(st.sampled_from(["", "  ", "    ", "- "]), names, values).map(
    lambda part: f"{part[0]}{part[1]}: {part[2]}"
)
settings_lines = st.tuples(st.sampled_from(list(LEAVES)), values).map(lambda part: nested(*part))


def nested(key: str, value: str) -> str:
    """One setting as a YAML file."""
    parts = key.split(".")
    return "\n".join("  " * depth + part + ":" for depth, part in enumerate(parts)) + " " + value


@UNHURRIED
@given(st.text() | st.lists(lines, max_size=8).map("\n".join) | settings_lines)
def test_no_file_raises_anything_but_a_configuration_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        loaded = load(text, folder=folder)
    except ConfigurationError as error:
        assert all(line.isprintable() for line in error.message.split("\n"))
        return
    assert all(item.source for item in loaded)


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from([leaf.variable for leaf in LEAVES.values()]) | st.text().map("PA_".__add__) | st.just("HOME"),
        st.text() | st.sampled_from(["1", "off", "5m", "/x", "~", "~bob/x", "[]", "{}", '["a"]', '{"A": 1}', "A=1"]),
        max_size=4,
    ).map(lambda environ: {name: text for name, text in environ.items() if name != "PA_CONFIG"})
)
def test_no_environment_raises_anything_but_a_configuration_error(environ: dict[str, str]) -> None:
    try:
        loaded = load(environ=environ)
    except ConfigurationError as error:
        assert all(line.isprintable() for line in error.message.split("\n"))
        return
    assert loaded.settings.data.dir.is_absolute()


def test_the_settings_do_not_pull_in_what_a_quick_command_does_not_need() -> None:
    code = "import sys, pocket_agent.config; print(*sorted(sys.modules))"
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "pocket_agent.config.loader" in modules
    assert modules.isdisjoint({"asyncio", "aiohttp", "rich", "typer", "pydantic_settings", "sqlite3", "cryptography"})
