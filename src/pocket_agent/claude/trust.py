"""What a directory has the CLI do without asking: programs, servers, rules and variables of its own settings.

In a terminal the CLI asks first whether a directory is trusted; without one it takes all of this up at once.
Source: the CLI's documentation of `settings.json` and `.mcp.json`, and what version 2.1.330 was seen to run
(tests/e2e/test_hostile_project.py).
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pocket_agent.model import Claim, ClaimKind

MAX_CLAIMS: Final = 50
_MAX_BYTES: Final = 1024 * 1024
_MAX_TEXT: Final = 300
_HELPERS: Final = ("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "otelHeadersHelper")
"""Settings whose value is a command."""

_Found = tuple[ClaimKind, str]
_Reader = Callable[[Mapping[str, Any]], Iterator[_Found]]


def find_claims(directory: Path, sources: Sequence[str]) -> list[Claim]:
    """What the CLI takes up in a directory: at most `MAX_CLAIMS`, the last of which tells of more. Looks at the disk.

    Args:
        directory: absolute, symlinks resolved.
        sources: as in `claude.setting_sources`; what none of them reads is no claim.
    """
    claims: list[Claim] = []
    for path, read in _files(directory, sources):
        try:
            content = _content(path)
            found = [] if content is None else list(read(content))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            found = [(ClaimKind.UNKNOWN, "It cannot be read, so that nobody can tell.")]
        file = os.path.relpath(path, directory)
        claims += [Claim(file, kind, _clipped(text)) for kind, text in found]
    if len(claims) > MAX_CLAIMS:
        left = len(claims) - MAX_CLAIMS + 1
        claims[MAX_CLAIMS - 1 :] = [Claim(claims[-1].file, ClaimKind.UNKNOWN, f"There are {left} more.")]
    return claims


def _files(directory: Path, sources: Sequence[str]) -> Iterator[tuple[Path, _Reader]]:
    """The files that the CLI reads in a directory and above it, of settings in between none."""
    around = [directory, *directory.parents]
    if "project" in sources:
        yield directory / ".claude/settings.json", _of_settings
    if "local" in sources:
        repository = next((folder for folder in around if os.path.lexists(folder / ".git")), directory)
        for folder in dict.fromkeys([directory, repository]):
            yield folder / ".claude/settings.local.json", _of_settings
    if {"project", "local"}.intersection(sources):
        yield from ((folder / ".mcp.json", _of_servers) for folder in around)


def _content(path: Path) -> Mapping[str, Any] | None:
    """What a file of settings says; None when there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no regular file")
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError("too large")
    # msgspec's own errors are ValueErrors.
    return msgspec.json.decode(text, type=dict[str, Any])


def _of_settings(content: Mapping[str, Any]) -> Iterator[_Found]:
    yield from _programs(content)
    permissions = content.get("permissions", {})
    if "defaultMode" in permissions:
        yield ClaimKind.RULE, f"mode {permissions['defaultMode']}"
    for name, word in (("allow", ""), ("additionalDirectories", "work in ")):
        for rule in permissions.get(name, []):
            yield ClaimKind.RULE, f"{word}{rule}"
    for name, value in content.get("env", {}).items():
        yield ClaimKind.VARIABLE, f"{name}={value}"


def _programs(content: Mapping[str, Any]) -> Iterator[_Found]:
    for event, groups in content.get("hooks", {}).items():
        for group in groups:
            for hook in group.get("hooks", []):
                told = next((hook[key] for key in ("command", "url", "prompt") if key in hook), hook.get("type"))
                yield ClaimKind.PROGRAM, f"{event}: {told}"
    for name in _HELPERS:
        if name in content:
            yield ClaimKind.PROGRAM, f"{name}: {content[name]}"
    if "statusLine" in content:
        yield ClaimKind.PROGRAM, f"statusLine: {content['statusLine'].get('command')}"
    for plugin, is_on in content.get("enabledPlugins", {}).items():
        if is_on:
            yield ClaimKind.PROGRAM, f"plugin: {plugin}"


def _of_servers(content: Mapping[str, Any]) -> Iterator[_Found]:
    for name, server in content.get("mcpServers", {}).items():
        how = server.get("url") or " ".join([str(server.get("command")), *map(str, server.get("args", []))])
        yield ClaimKind.SERVER, f"{name}: {how}"


def _clipped(text: str) -> str:
    """On one line, and of a bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 1]}…"
