"""Settings to the CLI's arguments and environment.

The flags are those of `claude --help` (2.1.330). Every value that a client chose is written as
`--flag=value`, so that the CLI never reads it as a flag: the real CLI takes
`--model=--dangerously-skip-permissions` as a (strange) model name. Flags with several values are
repeated, one `--flag=value` for each.
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
    *("-p", "--verbose", "--input-format=stream-json", "--output-format=stream-json"),
    *("--include-partial-messages", "--permission-prompt-tool=stdio"),
)

_SESSION_MARKERS: Final = frozenset(
    (
        *("AI_AGENT", "CLAUDECODE", "CLAUDE_PID", "CLAUDE_EFFORT"),
        *("CLAUDE_CODE_CHILD_NOTES_DIR", "CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT"),
        *("CLAUDE_CODE_EXECPATH", "CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_MESSAGING_TOKEN"),
        *("CLAUDE_CODE_PARENT_SESSION_ID", "CLAUDE_CODE_SESSION_ATTENDED", "CLAUDE_CODE_SESSION_ID"),
        "CLAUDE_CODE_SSE_PORT",
    )
)
"""Variables that the CLI (2.1.330) sets for the programs that it runs, and its IDE extensions for it.

They mark a session nested inside another one: a server that was itself started within a session would pass them on,
and its agents would report to that session. All other CLAUDE_* and ANTHROPIC_* variables choose the user's account,
provider and preferences (for example CLAUDE_CONFIG_DIR, CLAUDE_CODE_USE_BEDROCK, CLAUDE_CODE_OAUTH_TOKEN) and stay.
"""

_SERVER_PREFIX: Final = "PA_"

_KEPT_SETTINGS: Final = (
    '{"hooks":{"ConfigChange":[{"matcher":"project_settings|local_settings|skills",'
    '"hooks":[{"type":"command","command":"exit 2"}]}]}}'
)
"""Settings that make a process keep the settings that it was started with.

Without them the CLI (2.1.332) loads hooks, rules, skills and commands of the project as soon as their files change,
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
    setting_sources: Sequence[str] = SETTING_SOURCES,
) -> list[str]:
    """The command line of a CLI process that reads and writes stream-json.

    Args:
        binary: the program.
        options: chosen by the client.
        resume: the session to continue; None for a new one.
        fork: continue it as a new session, leaving the old one as it is.
        setting_sources: where the CLI reads its own settings.

    Raises:
        ValidationError: a value contains a NUL.
    """
    argv = [binary, *_STREAMING]
    for flag, value in _values(options, resume):
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
    return argv


def split_secrets(options: ExecuteOptions) -> tuple[ExecuteOptions, dict[str, str]]:
    """Move values that may hold secrets out of the options, since every user of the machine can read an argument list.

    Returns:
        The options without them, and the values by the flags that take the path of a file instead.
    """
    files = {}
    if options.append_system_prompt is not None:
        files["--append-system-prompt-file"] = options.append_system_prompt
        options = msgspec.structs.replace(options, append_system_prompt=None)
    if options.mcp_config is not None and options.mcp_config.lstrip().startswith("{"):
        files["--mcp-config"] = options.mcp_config
        options = msgspec.structs.replace(options, mcp_config=None)
    return options, files


def _values(options: ExecuteOptions, resume: str | None) -> Iterator[tuple[str, str]]:
    single = {
        "resume": resume,
        "model": options.model,
        "fallback-model": options.fallback_model,
        "permission-mode": options.permission_mode,
        "append-system-prompt": options.append_system_prompt,
        "mcp-config": options.mcp_config,
    }
    yield from ((flag, value) for flag, value in single.items() if value is not None)
    repeated = {
        "allowed-tools": options.allowed_tools,
        "disallowed-tools": options.disallowed_tools,
        "add-dir": options.add_dirs,
    }
    yield from ((flag, value) for flag, values in repeated.items() for value in values)


def process_options(
    options: ExecuteOptions,
    telemetry: str = "",
    setting_sources: Sequence[str] = SETTING_SOURCES,
    confinement: str = "off",
) -> bytes:
    """Canonical JSON of all that needs a new process to change: options, telemetry by its mark, sources, confinement.

    Control requests change the model and the permission mode in place, so these do not count; except that a process
    switches to `bypassPermissions` only if it was started with it (observed: error `bypass_not_launched`). The order
    of lists does not count.
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
    more: dict[str, object] = {"telemetry": telemetry} if telemetry else {}
    if set(setting_sources) != set(SETTING_SOURCES):
        more["setting_sources"] = sorted(set(setting_sources))
    if confinement != "off":
        more["confinement"] = confinement
    return msgspec.json.encode({"options": msgspec.Raw(encoded), **more}) if more else encoded


def select_environment(environment: Mapping[str, str], inherit: Sequence[str]) -> dict[str, str]:
    """The server's variables that the CLI may have; `inherit` has names, or beginnings of names followed by `*`."""
    return {
        name: value
        for name, value in environment.items()
        if any(name.startswith(known[:-1]) if known.endswith("*") else name == known for known in inherit)
    }


def build_environment(inherited: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The inherited environment without the marks of a surrounding CLI session and this server's settings (`PA_*`).

    The settings may hold secrets. `extra` overrides inherited variables.
    """
    own = {*_SESSION_MARKERS, PROCESS_MARKER}
    kept = {name: value for name, value in inherited.items() if name not in own and not name.startswith(_SERVER_PREFIX)}
    return {**kept, **extra}
