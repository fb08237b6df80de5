"""Tool calls and their results as lines for a terminal. Pure."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.text import Text

from pocket_agent.cli.chat.plain import one_line, plain

Input = Mapping[str, Any]

_WIDTH: Final = 200
_DIFF_LINES: Final = 16
_RESULT_LINES: Final = 12
_RESULT_CHARACTERS: Final = 2000


def tool_call(name: str, given: Input) -> list[Text]:
    """A tool call: one line, and the beginning of the change for a file."""
    head = Text.assemble(("● ", "cyan"), (one_line(name, 60), "bold"), " ", one_line(_subject(name, given), _WIDTH))
    return [head, *bounded(_change(name, given), _DIFF_LINES)]


def tool_request(name: str, given: Input) -> list[Text]:
    """A tool call in full, for the decision about it."""
    if name == "Bash":
        shown = [Text("  $ " + plain(str(given.get("command", ""))).replace("\n", "\n    "), "bold yellow")]
        rest = {key: value for key, value in given.items() if key not in {"command", "description"}}
        return shown + ([_json(rest)] if rest else [])
    change = _change(name, given)
    if change:
        return [Text("  " + plain(_subject(name, given)), "bold yellow"), *change]
    return [_json(given)]


def tool_result(content: object, *, is_error: bool) -> list[Text]:
    """The beginning of a tool's result; `content` is the CLI's, a string or a list of blocks."""
    text = plain(_text_of(content), prose=True).strip("\n")
    style = "red" if is_error else "dim"
    if not text:
        return [Text("  ⎿ (nothing)", style)]
    cut = text[:_RESULT_CHARACTERS]
    lines = [Text(("  ⎿ " if number == 0 else "    ") + line, style) for number, line in enumerate(cut.split("\n"))]
    if len(cut) < len(text):
        lines.append(Text(f"    … {len(text) - len(cut)} more characters", "dim"))
    return bounded(lines, _RESULT_LINES)


def bounded(lines: list[Text], limit: int) -> list[Text]:
    """At most `limit` lines, with a note about the rest."""
    if len(lines) <= limit:
        return lines
    return [*lines[:limit], Text(f"    … {len(lines) - limit} more lines", "dim")]


def _subject(name: str, given: Input) -> str:
    for key in ("command", "file_path", "notebook_path", "path", "pattern", "url", "query", "description"):
        if isinstance(given.get(key), str):
            return str(given[key])
    return json.dumps(given, ensure_ascii=False) if given else ""


def _change(name: str, given: Input) -> list[Text]:
    """The change of a file tool as a diff; empty for other tools."""
    if name == "Write":
        return _diff("", str(given.get("content", "")))
    if name == "Edit":
        note = [Text("  everywhere in the file", "dim")] if given.get("replace_all") else []
        return note + _diff(str(given.get("old_string", "")), str(given.get("new_string", "")))
    if name == "MultiEdit" and isinstance(given.get("edits"), list):
        edits = [edit for edit in given["edits"] if isinstance(edit, dict)]
        return [line for edit in edits for line in _change("Edit", edit)]
    return []


def _diff(old: str, new: str) -> list[Text]:
    before, after = plain(old).splitlines(), plain(new).splitlines()
    found: Iterable[str] = difflib.unified_diff(before, after, lineterm="", n=2)
    styles = {"+": "green", "-": "red"}
    return [Text("  " + line, styles.get(line[:1], "dim")) for line in list(found)[2:] if not line.startswith("@@")]


def _json(given: Input) -> Text:
    text = json.dumps(given, ensure_ascii=False, indent=2)
    return Text("  " + plain(text).replace("\n", "\n  "), "bold yellow")


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else json.dumps(content, ensure_ascii=False)
    parts = []
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            parts.append(block["text"])
        else:
            kind = block.get("type") if isinstance(block, dict) else type(block).__name__
            parts.append(f"[{kind}]")
    return "\n".join(parts)
