"""Settings to the CLI's arguments and environment.

The flags are those of `claude --help` (2.1.330). Every value that a client chose is written as
`--flag=value`, so that it can never be read as a flag of its own; tried with the real CLI, for
example `--model=--dangerously-skip-permissions` is taken as a (strange) model name. Flags that take
several values are repeated, one `--flag=value` for each.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pocket_agent.errors import ValidationError
from pocket_agent.model import ExecuteOptions
from pocket_agent.settings import SETTING_SOURCES

PROCESS_MARKER: Final = "POCKET_AGENT_PROCESS"
"""An environment variable that all descendants of a CLI process inherit, so that they can be found."""

_STREAMING: Final = (
    "-p",
    "--verbose",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
)

_SESSION_MARKERS: Final = frozenset({"AI_AGENT", "CLAUDECODE", "CLAUDE_PID", "CLAUDE_EFFORT"})
_CODE_MARKERS: Final = frozenset(
    "CLAUDE_CODE_" + name
    for name in (
        "CHILD_NOTES_DIR",
        "CHILD_SESSION",
        "ENTRYPOINT",
        "EXECPATH",
        "MESSAGING_SOCKET",
        "MESSAGING_TOKEN",
        "PARENT_SESSION_ID",
        "SESSION_ATTENDED",
        "SESSION_ID",
        "SSE_PORT",
    )
)
"""What the CLI (2.1.330) sets for the programs that it runs, and its IDE extensions for it.

They mark a session nested inside another one: a server that was itself started from within a
session would hand them on, and its agents would report to a session that is not theirs. All other
CLAUDE_* and ANTHROPIC_* variables choose the user's account, provider and preferences (for example
CLAUDE_CONFIG_DIR, CLAUDE_CODE_USE_BEDROCK, CLAUDE_CODE_OAUTH_TOKEN) and stay.
"""

_SERVER_PREFIX: Final = "PA_"

_KEPT_SETTINGS: Final = msgspec.json.encode(
    {
        "hooks": {
            "ConfigChange": [
                {
                    "matcher": "project_settings|local_settings|skills",
                    "hooks": [{"type": "command", "command": "exit 2"}],
                }
            ]
        }
    }
).decode()
"""Settings that let a process keep to those that it was started with.

Without them the CLI (2.1.332) takes up hooks, rules, skills and commands of the project as soon as their files change,
also while it waits for a prompt; a hook of the event ConfigChange that exits with status 2 refuses that
(https://code.claude.com/docs/en/hooks, observed in tests/e2e/test_trust.py).
"""

_BYPASS: Final = "bypassPermissions"


def build_argv(
    binary: str,
    options: ExecuteOptions,
    *,
    resume: str | None,
    fork: bool = False,
    replay: bool = False,
    session_id: str | None = None,
    setting_sources: Sequence[str] = SETTING_SOURCES,
) -> list[str]:
    """The command line of a CLI process that takes and gives stream-json.

    Args:
        binary: the program.
        options: what the client chose.
        resume: the session to continue; None for a new one.
        fork: continue it as a new session, leaving the old one as it is.
        replay: let the CLI echo each prompt that it takes.
        session_id: the id (a UUID) of the new session; None lets the CLI choose.
        setting_sources: where the CLI reads its own settings.

    Raises:
        ValidationError: a value cannot be passed to a program (it contains a NUL).
    """
    argv = [binary, *_STREAMING]
    for flag, value in _values(options, resume=resume, session_id=session_id):
        if "\0" in value:
            raise ValidationError(f"The value of {flag} contains a NUL character.")
        argv.append(f"--{flag}={value}")
    if set(setting_sources) != set(SETTING_SOURCES):
        argv.append(f"--setting-sources={','.join(setting_sources)}")
    argv.append(f"--settings={_KEPT_SETTINGS}")
    if options.strict_mcp_config:
        argv.append("--strict-mcp-config")
    if options.dangerously_skip_permissions:
        argv.append("--dangerously-skip-permissions")
    if resume is not None and fork:
        argv.append("--fork-session")
    if replay:
        argv.append("--replay-user-messages")
    return argv


def split_secrets(options: ExecuteOptions) -> tuple[ExecuteOptions, dict[str, str]]:
    """What may hold secrets, by the options that take the path of a file instead, and the options without it.

    Every user of the machine can read an argument list.
    """
    files = {}
    if options.append_system_prompt is not None:
        files["--append-system-prompt-file"] = options.append_system_prompt
        options = msgspec.structs.replace(options, append_system_prompt=None)
    if options.mcp_config is not None and options.mcp_config.lstrip().startswith("{"):
        files["--mcp-config"] = options.mcp_config
        options = msgspec.structs.replace(options, mcp_config=None)
    return options, files


def _values(options: ExecuteOptions, *, resume: str | None, session_id: str | None) -> Iterator[tuple[str, str]]:
    single = (
        ("resume", resume),
        ("session-id", session_id),
        ("model", options.model),
        ("fallback-model", options.fallback_model),
        ("permission-mode", options.permission_mode),
        ("append-system-prompt", options.append_system_prompt),
        ("mcp-config", options.mcp_config),
    )
    for flag, value in single:
        if value is not None:
            yield flag, value
    repeated = (
        ("allowed-tools", options.allowed_tools),
        ("disallowed-tools", options.disallowed_tools),
        ("add-dir", options.add_dirs),
    )
    for flag, values in repeated:
        for value in values:
            yield flag, value


def process_options(
    options: ExecuteOptions,
    telemetry: str = "",
    setting_sources: Sequence[str] = SETTING_SOURCES,
    confinement: str = "off",
) -> bytes:
    """Canonical JSON of what needs a new process when it changes: options, telemetry by its mark, sources, confinement.

    The model and the permission mode are not among them, since control requests change them in
    place; except that a process must have been started with leave to bypass permissions before it
    can be told to (observed: error `bypass_not_launched`). The order of lists makes no difference.
    """
    bypass = options.dangerously_skip_permissions or options.permission_mode == _BYPASS
    canonical = msgspec.structs.replace(
        options,
        model=None,
        permission_mode=_BYPASS if bypass else None,
        allowed_tools=tuple(sorted(set(options.allowed_tools))),
        disallowed_tools=tuple(sorted(set(options.disallowed_tools))),
        add_dirs=tuple(sorted(set(options.add_dirs))),
    )
    encoded = msgspec.json.encode(canonical, order="sorted")
    beside: dict[str, object] = {"telemetry": telemetry} if telemetry else {}
    if set(setting_sources) != set(SETTING_SOURCES):
        beside["setting_sources"] = sorted(set(setting_sources))
    if confinement != "off":
        beside["confinement"] = confinement
    return msgspec.json.encode({"options": msgspec.Raw(encoded), **beside}) if beside else encoded


def select_environment(environment: Mapping[str, str], inherit: Sequence[str]) -> dict[str, str]:
    """Those of the server's own variables that the CLI may have.

    Args:
        environment: the server's.
        inherit: names, or beginnings of names with a `*` behind them.
    """
    return {
        name: value
        for name, value in environment.items()
        if any(name.startswith(known[:-1]) if known.endswith("*") else name == known for known in inherit)
    }


def build_environment(inherited: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of the CLI: the user's own, without what is not the CLI's business.

    Left out are the marks of a surrounding CLI session and this server's settings (`PA_*`), which
    may hold secrets. `extra` is added last and wins.
    """
    environment = {
        name: value
        for name, value in inherited.items()
        if name not in _SESSION_MARKERS
        and name not in _CODE_MARKERS
        and name != PROCESS_MARKER
        and not name.startswith(_SERVER_PREFIX)
    }
    environment.update(extra)
    return environment
