"""pocket_agent.settings.load: the sources together, and the default directories."""

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, Settings, load_settings
from pocket_agent.settings.load import MASK, default_file, working_dir
from pocket_agent.settings.sections import SECTION_KEYS, SETTINGS, default_data_dir, home_dir

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
    assert loaded.sources.keys() == SETTINGS.keys()
    assert loaded.settings.data.dir == Path("/home/ada/.local/share/pocket-agent")
    defaults = Settings()
    for key, setting in SETTINGS.items():
        if key != "data.dir":
            assert setting.value(loaded.settings) == setting.value(defaults)


def test_a_source_of_higher_precedence_wins_and_is_named(tmp_path: Path) -> None:
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


def test_flags_are_named_as_they_are_typed() -> None:
    cases: list[tuple[str, object, str]] = [
        ("server.host", "::1", "flag --host"),
        ("server.auth", False, "flag --no-auth"),
        ("server.tls.enabled", False, "flag --no-tls"),
        ("data.dir", Path("/d"), "flag --data-dir"),
        ("metrics.port", 0, "flag --metrics-port"),
        ("claude.binary", Path("/c"), "flag --claude"),
        ("logging.level", "debug", "flag --log-level"),
        ("demo", True, "flag --demo"),
        ("storage.max_age", 86_400.0, "flag --storage-max-age"),
    ]
    wrong = []
    for key, value, source in cases:
        loaded = load(flags={key: value})
        if SETTINGS[key].value(loaded.settings) != value or loaded.sources[key] != source:
            wrong.append((key, loaded.sources[key]))
    assert wrong == []


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


def test_a_pipe_has_settings_once() -> None:
    """`--config <(...)` gives the settings to the start, and nothing to a reload, which must not take the defaults."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"server: {port: 4}\n")
        os.close(writing)
        source = {"PA_CONFIG": f"/dev/fd/{reading}"}
        assert load_settings(config=None, environ=source, flags={}).settings.server.port == 4
        (problem,) = refusal(environ=source)
        assert "no program writes" in problem
    finally:
        os.close(reading)


def test_paths_start_where_their_source_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    text = "data: {dir: data}\nlogging: {output: ~/agent.log}\n"
    loaded = load(text, {"PA_CLAUDE_BINARY": "bin/claude"}, folder=tmp_path)
    assert loaded.settings.data.dir == tmp_path / "data"
    assert loaded.settings.logging.output == Path("/home/ada/agent.log")
    assert loaded.settings.claude.binary == Path("/bin/claude")
    monkeypatch.chdir(tmp_path)
    relative = load_settings(config=Path("config.yaml"), environ=HOME, flags={})
    assert relative.settings.data.dir == tmp_path / "data"


def test_every_problem_of_every_source_is_listed(tmp_path: Path) -> None:
    text = "server:\n  port: high\n  prot: 1\ntimeouts:\n  idle: 5:30\n  pong_timeout: 0\n"
    text += "limits: {message_size: 1GiB}\n"
    environ = {"PA_LIMITS_MAX_PROJECTS": "-1", "PA_SEVER_PORT": "1", "PA_STORAGE_MAX_SIZE": "1G"}
    name = f"{tmp_path}/config.yaml"
    lines = refusal(text, environ, {"server.host": "", "servr.host": "x"}, folder=tmp_path)
    assert [line.split(": ")[0] for line in lines] == [
        f"server.port ({name}:2)",
        f"server.prot ({name}:3)",
        f"timeouts.idle ({name}:5)",
        f"timeouts.pong_timeout ({name}:6)",
        f"limits.message_size ({name}:7)",
        "limits.max_projects (environment PA_LIMITS_MAX_PROJECTS)",
        "storage.max_size (environment PA_STORAGE_MAX_SIZE)",
        "PA_SEVER_PORT (environment)",
        "server.host (flag --host)",
        "servr.host (flag)",
    ]
    assert lines[0].endswith("'high' is not a whole number from 0 to 65535 (0: any free port)")
    assert "such as 500ms, 30s, 5m, 1h or 2d" in lines[2]
    assert lines[9].endswith("did you mean server.host?")


def test_a_value_must_be_valid_even_where_it_is_overridden(tmp_path: Path) -> None:
    assert len(refusal("server: {port: high}", {"PA_SERVER_PORT": "9000"}, folder=tmp_path)) == 1


def test_conflicts_name_their_settings_values_and_sources() -> None:
    assert refusal(environ={"PA_SERVER_HOST": "0.0.0.0"}, flags={"server.auth": False}) == [
        (
            "server.auth and server.host (flag --no-auth, environment PA_SERVER_HOST): connections without "
            "a token: only with a loopback host (127.0.0.1, ::1 or localhost); else keep tokens on and add devices "
            "with `pocket-agent pair` (server.auth is false, server.host is 0.0.0.0)"
        )
    ]


def test_conflicts_that_may_come_from_a_refused_value_are_not_reported() -> None:
    (line,) = refusal(environ={"PA_SERVER_HOST": "bad host"}, flags={"server.auth": False})
    assert line.startswith("server.host (environment PA_SERVER_HOST)")


def test_relative_roots_are_refused() -> None:
    (line,) = refusal(environ={"PA_PROJECTS_ALLOWED_ROOTS": "/a,work"})
    assert line.endswith("'/a,work' is not a list of absolute paths: item 2, 'work': a relative path")


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
    shown = {item.setting.key: item.shown for item in loaded}["claude.environment"]
    assert shown == dict.fromkeys(secrets, MASK) | {"EDITOR": "vi"}
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in repr(list(loaded))


def test_iteration_has_every_setting_in_order() -> None:
    loaded = load(flags={"timeouts.execution": "0"})
    assert [item.setting.key for item in loaded] == list(SETTINGS)
    shown = {item.setting.key: item.shown for item in loaded}
    assert shown["timeouts.execution"] == "0s"
    assert shown["limits.message_size"] == "1MiB"
    assert shown["server.plain_port"] == 8080


# --- default directories


def test_the_data_directory_of_users_and_services() -> None:
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 1000, "/home/ada/.local/share/pocket-agent"),
        ({}, 0, "/home/ada/.local/share/pocket-agent"),
        ({"INVOCATION_ID": "1"}, 0, "/var/lib/pocket-agent"),
        ({"INVOCATION_ID": "1"}, 1000, "/home/ada/.local/share/pocket-agent"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 1000, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a", "INVOCATION_ID": "1"}, 0, "/var/lib/a"),
        ({"STATE_DIRECTORY": ""}, 1000, "/home/ada/.local/share/pocket-agent"),
    ]
    found = [str(default_data_dir({"HOME": "/home/ada"} | environ, uid)) for environ, uid, _ in cases]
    assert found == [expected for _, _, expected in cases]


def test_without_a_home_variable_the_user_database_is_read() -> None:
    assert home_dir({}) == Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_without_any_home_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert home_dir({}) is None
    with pytest.raises(ConfigurationError, match="HOME"):
        default_data_dir({}, 1000)


def test_the_usual_file_is_read_if_it_exists(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    usual = tmp_path / ".config" / "pocket-agent" / "config.yaml"
    assert default_file(environ) is None
    usual.parent.mkdir(parents=True)
    assert default_file(environ) is None
    usual.write_text("")
    assert default_file(environ) == usual
    assert default_file({}) is None
    assert default_file({"HOME": "a\0b"}) is not None


def test_a_file_that_cannot_be_checked_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    assert default_file({"HOME": str(tmp_path)}) is not None


def test_the_current_directory_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert working_dir() == gone
    gone.rmdir()
    assert working_dir() is None


# --- generated input

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
names = st.sampled_from([*{key.split(".")[-1] for key in SETTINGS}, *SECTION_KEYS]) | st.text(max_size=5)
lines = st.tuples(st.sampled_from(["", "  ", "    ", "- "]), names, values).map(
    lambda part: f"{part[0]}{part[1]}: {part[2]}"
)
settings_lines = st.tuples(st.sampled_from(list(SETTINGS)), values).map(lambda part: nested(*part))


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
        st.sampled_from([setting.variable for setting in SETTINGS.values()])
        | st.text().map("PA_".__add__)
        | st.just("HOME"),
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
    code = "import sys, pocket_agent.settings; print(*sorted(sys.modules))"
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "pocket_agent.settings.load" in modules
    assert modules.isdisjoint({"asyncio", "aiohttp", "rich", "typer", "pydantic_settings", "sqlite3", "cryptography"})
