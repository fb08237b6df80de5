"""pocket_agent.settings.load: PA_* variables."""

from pathlib import Path

from pocket_agent.settings.load import LEGACY_VARIABLES, SettingsLayer, read_environment
from pocket_agent.settings.sections import SETTINGS
from pocket_agent.settings.types import PathContext

CONTEXT = PathContext(home=Path("/home/ada"), base=Path("/srv"))


def read(**environ: str) -> SettingsLayer:
    return read_environment(environ, CONTEXT)


def test_every_setting_has_a_variable_by_the_rule() -> None:
    variables = {setting.variable: key for key, setting in SETTINGS.items()}
    assert variables["PA_SERVER_PLAIN_PORT"] == "server.plain_port"
    assert variables["PA_SERVER_TLS_ENABLED"] == "server.tls.enabled"
    assert variables["PA_DATA_DIR"] == "data.dir"
    assert variables["PA_DEMO"] == "demo"
    assert variables.keys().isdisjoint(LEGACY_VARIABLES)


def test_variables_are_read() -> None:
    cases: list[tuple[str, str, str, object]] = [
        ("PA_SERVER_PLAIN_PORT", "off", "server.plain_port", None),
        ("PA_SERVER_TLS_ENABLED", "0", "server.tls.enabled", False),
        ("PA_CLAUDE_BINARY", "~/bin/claude", "claude.binary", Path("/home/ada/bin/claude")),
        ("PA_DATA_DIR", "data", "data.dir", Path("/srv/data")),
        ("PA_PROJECTS_ALLOWED_ROOTS", "/a,~/b", "projects.allowed_roots", (Path("/a"), Path("/home/ada/b"))),
        (
            "PA_SERVER_ALLOWED_ORIGINS",
            '["https://a.example"]',
            "server.allowed_origins",
            ("https://a.example",),
        ),
        ("PA_CLAUDE_ENVIRONMENT", "A=1,B=2", "claude.environment", {"A": "1", "B": "2"}),
        ("PA_TLS_CERT", "/c.pem", "server.tls.cert", Path("/c.pem")),
        ("PA_TLS_KEY", "/k.pem", "server.tls.key", Path("/k.pem")),
        ("PA_LOG_LEVEL", "WARN", "logging.level", "warning"),
        ("PA_LOG_FORMAT", "text", "logging.format", "text"),
        ("PA_MAX_CONNECTIONS", "7", "limits.max_connections", 7),
        ("PA_MAX_PROJECTS", "8", "limits.max_projects", 8),
        ("PA_MESSAGE_SIZE_LIMIT", "2MiB", "limits.message_size", 2**21),
        ("PA_EXECUTION_TIMEOUT", "90m", "timeouts.execution", 5400.0),
        ("PA_IDLE_TIMEOUT", "1m", "timeouts.idle", 60.0),
        ("PA_PING_INTERVAL", "5s", "timeouts.ping_interval", 5.0),
        ("PA_PONG_TIMEOUT", "500ms", "timeouts.pong_timeout", 0.5),
    ]
    wrong = []
    for variable, text, key, value in cases:
        layer = read(**{variable: text})
        if layer != SettingsLayer({key: value}, {key: f"environment {variable}"}):
            wrong.append((variable, layer))
    assert wrong == []


def test_empty_variables_count_as_not_set() -> None:
    assert read(PA_SERVER_PORT="", PA_TLS_CERT="", PA_CLAUDE_ENVIRONMENT="") == SettingsLayer()


def test_other_variables_are_ignored() -> None:
    layer = read(
        PATH="/bin",
        pa_server_port="x",
        PAGER="less",
        PA_TOKEN="t",
        PA_URL="u",
        PA_CONFIG="c",
        PA_TEST_X="1",
        PA_BENCH_="2",
    )
    assert layer == SettingsLayer()


def test_unknown_variables_are_refused_without_their_values() -> None:
    cases = [
        ("PA_SERVER_PROT", "did you mean PA_SERVER_PORT?"),
        ("PA_LOGLEVEL", "did you mean PA_LOG_LEVEL?"),
        ("PA_QQQ", "unknown setting"),
        ("PA_ÿÿÿÿ", "unknown setting"),
        ("PA_TOKENS", "?"),
        ("PA_X\x1b[2J", "unknown setting"),
    ]
    for variable, ending in cases:
        layer = read(**{variable: "hunter2"})
        assert layer.values == {}
        (problem,) = layer.problems
        assert str(problem).endswith(ending)
        assert str(problem).isprintable()
        assert "hunter2" not in str(problem)


def test_both_names_may_give_one_value_in_different_units() -> None:
    layer = read(PA_EXECUTION_TIMEOUT="60m", PA_TIMEOUTS_EXECUTION="1h")
    assert layer.problems == []
    assert layer.values == {"timeouts.execution": 3600.0}
    assert layer.sources == {"timeouts.execution": "environment PA_TIMEOUTS_EXECUTION"}


def test_both_names_with_different_values_are_refused() -> None:
    layer = read(PA_EXECUTION_TIMEOUT="60m", PA_TIMEOUTS_EXECUTION="2h")
    assert [str(problem) for problem in layer.problems] == [
        (
            "timeouts.execution (environment PA_TIMEOUTS_EXECUTION and PA_EXECUTION_TIMEOUT): "
            "two names of one setting have different values"
        )
    ]
    assert layer.refused == {"timeouts.execution"}


def test_a_bad_value_under_one_name_is_refused_whatever_the_other_says() -> None:
    layer = read(PA_EXECUTION_TIMEOUT="soon", PA_TIMEOUTS_EXECUTION="1h")
    assert [problem.source for problem in layer.problems] == ["environment PA_EXECUTION_TIMEOUT"]


def test_values_of_variables_for_the_cli_are_never_shown() -> None:
    layer = read(PA_CLAUDE_ENVIRONMENT="hunter2")
    (problem,) = layer.problems
    assert "hunter2" not in str(problem)
    assert "not a mapping of variable names to texts" in str(problem)


def test_undecodable_bytes_are_refused_and_can_be_printed() -> None:
    layer = read(PA_DATA_DIR="/x\udcff")
    (problem,) = layer.problems
    assert str(problem).isprintable()
