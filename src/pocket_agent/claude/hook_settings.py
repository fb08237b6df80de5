"""The server's hooks in the user's settings of the CLI: put in and taken out again, all other bytes unchanged. Pure.

The file is JSON that users write by hand. So nothing is written anew: the hooks are inserted behind an opening bracket,
and removal deletes what was inserted. Only when the CLI has written the file anew since, with another layout, removal
has to do so as well.
"""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pocket_agent.errors import ConfigurationError

RELAY: Final = "hook_relay.py"
EVENTS: Final = ("PermissionRequest", "Stop", "SessionEnd")
"""A permission request waits for its answer; the others withdraw what a terminal has answered itself."""

_WAIT_SECONDS: Final = 7 * 86_400
"""The CLI ends a hook after `timeout` seconds, 60 by default; its dialog stays."""
_QUICK_SECONDS: Final = 10

_BOM: Final = "\ufeff"
"""An editor's byte order mark; the CLI (2.1.332) takes settings that begin with it."""
_WHITESPACE: Final = re.compile(rf"[{_BOM} \t\r\n]*")
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_OWN_STRING: Final = rf'"(?:[^"\\]|\\.)*{re.escape(RELAY)}(?:[^"\\]|\\.)*"'
_ENTRY: Final = rf'\{{"hooks": \[\{{"type": "command", "command": {_OWN_STRING}, "timeout": \d+\}}\]\}}'
_EVENT: Final = rf"{_STRING}: \[ {_ENTRY} \]"
_INSERTED: Final = (rf'"hooks": \{{ {_EVENT}(?:, {_EVENT})* \}}', rf"{_EVENT}(?:, {_EVENT})*", _ENTRY)
"""What `install` inserts. The spaces within the brackets distinguish it from brackets that were there, and are empty
without it."""
_NEW: Final = "{ }\n"
_FILLED: Final = "{\t }"
"""A file that `install` makes, and what it puts before the text of a blank one; no other program writes them."""


def command(python: str, relay: Path, data_dir: Path, event: str) -> str:
    """The shell command of a hook.

    `|| :` because the CLI takes an exit status of 2 for a denial, and Python has it when the file is gone.
    """
    words = (python, "-I", "-S", str(relay), str(data_dir), event)
    return f"{' '.join(map(shlex.quote, words))} 2>/dev/null || :"


def installed(text: str) -> Mapping[str, str]:
    """The server's hooks in the settings: the command for each event.

    Raises:
        ConfigurationError: the settings are not those of a user.
    """
    return {event: found for event, entries in _hooks(_read(text)).items() if (found := _own(entries)) is not None}


def are_off(text: str) -> bool:
    """Whether the settings switch all hooks off; raises as `installed`."""
    return _read(text).get("disableAllHooks") is True


def install(text: str | None, commands: Mapping[str, str]) -> str:
    """The settings with a hook for each event, and without those of an earlier installation.

    Args:
        text: the settings; None for a file that does not exist.
        commands: the command for each event.

    Raises:
        ConfigurationError: the settings are not those of a user, and would be broken or misunderstood.
    """
    text = remove(text)
    if text is None:
        text = _NEW
    elif _is_blank(text):
        text = f"{text}{_FILLED}"
    _read(text)
    entries = {event: _entry(event, command) for event, command in commands.items()}
    members = _members(text, _skip(text, 0))
    if "hooks" not in members:
        made = ", ".join(f'"{event}": [ {entry} ]' for event, entry in entries.items())
        return _checked(_insert(text, _skip(text, 0), f'"hooks": {{ {made} }}'))
    hooks = members["hooks"]
    known = _members(text, hooks)
    # From the last place to the first, so that those before do not move.
    for event, place in sorted(known.items(), key=lambda item: item[1], reverse=True):
        if event in entries:
            text = _insert(text, place, entries[event])
    missing = ", ".join(f'"{event}": [ {entry} ]' for event, entry in entries.items() if event not in known)
    return _checked(_insert(text, hooks, missing) if missing else text)


def remove(text: str | None) -> str | None:
    """The settings without the server's hooks; None when there was no file before them.

    Raises:
        ConfigurationError: the settings are not those of a user.
    """
    if text is None or not installed(text):
        return text
    for pattern in _INSERTED:
        while (found := re.search(pattern, text)) is not None:
            text = _cut(text, found.start(), found.end())
    if text == _NEW:
        return None
    if text.endswith(_FILLED) and _is_blank(text.removesuffix(_FILLED)):
        return text.removesuffix(_FILLED)
    if not installed(text):
        return _checked(text)
    # The CLI, or a formatter, has written the file anew. Lone surrogates have no UTF-8, so they stay escapes.
    is_ascii = "\\ud" in text.lower()
    return _checked(json.dumps(_without(_read(text)), indent=2, ensure_ascii=is_ascii) + "\n")


def _entry(event: str, shell: str) -> str:
    timeout = _WAIT_SECONDS if event == EVENTS[0] else _QUICK_SECONDS
    return json.dumps({"hooks": [{"type": "command", "command": shell, "timeout": timeout}]}, ensure_ascii=False)


def _insert(text: str, bracket: int, made: str) -> str:
    """Insert behind an opening bracket, before what it has."""
    follows = text[_skip(text, bracket + 1)]
    return f"{text[: bracket + 1]}{made}{'' if follows in '}]' else ', '}{text[bracket + 1 :]}"


def _cut(text: str, start: int, end: int) -> str:
    """Delete a member of an object or an element of an array, with one comma at its side."""
    if text.startswith(", ", end):
        return text[:start] + text[end + 2 :]
    if text.startswith(",", end):
        return text[:start] + text[end + 1 :]
    before = text[:start].rstrip()
    return (before[:-1] if before.endswith(",") else text[:start]) + text[end:]


def _without(settings: dict[str, Any]) -> dict[str, Any]:
    hooks: dict[str, Any] = {}
    for event, entries in settings["hooks"].items():
        kept = [left for entry in entries if (left := _without_own(entry)) is not None]
        if kept or not entries:
            hooks[event] = kept
    return {key: hooks if key == "hooks" else value for key, value in settings.items() if key != "hooks" or hooks}


def _without_own(entry: Any) -> Any:
    """An entry of an event without the server's hook, next to which a user may have put another; None without any."""
    if _own([entry]) is None:
        return entry
    hooks = [hook for hook in entry["hooks"] if _own([{"hooks": [hook]}]) is None]
    return {**entry, "hooks": hooks} if hooks else None


def _own(entries: list[Any]) -> str | None:
    """The server's own command among the entries of an event."""
    for entry in entries:
        hooks = entry.get("hooks") if isinstance(entry, dict) else None
        for hook in hooks if isinstance(hooks, list) else ():
            shell = hook.get("command") if isinstance(hook, dict) else None
            if isinstance(shell, str) and RELAY in shell:
                return shell
    return None


def _is_blank(text: str) -> bool:
    return _skip(text, 0) == len(text)


def _read(text: str) -> dict[str, Any]:
    if _is_blank(text):
        return {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ConfigurationError("The CLI's settings have a key twice; remove one of them first.")
        return dict(pairs)

    try:
        settings = json.loads(text.removeprefix(_BOM), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The CLI's settings are not valid JSON: {error}. Mend them first.") from error
    if not isinstance(settings, dict):
        raise ConfigurationError("The CLI's settings are not a JSON object. Mend them first.")
    _hooks(settings)
    return settings


def _hooks(settings: dict[str, Any]) -> dict[str, Any]:
    hooks = settings.get("hooks", {})
    if not isinstance(hooks, dict) or any(not isinstance(hooks.get(event, []), list) for event in hooks):
        raise ConfigurationError("`hooks` in the CLI's settings is not an object of lists. Mend it first.")
    return hooks


def _checked(text: str) -> str:
    _read(text)
    return text


def _skip(text: str, index: int) -> int:
    found = _WHITESPACE.match(text, index)
    return found.end() if found is not None else index


def _members(text: str, start: int) -> dict[str, int]:
    """Where the value of each member of the object at `start` begins; the text is valid JSON."""
    found: dict[str, int] = {}
    decoder = json.JSONDecoder()
    index = _skip(text, start + 1)
    while text[index] != "}":
        key, index = decoder.raw_decode(text, index)
        index = _skip(text, _skip(text, index) + 1)
        found[key] = index
        _, index = decoder.raw_decode(text, index)
        index = _skip(text, index)
        if text[index] == ",":
            index = _skip(text, index + 1)
    return found
