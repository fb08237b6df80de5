"""The claims of a directory: programs, servers, rules and variables of its settings, which the CLI uses unasked.

In a terminal the CLI asks first whether a directory is trusted. With `-p` it uses all of them at once.

Which field of a definition counts was observed with version 2.1.332 (tests/e2e/test_hostile_project.py): of a
hook only its `type`, of an entry of `.mcp.json` its `type` or else its `command`; of duplicate keys the last one;
a byte order mark is skipped, comments make a file void; `!` lines of skills and commands run when a user types
their name. All other settings are claims of the kind `unknown`.
"""

import hashlib
import os
import re
import shlex
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from pocket_agent.errors import ValidationError
from pocket_agent.model import Claim, ClaimKind

_MAX_BYTES: Final = 1024 * 1024
_MAX_FILES: Final = 2_000
"""Skills, commands and agents that are read; the number of the others is a claim."""
_HELPERS: Final = ("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "otelHeadersHelper")
"""Settings whose value is a command."""
_COMMANDS: Final = ("statusLine", "subagentStatusLine", "fileSuggestion")
"""Settings whose value is an object with a command."""
_RULES: Final = (
    *("enableAllProjectMcpServers", "enabledMcpjsonServers", "sandbox", "outputStyle", "agent", "autoMode"),
    *("skipDangerousModePermissionPrompt", "skipAutoPermissionPrompt", "allowedHttpHookUrls", "httpHookAllowedEnvVars"),
    *("allowedMcpServers", "claudeMdExcludes", "additionalDirectories", "defaultMode", "disableAllHooks"),
)
_HARMLESS: Final = frozenset(
    (
        *("$schema", "hooks", "env", "permissions", "enabledPlugins", "extraKnownMarketplaces", "mcpServers"),
        *("model", "availableModels", "effortLevel", "alwaysThinkingEnabled", "fastMode", "language", "theme"),
        *("cleanupPeriodDays", "includeCoAuthoredBy", "includeGitInstructions", "attribution", "companyAnnouncements"),
        *("respectGitignore", "showTurnDuration", "spinnerTipsEnabled", "spinnerVerbs", "prefersReducedMotion"),
        *("terminalProgressBarEnabled", "plansDirectory", "autoUpdatesChannel", "feedbackSurveyRate", "viewMode"),
        *("disabledMcpjsonServers", "deniedMcpServers", "disableAutoMode", "teammateMode"),
    )
)
"""Settings that run no program and allow no action, and settings with a reader of their own below."""
_PERMISSIONS: Final = frozenset({"deny", "ask", "allow", "defaultMode", "additionalDirectories"})
_PERMISSIONS_HARMLESS: Final = frozenset({"disableBypassPermissionsMode", "disableAutoMode"})
_POWERFUL: Final = re.compile(
    r"(?:ANTHROPIC_|CLAUDE_|AWS_|GOOGLE_|VERTEX_|CLOUD_ML_|AZURE_|LD_|DYLD_|GIT_|PYTHON|NODE_|NPM_CONFIG_|BUN_|DENO_|"
    r"SSL_CERT|CURL_|REQUESTS_CA|BASH_ENV|BASH_FUNC|ENV$|PATH$|SHELL$|IFS$|PS4$|PROMPT_COMMAND|PERL|RUBY|JAVA_|_JAVA_|"
    r"JDK_JAVA|MAVEN_|GRADLE_|CARGO_|RUSTC|RUSTFLAGS|GO[A-Z]+$|GCC_|CC$|CXX$|LUA_|PHP|PAGER$|LESS|EDITOR$|VISUAL$|MANPAGER"
    r"|BROWSER$|SSH_|GPG_|DOCKER_|KUBECONFIG|HOME$|XDG_|TMPDIR$|MCP_|OTEL_|USE_BUILTIN_RIPGREP|EXTRA_CA|MAKEFLAGS|"
    r"DISABLE_|ENABLE_|TF_|ANSIBLE_|PIP_|UV_)|.*_PROXY$|.*_EDITOR$|.*_PAGER$|.*_ASKPASS$",
    re.IGNORECASE,
)
"""Variables that replace or run a program, or send secrets elsewhere."""
_FRONTMATTER: Final = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_SHELL: Final = re.compile(r"^[ \t]*```!\s*\n(.*?)^[ \t]*```|!`([^`]+)`", re.DOTALL | re.MULTILINE)
_TEXT_ONLY: Final = frozenset(
    (
        *("name", "description", "argument-hint", "arguments", "model", "version", "color", "license", "metadata"),
        *("when_to_use", "disable-model-invocation", "user-invocable", "effort", "disallowedTools", "disallowed-tools"),
        *("hooks", "mcpServers", "context", "agent", "paths", "maxTurns", "memory", "background", "isolation"),
        "skills",
    )
)
"""Fields of the head of a skill, command or agent that run and allow nothing, or have a reader below."""

_RANK: Final = (ClaimKind.PROGRAM, ClaimKind.SERVER, ClaimKind.UNKNOWN, ClaimKind.VARIABLE, ClaimKind.RULE)

_Found = tuple[ClaimKind, str]
_NAMED_FILES: Final = 5


@dataclass(frozen=True, slots=True)
class Inspection:
    """The claims of a directory, compared with the accepted ones.

    Attributes:
        claims: all claims; new or changed ones first, else in the order of `find_claims`.
        digests: one for each claim, in the same order.
        new: the number of new or changed claims.
        hash: identifies this state of the directory: SHA-256, in hexadecimal, independent of the accepted claims.
    """

    claims: tuple[Claim, ...]
    digests: tuple[str, ...]
    new: int
    hash: str

    @property
    def summary(self) -> str:
        """The numbers of new or changed claims by file; one sentence without their contents."""
        files = Counter(claim.file for claim in self.claims[: self.new])
        named = [f"{file} ({count})" for file, count in list(files.items())[:_NAMED_FILES]]
        more = [f"{len(files) - _NAMED_FILES} more files"] if len(files) > _NAMED_FILES else []
        return f"New or changed: {', '.join(named + more)}."


def check_shown(found: Inspection, shown: str) -> None:
    """Raise ValidationError, with the present hash, when the directory is not in the state that the user has seen."""
    if found.hash != shown:
        raise ValidationError(
            "The directory's settings have changed since they were shown; check them again (path_inspect).",
            details={"hash": found.hash},
        )


def inspect(directory: Path, sources: Sequence[str], accepted: frozenset[str] | None) -> Inspection:
    """Compare the claims of a directory (see `find_claims`) with the accepted digests; None accepts all of them."""
    claims = find_claims(directory, sources)
    digests = {claim: claim_digest(claim) for claim in claims}
    new = [claim for claim in claims if accepted is not None and digests[claim] not in accepted]
    ordered = tuple(dict.fromkeys((*new, *claims)))
    state = hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()
    return Inspection(ordered, tuple(digests[claim] for claim in ordered), len(new), state)


def find_claims(directory: Path, sources: Sequence[str]) -> list[Claim]:
    """All claims of a directory, programs first, rules last. Reads the disk.

    Args:
        directory: absolute, symlinks resolved.
        sources: see `claude.setting_sources`; files that none of them reads have no claims.
    """
    claims: list[Claim] = []
    files = [(directory, *found) for found in _files(directory, sources)]
    main = _main_tree(directory)
    if main is not None:
        # Named as in the main working tree, in which the same claims may be accepted already.
        files += [(main.place, *found) for found in _shared_files(main.top, sources)]
    for place, path, read in files:
        file = _line(os.path.relpath(path, place))
        found = [(ClaimKind.UNKNOWN, read)] if isinstance(read, str) else _read(path, read)
        claims += [Claim(file, kind, _line(text)) for kind, text in found]
    return sorted(dict.fromkeys(claims), key=lambda claim: _RANK.index(claim.kind))


def claim_digest(claim: Claim) -> str:
    """Identifies a claim among the accepted ones."""
    return hashlib.sha256(msgspec.json.encode([claim.file, claim.kind, claim.text])).hexdigest()[:32]


def _read(path: Path, read: "_Reader") -> Iterator[_Found]:
    """The claims of one file; a file that cannot be read as the CLI would is one claim."""
    content = b""
    try:
        content = _content(path)
        yield from list(read(content))
    except FileNotFoundError:
        if path.is_symlink():
            yield ClaimKind.UNKNOWN, "It is a link to nothing."
    except NotADirectoryError:
        return
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        digest = f", SHA-256 {hashlib.sha256(content).hexdigest()[:16]}" if content else ""
        yield ClaimKind.UNKNOWN, f"It cannot be read here ({why[:200]}{digest}); what the CLI makes of it is unclear."


def _files(directory: Path, sources: Sequence[str]) -> "Iterator[tuple[Path, _Reader | str]]":
    """The files that the CLI reads in a directory and above it, except settings between the two.

    Each has a function that reads its claims, or a text about files that are not read.
    """
    around = [directory, *directory.parents]
    if "project" in sources:
        yield directory / ".claude/settings.json", _of_settings
    repository = next((folder for folder in around if os.path.lexists(folder / ".git")), None)
    if "local" in sources:
        for folder in dict.fromkeys([directory, repository or directory]):
            yield folder / ".claude/settings.local.json", _of_settings
    if {"project", "local"}.intersection(sources):
        yield from ((folder / ".mcp.json", _of_servers) for folder in around)
    if "project" in sources:
        # Observed: up to the root of the repository, or without one to the top. The home's files are the user's own.
        home = os.path.expanduser("~")  # noqa: PTH111 - without a home it is not an error
        inside = list(takewhile(lambda folder: str(folder) != home, around)) if repository is None else around
        last = len(inside) if repository is None else around.index(repository) + 1
        yield from _of_folders(inside[:last] or [directory])


class _MainTree(NamedTuple):
    """The main working tree of the repository of a linked one, and the place in it of a directory of that one."""

    top: Path
    place: Path


def _main_tree(directory: Path) -> _MainTree | None:
    """The main working tree of a directory in a linked one (gitrepository-layout(5)); None for other directories."""
    top = next((folder for folder in (directory, *directory.parents) if os.path.lexists(folder / ".git")), None)
    if top is None:
        return None
    try:
        link = os.fsdecode(_content(top / ".git")).strip().removeprefix("gitdir:").strip()
        git_dir = Path(os.path.realpath(top / link))
        common = os.path.realpath(git_dir / os.fsdecode(_content(git_dir / "commondir")).strip())
    except (OSError, ValueError):
        return None
    main = Path(common).parent
    return _MainTree(main, main / directory.relative_to(top))


def _shared_files(main: Path, sources: Sequence[str]) -> "Iterator[tuple[Path, _Reader | str]]":
    """The files of the main working tree that the CLI (2.1.332) also reads in a linked one."""
    if "local" in sources:
        yield main / ".claude/settings.local.json", _of_settings
    if "project" in sources:  # observed: each kind of which the linked one has none
        yield from _of_folders([main])


def _of_folders(folders: Sequence[Path]) -> "Iterator[tuple[Path, _Reader | str]]":
    """Skills, commands, agents, and plugins among the skills."""
    kinds = (
        (path, reader)
        for folder in folders
        for kind, ending, reader in _KINDS
        for path in _files_below(folder / ".claude" / kind, ending)
    )
    plugins = (
        found
        for folder in folders
        for path in _files_below(folder / ".claude" / "skills", "plugin.json")
        if path.parent.name == ".claude-plugin"
        for found in _plugin_files(path.parent.parent)
    )
    found = chain(kinds, plugins)
    yield from islice(found, _MAX_FILES)
    rest = [f"{path}\0{_stamp(path)}" for path, _ in found]
    if rest:
        digest = hashlib.sha256("\0".join(rest).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        text = (
            f"There are {len(rest)} more skills, commands and agents, which are not shown "
            f"(SHA-256 of their names, sizes and times: {digest})."
        )
        yield folders[0] / ".claude", text


def _plugin_files(root: Path) -> "Iterator[tuple[Path, _Reader | str]]":
    """The definitions of a plugin, which the CLI (2.1.332) loads from a directory that was trusted in a terminal.

    The manifest can name any file of the plugin as one of them.
    """
    yield from ((path, _of_plugin) for path in _files_below(root, ".json"))
    yield from ((path, _of_skill) for path in _files_below(root, ".md"))
    yield from ((path, _of_program) for path in _files_below(root / "bin", ""))


def _files_below(folder: Path, ending: str) -> Iterator[Path]:
    """The files below a folder whose names have this ending, links to folders followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    unread: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=lambda error: unread.append(error.filename)):
        try:
            status = Path(place).stat()
        except OSError:  # gone or replaced since it was listed
            unread.append(Path(place))
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(place) / name for name in sorted(files) if name.lower().endswith(ending))
    yield from (Path(place) for place in unread if os.path.lexists(place))


def _stamp(path: Path) -> str:
    """The size and the change time of a file, in place of its contents."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.errno)
    return f"{status.st_size} {status.st_ctime_ns}"


def _content(path: Path) -> bytes:
    """The contents of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        digest = hashlib.sha256(text).hexdigest()[:16]
        # The rest is not read, and the time of a change (ctime) cannot be set by a program.
        at = datetime.fromtimestamp(status.st_ctime_ns / 1e9, UTC).isoformat()
        raise ValueError(f"it has {status.st_size} bytes, changed {at}; the first MiB has SHA-256 {digest}")
    return text


_Reader = Callable[[bytes], Iterator[_Found]]


def _object(content: bytes) -> Mapping[str, Any]:
    # msgspec's own errors are ValueErrors. Of duplicate keys the last one counts, as for the CLI.
    return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=dict[str, Any])


def _of_settings(content: bytes) -> Iterator[_Found]:
    settings = _object(content)
    yield from _guarded("hooks", settings.get("hooks", {}), _hooks)
    for name in _HELPERS:
        if name in settings:
            yield ClaimKind.PROGRAM, f"{name}: {_shown(settings[name])}"
    for name in _COMMANDS:
        if name in settings:
            yield from _guarded(name, settings[name], partial(_command, name))
    yield from _guarded("enabledPlugins", settings.get("enabledPlugins", {}), _plugins)
    yield from _guarded("extraKnownMarketplaces", settings.get("extraKnownMarketplaces", {}), _marketplaces)
    yield from _guarded("env", settings.get("env", {}), _environment)
    yield from _guarded("permissions", settings.get("permissions", {}), _permissions)
    for name in _RULES:
        if name in settings and settings[name] is not False:
            yield ClaimKind.RULE, f"{name}: {_shown(settings[name])}"
    yield from _guarded("mcpServers", settings.get("mcpServers", {}), _servers)
    known = {*_HARMLESS, *_HELPERS, *_COMMANDS, *_RULES}
    for name in sorted(set(settings) - known):
        yield ClaimKind.UNKNOWN, f"{name}: {_shown(settings[name])}"


def _guarded(name: str, value: Any, read: "Callable[[Any], Iterator[_Found]]") -> Iterator[_Found]:
    """The claims of one part of a file; a part in an unknown form is one claim, and does not hide other parts."""
    try:
        found = list(read(value))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        found = [(ClaimKind.UNKNOWN, f"{name}, in a form that is not known: {_shown(value)}")]
    yield from found


def _command(name: str, setting: Mapping[str, Any]) -> Iterator[_Found]:
    yield ClaimKind.PROGRAM, f"{name}: {_shown(setting['command'])}{_rest(setting, 'command')}"


def _plugins(plugins: Mapping[str, Any]) -> Iterator[_Found]:
    for plugin, is_on in plugins.items():
        if is_on:
            yield ClaimKind.PROGRAM, f"plugin: {plugin}"


def _marketplaces(markets: Mapping[str, Any]) -> Iterator[_Found]:
    for name, market in markets.items():
        yield ClaimKind.PROGRAM, f"marketplace of plugins: {name}: {_json(market)}"


def _permissions(permissions: Mapping[str, Any]) -> Iterator[_Found]:
    if "defaultMode" in permissions:
        yield ClaimKind.RULE, f"mode {_shown(permissions['defaultMode'])}"
    for name, word in (("allow", ""), ("additionalDirectories", "work in ")):
        rules = permissions.get(name, [])
        for rule in rules if isinstance(rules, list) else [rules]:
            yield ClaimKind.RULE, f"{word}{_shown(rule)}"
    for name in sorted(set(permissions) - _PERMISSIONS - _PERMISSIONS_HARMLESS):
        yield ClaimKind.UNKNOWN, f"permissions.{name}: {_shown(permissions[name])}"


def _environment(variables: Mapping[str, Any]) -> Iterator[_Found]:
    for name, value in variables.items():
        kind = ClaimKind.PROGRAM if _POWERFUL.match(name) else ClaimKind.VARIABLE
        yield kind, f"{name}={_shown(value)}"


def _hooks(events: Mapping[str, Any], when: str = "") -> Iterator[_Found]:
    for event, groups in events.items():
        for group in groups if isinstance(groups, list) else [groups]:

            def of_group(group: Mapping[str, Any], event: str = event) -> Iterator[_Found]:
                matcher = group.get("matcher")
                name = f"{event}{f' ({_shown(matcher)})' if matcher else ''}{when}"
                for hook in group.get("hooks", []):
                    kind, text = _hook(hook)
                    yield kind, f"{name}: {text}{_rest(group, 'hooks', 'matcher')}"

            yield from _guarded(event, group, of_group)


def _hook(hook: Mapping[str, Any]) -> _Found:
    """The claim of a hook, by its type; fields that do not count come last."""
    match hook.get("type"):
        case "command" if "command" in hook:
            args = hook.get("args", [])
            command = _shown(hook["command"]) if not args else _words([hook["command"], *args])
            return ClaimKind.PROGRAM, f"command: {command}{_rest(hook, 'type', 'command', 'args')}"
        case "http" if "url" in hook:
            return ClaimKind.PROGRAM, f"http: {_shown(hook['url'])}{_rest(hook, 'type', 'url')}"
        case "prompt" | "agent" as kind if "prompt" in hook:
            return ClaimKind.PROGRAM, f"{kind}: {_shown(hook['prompt'])}{_rest(hook, 'type', 'prompt')}"
        case "mcp_tool":
            return ClaimKind.PROGRAM, f"mcp_tool: {_json(hook)}"
        case _:
            return ClaimKind.UNKNOWN, f"a hook of an unknown type: {_json(hook)}"


def _of_servers(content: bytes) -> Iterator[_Found]:
    servers = _object(content)
    yield from _guarded("mcpServers", servers.get("mcpServers", {}), _servers)
    for name in sorted(set(servers) - {"mcpServers", "$schema"}):
        yield ClaimKind.UNKNOWN, f"{name}: {_shown(servers[name])}"


def _servers(servers: Any) -> Iterator[_Found]:
    if isinstance(servers, list):
        for server in servers:
            if isinstance(server, str):
                yield ClaimKind.SERVER, server
            else:
                yield from _servers(server)
        return
    for name, server in servers.items():
        yield from _guarded(name, server, partial(_server, name))


def _server(name: str, server: Mapping[str, Any]) -> Iterator[_Found]:
    """The claim of an MCP server, by its type; fields that do not count come last."""
    match server.get("type"):
        case None | "stdio" if "command" in server:
            command = _words([server["command"], *server.get("args", [])])
            yield ClaimKind.SERVER, f"{name}: command: {command}{_rest(server, 'type', 'command', 'args')}"
        case "http" | "sse" | "ws" | "streamable-http" as kind if "url" in server:
            yield ClaimKind.SERVER, f"{name}: {kind}: {_shown(server['url'])}{_rest(server, 'type', 'url')}"
        case _:
            yield ClaimKind.UNKNOWN, f"{name}: a server of an unknown type: {_json(server)}"


def _of_skill(content: bytes) -> Iterator[_Found]:
    """A skill or a command, whose `!` lines run when a user types its name."""
    text = content.decode("utf-8", "replace")
    yield from _head(text)
    for fenced, inline in _SHELL.findall(text):
        yield ClaimKind.PROGRAM, f"shell, when its name is typed: {(fenced or inline).strip()}"


def _of_agent(content: bytes) -> Iterator[_Found]:
    yield from _head(content.decode("utf-8", "replace"))


def _of_plugin(content: bytes) -> Iterator[_Found]:
    """A definition of a plugin: hooks, MCP servers, and all else as it is."""
    definition = _object(content)
    yield from _guarded("hooks", definition.get("hooks", {}), _hooks)
    yield from _guarded("mcpServers", definition.get("mcpServers", {}), _servers)
    rest = {name: value for name, value in definition.items() if name not in {"hooks", "mcpServers"}}
    if rest:
        yield ClaimKind.PROGRAM, f"plugin: {_json(rest)}"


def _of_program(content: bytes) -> Iterator[_Found]:
    yield ClaimKind.PROGRAM, f"on the PATH of commands (SHA-256 {hashlib.sha256(content).hexdigest()[:16]})"


def _head(text: str) -> Iterator[_Found]:
    """The claims of the head (YAML) of a Markdown file, in force while the file is in use."""
    match = _FRONTMATTER.match(text)
    if match is None:
        return
    try:
        head = yaml.safe_load(match[1]) or {}
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        yield ClaimKind.UNKNOWN, f"a head that is no YAML: {match[1].strip()}"
        return
    yield from _guarded("hooks", head.get("hooks") or {}, lambda hooks: _hooks(hooks, ", while it is in use"))
    yield from _guarded("mcpServers", head.get("mcpServers") or {}, _servers)
    for name in ("allowed-tools", "tools"):
        if head.get(name):
            yield ClaimKind.RULE, f"{name}: {_shown(head[name])}"
    if "permissionMode" in head:
        yield ClaimKind.RULE, f"mode {_shown(head['permissionMode'])}"
    for name in sorted(set(map(str, head)) - _TEXT_ONLY - {"allowed-tools", "tools", "permissionMode"}):
        yield ClaimKind.UNKNOWN, f"{name}: {_shown(head.get(name))}"


_KINDS: Final = (("skills", "skill.md", _of_skill), ("commands", ".md", _of_skill), ("agents", ".md", _of_agent))


def _rest(definition: Mapping[str, Any], *shown: str) -> str:
    """The other fields of a definition."""
    left = {name: value for name, value in definition.items() if name not in shown}
    return f" | other fields: {_json(left)}" if left else ""


def _words(words: Sequence[object]) -> str:
    """A program and its arguments, each quoted by itself."""
    return " ".join(shlex.quote(_shown(word)) for word in words)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted", enc_hook=str).decode()


def _line(text: str) -> str:
    """The whole text on one line, with control characters as escapes."""
    return "".join(
        character
        if character.isprintable() or (ord(character) > 0x9F and not "\ud800" <= character <= "\udfff")
        else repr(character)[1:-1]
        for character in text
    )
