"""Values stay values, whatever is in them, and the CLI gets the environment that it should."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.command_line import PROCESS_MARKER, build_argv, build_environment, process_options
from pocket_agent.errors import ValidationError
from pocket_agent.model import ExecuteOptions

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    ["--dangerously-skip-permissions", "-p", "--", "", " ", "a b", "=", "--model=x", "\n", "Bash(git *)"]
)
OPTIONS = st.builds(
    ExecuteOptions,
    model=st.none() | WORDS,
    fallback_model=st.none() | WORDS,
    permission_mode=st.none() | WORDS,
    allowed_tools=st.lists(WORDS, max_size=3).map(tuple),
    disallowed_tools=st.lists(WORDS, max_size=3).map(tuple),
    append_system_prompt=st.none() | WORDS,
    mcp_config=st.none() | WORDS,
    strict_mcp_config=st.booleans(),
    add_dirs=st.lists(WORDS, max_size=3).map(tuple),
    dangerously_skip_permissions=st.booleans(),
)
BARE = {
    "-p",
    "--verbose",
    "--include-partial-messages",
    "--strict-mcp-config",
    "--dangerously-skip-permissions",
    "--fork-session",
    "--replay-user-messages",
}


@given(OPTIONS, st.none() | WORDS, st.booleans(), st.booleans())
def test_no_value_becomes_a_flag(options: ExecuteOptions, resume: str | None, fork: bool, replay: bool) -> None:
    argv = build_argv("/bin/claude", options, resume=resume, fork=fork, replay=replay)
    assert argv[0] == "/bin/claude"
    flags: dict[str, list[str]] = {}
    bare = []
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if equals:
            flags.setdefault(name, []).append(value)
        else:
            bare.append(argument)
    assert set(bare) <= BARE
    assert len(bare) == len(set(bare))
    assert ("--dangerously-skip-permissions" in bare) == options.dangerously_skip_permissions
    assert ("--strict-mcp-config" in bare) == options.strict_mcp_config
    assert ("--fork-session" in bare) == (fork and resume is not None)
    assert ("--replay-user-messages" in bare) == replay
    assert flags.pop("--input-format") == flags.pop("--output-format") == ["stream-json"]
    assert flags.pop("--permission-prompt-tool") == ["stdio"]
    (kept,) = flags.pop("--settings")
    assert set(json.loads(kept)) == {"hooks"}
    wanted = {
        "--resume": resume,
        "--model": options.model,
        "--fallback-model": options.fallback_model,
        "--permission-mode": options.permission_mode,
        "--append-system-prompt": options.append_system_prompt,
        "--mcp-config": options.mcp_config,
    }
    several = {
        "--allowed-tools": options.allowed_tools,
        "--disallowed-tools": options.disallowed_tools,
        "--add-dir": options.add_dirs,
    }
    assert flags == {name: [value] for name, value in wanted.items() if value is not None} | {
        name: list(values) for name, values in several.items() if values
    }


def test_the_id_of_a_new_session_can_be_chosen() -> None:
    assert "--session-id=x" in build_argv("claude", ExecuteOptions(), resume=None, session_id="x")


@pytest.mark.parametrize(
    "options",
    [ExecuteOptions(model="a\0b"), ExecuteOptions(add_dirs=("x", "\0")), ExecuteOptions(append_system_prompt="\0")],
)
def test_a_nul_is_refused(options: ExecuteOptions) -> None:
    with pytest.raises(ValidationError, match="NUL"):
        build_argv("claude", options, resume=None)
    with pytest.raises(ValidationError, match="resume"):
        build_argv("claude", ExecuteOptions(), resume="\0")


def test_model_and_mode_change_in_place() -> None:
    assert process_options(ExecuteOptions(model="a", permission_mode="plan")) == process_options(ExecuteOptions())


def test_leave_to_bypass_permissions_needs_a_new_process() -> None:
    plain = process_options(ExecuteOptions())
    assert process_options(ExecuteOptions(permission_mode="bypassPermissions")) != plain
    assert process_options(ExecuteOptions(dangerously_skip_permissions=True)) != plain


def test_other_telemetry_needs_a_new_process() -> None:
    marked = {process_options(ExecuteOptions(), telemetry=mark) for mark in ("", "a", "b")}
    assert len(marked) == 3
    assert process_options(ExecuteOptions(strict_mcp_config=True), telemetry="a") not in marked


def test_only_some_sources_of_settings_are_named_and_need_a_new_process() -> None:
    chosen = [("user", "project", "local"), ("local", "user", "project"), ("user",), ("user", "local"), ()]
    lines = [build_argv("claude", ExecuteOptions(), resume=None, setting_sources=one) for one in chosen]
    told = [[flag for flag in argv if flag.startswith("--setting-sources")] for argv in lines]
    assert told == [[], [], ["--setting-sources=user"], ["--setting-sources=user,local"], ["--setting-sources="]]
    assert len({process_options(ExecuteOptions(), setting_sources=one) for one in chosen}) == 4
    assert process_options(ExecuteOptions(), setting_sources=chosen[0]) == process_options(ExecuteOptions())


def test_the_order_of_lists_makes_no_difference() -> None:
    one = ExecuteOptions(allowed_tools=("A", "B", "A"), disallowed_tools=("C", "D"), add_dirs=("/x", "/y"))
    other = ExecuteOptions(allowed_tools=("B", "A"), disallowed_tools=("D", "C"), add_dirs=("/y", "/x", "/x"))
    assert process_options(one) == process_options(other)


@given(OPTIONS, OPTIONS)
def test_everything_else_makes_a_difference(one: ExecuteOptions, other: ExecuteOptions) -> None:
    def essence(options: ExecuteOptions) -> object:
        return (
            options.fallback_model,
            frozenset(options.allowed_tools),
            frozenset(options.disallowed_tools),
            options.append_system_prompt,
            options.mcp_config,
            options.strict_mcp_config,
            frozenset(options.add_dirs),
            options.dangerously_skip_permissions,
            options.permission_mode == "bypassPermissions",
        )

    if essence(one) == essence(other):
        assert process_options(one) == process_options(other)
    elif essence(one)[:-1] != essence(other)[:-1]:  # type: ignore[index]  # a tuple, told as an object
        assert process_options(one) != process_options(other)


def test_the_environment_is_the_users_without_marks_of_a_session() -> None:
    inherited = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": "k",
        "CLAUDE_CONFIG_DIR": "/c",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_OAUTH_TOKEN": "t",
        "PAGER": "less",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_SSE_PORT": "1",
        "CLAUDE_CODE_SESSION_ID": "s",
        "CLAUDE_CODE_MESSAGING_TOKEN": "secret",
        "AI_AGENT": "x",
        "PA_SERVER_TOKEN": "secret",
        PROCESS_MARKER: "other",
    }
    assert build_environment(inherited, {"PATH": "/usr/bin", "CLAUDECODE": "chosen"}) == {
        "PATH": "/usr/bin",
        "ANTHROPIC_API_KEY": "k",
        "CLAUDE_CONFIG_DIR": "/c",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_OAUTH_TOKEN": "t",
        "PAGER": "less",
        "CLAUDECODE": "chosen",
    }
