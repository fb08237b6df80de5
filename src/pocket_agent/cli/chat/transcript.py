"""A project's frames as the lines of a conversation, without terminal control sequences."""

import difflib
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from rich.text import Text

from pocket_agent.cli.chat.form import ELICITATION, fields_of
from pocket_agent.model import HoldReason

# ----------------------------------------------------------------------
# Text of an agent, made safe for a terminal: nothing in it can move the cursor or change the reading order.

_PICTURES: Final = 0x2400
"""Unicode block "Control Pictures": the picture of control character N is 0x2400 + N."""

UNSEEN: Final = (
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Invisible characters, and those that reorder others, as ranges of a regular expression.

They are those of the Unicode category Cf and of the property Default_Ignorable_Code_Point (bidirectional controls, see
CVE-2021-42574, zero width characters, variation selectors, tags, Hangul fillers), the line separators, and the blank
Braille pattern. `webui/src/text/visible.ts` has the same list for the web client; a test compares both.
"""

SPACES: Final = r"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Spaces that look like U+0020 and are not (Unicode category Zs). A shell takes `rm\u00a0x` for one word."""

_KEPT: Final = (
    # A joiner or a presentation selector inside an emoji, and a joiner inside an Arabic or Indic word, hide nothing.
    r"(?<=[\u2190-\u2bff\U0001f000-\U0001faff#*0-9])\ufe0f|(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d"
    r"(?=[\u2600-\u2bff\U0001f000-\U0001faff])|(?<=[\u0620-\u0dff])[\u200c\u200d](?=[\u0620-\u0dff])"
    # So does the wide space between wide letters.
    r"|(?<=[\u3001-\u30ff\u3400-\u9fff\uff01-\uff9f])\u3000(?=[\u3001-\u30ff\u3400-\u9fff\uff01-\uff9f])"
)
_UNSAFE: Final = (
    # C0 but tab and newline, DEL, C1 (ECMA-48: CSI and OSC have C1 forms), lone surrogates.
    rf"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{UNSEEN}"
)
_IN_PROSE: Final = re.compile(rf"{_KEPT}|([{_UNSAFE}])")
_DECIDED: Final = re.compile(rf"{_KEPT}|([{_UNSAFE}{SPACES}])")


def plain(text: str, *, prose: bool = False) -> str:
    """Replace each character that controls a terminal, or is invisible, by a visible one.

    Args:
        text: of an agent, or of another device.
        prose: keeps spaces of all kinds; only for text that no user decides on (prompts, answers, output).
    """
    return (_IN_PROSE if prose else _DECIDED).sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return "\n" if code in {0x2028, 0x2029} else f"<U+{code:04X}>"


def one_line(text: str, limit: int) -> str:
    """Text on one line of at most `limit` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


# ----------------------------------------------------------------------
# Tool requests and results as lines for a terminal. Pure.

Data = Mapping[str, Any]

_WIDTH: Final = 200
_DIFF_LINES: Final = 16
_RESULT_LINES: Final = 12
_RESULT_CHARACTERS: Final = 2000


def tool_call(name: str, given: Data) -> list[Text]:
    """A tool call: one line, and the beginning of the change for a file."""
    head = Text.assemble(("● ", "cyan"), (one_line(name, 60), "bold"), " ", one_line(_subject(given), _WIDTH))
    return [head, *bounded(_change(name, given), _DIFF_LINES)]


def tool_request(name: str, given: Data) -> list[Text]:
    """A tool call in full, for the user who decides on it."""
    if name == "Bash":
        shown = [Text("  $ " + plain(str(given.get("command", ""))).replace("\n", "\n    "), "bold yellow")]
        rest = {key: value for key, value in given.items() if key not in {"command", "description"}}
        return shown + ([_json(rest)] if rest else [])
    change = _change(name, given)
    return [Text("  " + plain(_subject(given)), "bold yellow"), *change] if change else [_json(given)]


def question(asked: Data) -> list[Text]:
    """A question of an MCP server, with the address at which it is answered or the names of its form's fields."""
    server = one_line(str(asked.get("mcp_server_name", "")), 60)
    message = plain(str(asked.get("message", ""))).replace("\n", "\n  ")
    lines = [Text.assemble((f"▲ The MCP server {server} asks:", "bold yellow")), Text(f"  {message}", "bold yellow")]
    if asked.get("mode") == "url":
        return [*lines, Text("  " + plain(str(asked.get("url", ""))), "bold yellow")]
    return [*lines, *(Text(f"  - {one_line(field.label, _WIDTH)}", "yellow") for field in fields_of(asked))]


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
    rest = len(lines) - limit
    return [*lines[:limit], Text(f"    … {rest} more lines", "dim")] if rest > 0 else lines


def _subject(given: Data) -> str:
    for key in ("command", "file_path", "notebook_path", "path", "pattern", "url", "query", "description"):
        if isinstance(given.get(key), str):
            return str(given[key])
    return json.dumps(given, ensure_ascii=False) if given else ""


def _change(name: str, given: Data) -> list[Text]:
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


def _json(given: Data) -> Text:
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


# ----------------------------------------------------------------------
# Frames as a conversation.

NOTE: Final = "dim italic"
_QUESTION_HINT: Final = "y: answer (or done there)   n: decline   c: close without an answer"
_NOTES: Final = {
    "project_deleted": ("The project was deleted.", "bold red"),
    "conversation_deleted": ("The conversation was deleted.", "bold red"),
    "process_killed": ("The execution was killed.", "red"),
    "session_reset": ("── a new session begins ──", NOTE),
}
"""Frames that are shown as a note and carry nothing else."""


class TextSink(Protocol):
    """Where a conversation is shown."""

    def show(self, *lines: Text) -> None:
        """Show whole lines."""

    def live(self, text: str, *, thinking: bool) -> None:
        """Continue the text that is being written."""

    def end_live(self) -> None:
        """End the text that is being written."""


class Transcript:
    """Shows what happens in a project, and keeps the state that a user's commands depend on.

    `_push_TYPE` shows a frame, `_line_TYPE` a line of the CLI; other types are not shown.

    Attributes:
        executing: whether the agent works.
        approvals: open tool requests, oldest first, by id.
        ended: the id of the request that ended last, and when, in seconds of `time.monotonic()`.
        queue: the prompts that wait, in order.
        hold: why they do not start; empty when they do.
        way_out: the command that ends the hold.
        tasks: what runs in the background.
        last_execution: the id of the newest prompt.
        open_sessions: the sessions of a watched list that a terminal has open.
    """

    def __init__(self, sink: TextSink, *, hint: str = "") -> None:
        """`hint` is how to answer a tool request; `{always}` in it is what "always" allows."""
        self.executing = False
        self.approvals: dict[str, Data] = {}
        self.ended = ("", -math.inf)
        self.queue: list[Data] = []
        self.hold = ""
        self.way_out = ""
        self.tasks: list[Data] = []
        self.last_execution: str | None = None
        self.open_sessions: set[str] = set()
        self._sink = sink
        self._hint = hint
        self._live = ""
        self._live_thinking = False
        self._skip_live = False
        self._mode: str | None = None
        self._tasks: list[str] = []
        self._limit = ("", "")

    def note(self, text: str, style: str = NOTE) -> None:
        """Show a line that is not part of the conversation."""
        self._sink.end_live()
        self._sink.show(Text(plain(text, prose=True), style))

    def joined(self, data: Data, *, behind: bool) -> None:
        """Apply the reply to `project_join`; `behind`: entries follow that are older than the reply."""
        self.executing = data["state"] == "EXECUTING"
        self.queue = list(data["queue"])
        waiting = {str(approval["approval_id"]): approval for approval in data["approvals"]}
        for gone in set(self.approvals) - set(waiting):
            self._end_approval(gone)
        for approval in waiting.values():
            self._push_approval_requested(approval)
        partial = data.get("partial") or {}
        # The start of an unfinished message would appear before older entries; the whole message follows later.
        self._skip_live = behind
        for thinking, text in ((True, partial.get("thinking", "")), (False, partial.get("text", ""))):
            if text and not behind:
                self._catch_up(text, thinking=thinking)

    def frame(self, kind: str, data: Data) -> None:
        """Show a push or an entry of the log."""
        if kind in _NOTES:
            self._end_live()
            self.note(*_NOTES[kind])
        elif (show := getattr(self, f"_push_{kind}", None)) is not None:
            show(data)

    def _push_project_state(self, data: Data) -> None:
        before, hold = self.hold, data.get("queue_hold") or {}
        self.hold = str(hold.get("message", ""))
        self.way_out = "/trust" if hold.get("reason") == HoldReason.TRUST else "/continue"
        if self.hold and self.hold != before:
            self.note(f"The queue is on hold: {one_line(self.hold, 600)} ({self.way_out})", "yellow")
        self.executing = data["state"] == "EXECUTING"
        self.tasks = list(data.get("tasks") or [])
        mode, tasks = data.get("permission_mode"), [_task(task) for task in self.tasks]
        if mode != self._mode and self._mode is not None:
            self.note(f"permission mode: {one_line(str(mode or 'default'), 40)}")
        if tasks != self._tasks:
            self.note(f"in the background: {', '.join(tasks)}" if tasks else "nothing runs in the background any more")
        self._mode, self._tasks = mode or "default", tasks

    def _push_queue_state(self, data: Data) -> None:
        self.queue = list(data["queue"])

    def _push_execution_paused(self, data: Data) -> None:
        self._end_live()
        # The state that follows has the same text as the reason of the hold, which is not shown twice.
        self.hold, self.way_out = str(data["message"]), "/continue"
        self.note(f"paused: {one_line(self.hold, 600)} (/continue, or /cancel 1)", "yellow")

    def _push_prompt(self, data: Data) -> None:
        self._end_live()
        if not data.get("typed_at"):
            self.last_execution = data.get("execution_id")
        if data.get("continues"):
            self.note("── the paused prompt continues ──")
            return
        by = f"  ({one_line(str(data.get('by', '')), 40)})" if data.get("by") else ""
        by += "  into the running turn" if data.get("steers") else ""
        lines = plain(str(data["prompt"]), prose=True).split("\n")
        self._sink.show(Text(), Text.assemble(("> " + lines[0], "bold blue"), (by, "dim")))
        self._sink.show(*(Text("  " + line, "bold blue") for line in lines[1:]))

    def _push_approval_requested(self, data: Data) -> None:
        if str(data["approval_id"]) in self.approvals:
            return  # it was in the reply to a join already
        self._end_live()
        self.approvals[str(data["approval_id"])] = data
        name = str(data["tool_name"])
        if name == ELICITATION:
            hint = [Text(f"  {_QUESTION_HINT}", "yellow")] if self._hint else []
            self._sink.show(Text(), *question(data["input"]), *hint)
            return
        title = str(data.get("title") or data.get("description") or "")
        title = "" if title == name else f"  {one_line(title, 200)}"
        asking = "A subagent" if data.get("agent_id") else "The agent"
        always = one_line(remembered(data.get("suggestions")), 200)
        self._sink.show(
            Text(),
            Text.assemble((f"▲ {asking} asks to use ", "bold yellow"), (one_line(name, 60), "bold"), title),
            *tool_request(name, data["input"] if isinstance(data["input"], dict) else {"input": data["input"]}),
            *([Text("  " + self._hint.format(always=always), "yellow")] if self._hint else []),
        )

    def _push_approval_resolved(self, data: Data) -> None:
        asked = self._end_approval(str(data["approval_id"]))
        word = "allowed" if data["behavior"] == "allow" else "denied"
        reason = f": {one_line(str(data['message']), 200)}" if data.get("message") else ""
        if asked.get("tool_name") == ELICITATION:
            word = "answered" if data["behavior"] == "allow" else "closed" if data.get("cancel") else "declined"
        self.note(
            f"{word} by {one_line(str(data['by']), 40)}{reason}", "green" if data["behavior"] == "allow" else "red"
        )

    def _push_approval_cancelled(self, data: Data) -> None:
        self._end_approval(str(data["approval_id"]))
        self.note(f"no answer is needed any more: {one_line(str(data['reason']), 200)}")

    def _end_approval(self, approval_id: str) -> Data:
        """Forget an open tool request, which is returned; empty when it was not known."""
        asked = self.approvals.pop(approval_id, {})
        if asked:
            self.ended = approval_id, time.monotonic()
        return asked

    def _push_session_resumed(self, data: Data) -> None:
        self._end_live()
        how = "a copy of the session" if data["fork"] else "the session"
        self.note(f"── {how} “{one_line(str(data['title']), 80)}” goes on ──")

    def _push_sessions_changed(self, data: Data) -> None:
        for session in data["sessions"]:
            session_id = str(session["session_id"])
            if bool(session.get("active")) == (session_id in self.open_sessions):
                continue
            self.open_sessions ^= {session_id}
            how = "has opened" if session_id in self.open_sessions else "has closed"
            self.note(f"a terminal {how} the session “{one_line(str(session['title']), 80)}” ({session_id})")

    def _push_terminal_turns(self, data: Data) -> None:
        self._end_live()
        if data.get("lost"):
            self.note("The session's file was replaced: turns of a terminal may be missing here.", "yellow")
        else:
            self.note("── in a terminal ──")

    def _push_agent_partial(self, data: Data) -> None:
        for thinking, text in ((True, str(data["thinking"])), (False, str(data["text"]))):
            if text:
                self._catch_up(text, thinking=thinking)
        self._end_live()
        self.note("The agent was stopped while it wrote this.")

    def _push_error(self, data: Data) -> None:
        self._end_live()
        self.note(f"{one_line(str(data['code']), 40)}: {data['message']}", "bold red")

    def _push_agent_message(self, data: Data) -> None:
        if (show := getattr(self, f"_line_{data.get('type')}", None)) is not None:
            show(data)

    def _line_stream_event(self, data: Data) -> None:
        if data.get("parent_tool_use_id") is not None:
            return  # the text of a subagent is shown when it is complete
        event = data.get("event") or {}
        match event.get("type"):
            case "content_block_start":
                self._skip_live = False
                self._end_live()
            case "content_block_delta" if not self._skip_live:
                delta = event.get("delta") or {}
                kind = str(delta.get("type")).removesuffix("_delta")
                if kind in {"text", "thinking"}:
                    self._go_on(str(delta.get(kind, "")), thinking=kind == "thinking")

    def _line_assistant(self, data: Data) -> None:
        content = (data.get("message") or {}).get("content")
        for block in content if isinstance(content, list) else []:
            match block.get("type"):
                case "text" | "thinking" as kind:
                    self._catch_up(str(block.get(kind, "")), thinking=kind == "thinking")
                    self._end_live()
                case "tool_use":
                    self._end_live()
                    given = block.get("input")
                    self._sink.show(*tool_call(str(block.get("name")), given if isinstance(given, dict) else {}))

    def _line_user(self, data: Data) -> None:
        content = (data.get("message") or {}).get("content")
        if data.get("isReplay") or not isinstance(content, list):
            return
        for block in content:
            if block.get("type") == "tool_result":
                self._end_live()
                self._sink.show(*tool_result(block.get("content"), is_error=bool(block.get("is_error"))))
            elif block.get("type") == "text" and data.get("parent_tool_use_id") is None:
                self.note(one_line(str(block.get("text", "")), 200))

    def _line_result(self, data: Data) -> None:
        self._end_live()
        failed = bool(data.get("is_error"))
        if failed:
            said = data.get("result") or "; ".join(map(str, data.get("errors") or ["it failed"]))
            self._sink.show(Text("✗ " + plain(str(said), prose=True), "bold red"))
        self._sink.show(Text(result_line(data), "red" if failed else "dim green"))

    def _line_auth_status(self, data: Data) -> None:
        error = data.get("error")
        if error:
            self.note(f"the login failed: {one_line(str(error), 300)}", "red")
        elif data.get("isAuthenticating"):
            said = data.get("output")
            output = one_line(" ".join(map(str, said)), 300) if isinstance(said, list) else ""
            self.note(f"the agent logs in {output}".rstrip())

    def _line_rate_limit_event(self, data: Data) -> None:
        info = data.get("rate_limit_info") or {}
        limit = one_line(str(info.get("rateLimitType") or "the account").replace("_", " "), 40)
        status = str(info.get("status"))
        if (limit, status) == self._limit or status not in {"allowed_warning", "rejected"}:
            return
        self._limit = limit, status
        used = info.get("utilization")
        share = f", {used:.0%} used" if isinstance(used, int | float) and status != "rejected" else ""
        self.note(f"usage limit of {limit}: {'reached' if status == 'rejected' else 'nearly reached'}{share}", "yellow")

    def _line_system(self, data: Data) -> None:
        if data.get("subtype") == "api_retry":
            wait = float(data.get("retry_delay_ms") or 0) / 1000
            status = data.get("error_status") or data.get("error") or "no answer"
            self.note(f"the model does not answer ({one_line(str(status), 60)}); again in {wait:.1f} s")
        elif data.get("subtype") == "compact_boundary":
            compacted = data.get("compact_metadata") or {}
            before, after = compacted.get("pre_tokens"), compacted.get("post_tokens")
            sizes = f" ({before:,} tokens" if isinstance(before, int) else ""
            sizes += (f" to {after:,})" if isinstance(after, int) else ")") if sizes else ""
            self.note(f"── the conversation so far was summarised{sizes} ──")
        elif data.get("subtype") == "elicitation_complete":
            self.note(f"the MCP server {one_line(str(data.get('mcp_server_name')), 60)} reports that its page is done")

    def _go_on(self, text: str, *, thinking: bool) -> None:
        if self._live and thinking != self._live_thinking:
            self._end_live()
        self._live += text
        self._live_thinking = thinking
        self._sink.live(plain(text, prose=True), thinking=thinking)

    def _catch_up(self, text: str, *, thinking: bool) -> None:
        """Show the part of `text` that is not on the screen yet."""
        if thinking != self._live_thinking or not text.startswith(self._live):
            self._end_live()
        self._go_on(text[len(self._live) :], thinking=thinking)

    def _end_live(self) -> None:
        self._live = ""
        self._sink.end_live()


def task_line(task: Data) -> str:
    """A background task with its use so far."""
    parts = [_task(task)]
    if task.get("tokens"):
        parts.append(f"{int(task['tokens']):,} tokens")
    if task.get("tool_uses"):
        parts.append(f"{int(task['tool_uses'])} tools")
    if task.get("summary"):
        parts.append(one_line(str(task["summary"]), 80))
    if task.get("started_at"):
        parts.append(f"since {str(task['started_at'])[11:19]}Z")
    return " · ".join(parts)


def _task(task: Data) -> str:
    name = one_line(str(task.get("description") or task.get("type")), 60)
    return f"{name} (subagent)" if task.get("type") == "local_agent" else name


def remembered(suggestions: object) -> str:
    """What "always" allows for the rest of the session, out of the `suggestions` of a request."""
    allowed: list[str] = []
    for update in suggestions if isinstance(suggestions, list) else []:
        match update.get("type"):
            case "setMode":
                mode = str(update.get("mode"))
                allowed.append("all edits of files (mode acceptEdits)" if mode == "acceptEdits" else f"mode {mode}")
            case "addDirectories":
                allowed.append("the directory " + ", ".join(map(str, update.get("directories") or [])))
            case "addRules" | "replaceRules":
                for rule in update.get("rules") or []:
                    content = rule.get("ruleContent")
                    allowed.append(str(rule.get("toolName")) + (f": {content}" if content else ""))
            case other:
                allowed.append(str(other))
    return "; ".join(allowed) or "nothing more"


def result_line(data: Data) -> str:
    """Duration, tokens and cost of a `result` line; the CLI counts its cost over its process."""
    parts = []
    if isinstance(data.get("duration_ms"), int | float):
        parts.append(f"{data['duration_ms'] / 1000:.1f} s")
    usage = data.get("usage") if isinstance(data.get("usage"), dict) else None
    if usage:
        taken = sum(int(usage.get(key) or 0) for key in _INPUT_TOKENS)
        parts.append(f"{taken:,} tokens in, {int(usage.get('output_tokens') or 0):,} out")
    if isinstance(data.get("total_cost_usd"), int | float):
        parts.append(f"${data['total_cost_usd']:.4f} so far")
    return ("✗ " if data.get("is_error") else "✓ ") + " · ".join(parts)


_INPUT_TOKENS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
