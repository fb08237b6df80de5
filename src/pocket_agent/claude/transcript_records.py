"""The records of the CLI's sessions on disk: what clients are shown of them, and what a list of sessions needs. Pure.

A record is a line of JSON (2.1.332). `user` and `assistant` have the API's message as in the CLI's output; many others
are bookkeeping. Subagents have files of their own; records of older versions have `isSidechain` instead.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final, Literal

import msgspec

from pocket_agent.claude.stream import Kind, Line, Origin, Oversized, peek
from pocket_agent.model import Milliseconds
from pocket_agent.protocol.push import ErrorData, PromptData


class _Block(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    content: str | list[_Block] = ""


class _Attachment(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    prompt: str | list[_Block] | None = None


class _Position(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    prompt_index: int = 0


class _TranscriptRecord(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    timestamp: str | None = None
    uuid: str | None = None
    cwd: str | None = None
    is_meta: bool | None = None
    is_sidechain: bool | None = None
    is_compact_summary: bool | None = None
    origin: Origin | None = None
    entrypoint: str | None = None
    message: _Message | None = None
    attachment: _Attachment | None = None
    turn_position: _Position | None = None
    custom_title: str | None = None
    ai_title: str | None = None
    summary: str | None = None
    last_prompt: str | None = None

    @property
    def prompt(self) -> str | None:
        """The prompt of a user, also one that was typed during a turn; None for every other record."""
        if self.is_meta or self.is_sidechain or self.is_compact_summary:
            return None
        if self.attachment is not None:
            queued = self.attachment.type == "queued_command"
            return _text(self.attachment.prompt) if queued and self.attachment.prompt else None
        if self.type != "user" or self.message is None or (self.origin is not None and self.origin.kind != "human"):
            return None
        text = _text(self.message.content)
        return text if text and not text.startswith((*_NO_PROMPTS, _INTERRUPTED)) else None

    @property
    def command(self) -> str | None:
        """The command of the CLI that a user typed, such as `/clear`; None for every other record."""
        text = _text(self.message.content) if self.type == "user" and self.message is not None else ""
        found = _COMMAND.search(text) if text.startswith("<command-") else None
        arguments = _ARGUMENTS.search(text)
        return f"{found[1]} {arguments[1] if arguments else ''}".strip() if found is not None else None

    @property
    def written_by(self) -> Literal["", "interactive", "print"]:
        """The kind of CLI that wrote it; 2.1.332 has the entrypoint `cli` in a terminal, and `sdk-cli` without one."""
        if self.entrypoint is None:
            return ""
        return "interactive" if self.entrypoint == "cli" else "print"

    @property
    def is_shown(self) -> bool:
        """Whether it says something to a user."""
        if self.is_meta or self.is_sidechain or self.type in _HIDDEN:
            return False
        return self.type != "user" or self.message is None or not _text(self.message.content).startswith(_NO_PROMPTS)


_NO_PROMPTS: Final = ("<local-command-", "<command-", "<system-reminder>", "<task-notification>", "<bash-")
"""Beginnings of what the CLI writes as a user's message for its own commands."""
_INTERRUPTED: Final = "[Request interrupted by user"
"""What the CLI writes as a user's message behind an interrupted turn; clients show it as a notice."""
_COMMAND: Final = re.compile(r"<command-name>(/[^<]{1,200})</command-name>")
_ARGUMENTS: Final = re.compile(r"<command-args>([^<]*)</command-args>")

_HIDDEN: Final = frozenset(
    (
        *("agent-color", "agent-name", "agent-setting", "ai-title", "api-request", "api-request-blob"),
        *("api-request-resumed", "api-request-shape", "atis-latch", "attachment", "attribution-snapshot"),
        *("content-replacement", "cost-state", "custom-title", "file-history-delta", "file-history-snapshot"),
        *("last-prompt", "mode", "permission-mode", "queue-operation", "summary", "tag", "tools-used"),
    )
)
"""Types of the CLI's own bookkeeping (2.1.332), which it shows to no user; others, also unknown ones, are shown."""


def _text(content: str | list[_Block]) -> str:
    """The text of a message; empty when it holds the results of tools."""
    if isinstance(content, str):
        return content
    if any(block.type == "tool_result" for block in content):
        return ""
    return "\n".join(block.text or f"[{block.type}]" for block in content)


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A record as clients see it.

    Attributes:
        start, end: its place in the file, with its newline.
        type: `prompt`, `agent_message` (whose data is the record itself), or `error`.
        at: when it was written; 0 when it does not say.
        data: JSON.
        message_id: the `uuid` of a prompt that begins a turn; empty for all others.
        written_by: the CLI that wrote it: `interactive`, or `print` for one without a terminal (`-p`, as agents of the
            server); empty when the record does not say.
    """

    start: int
    end: int
    type: Literal["prompt", "agent_message", "error"]
    at: Milliseconds
    data: bytes
    message_id: str = ""
    written_by: Literal["", "interactive", "print"] = ""


_decode: Final = msgspec.json.Decoder(_TranscriptRecord).decode
_encode: Final = msgspec.json.Encoder().encode


def _read(line: bytes) -> _TranscriptRecord | ErrorData:
    """A record; the error of a line that is not JSON."""
    try:
        if not line.isascii():
            line.decode()
        return _decode(line)
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        # Also fields of unexpected types and lone surrogates: the record is shown as it is.
        message = peek(line)
        if message.kind is not Kind.GARBAGE:
            return _TranscriptRecord(type=message.type)
        details: dict[str, object] = {"excerpt": message.excerpt}
        return ErrorData("INVALID_MESSAGE", f"The transcript has {message.reason}; it was left out.", details)


def show(line: Line | Oversized) -> Shown | None:
    """What clients see of a line; None for bookkeeping of the CLI."""
    if isinstance(line, Oversized):
        text = f"The transcript has a line of {line.length} bytes, more than claude.max_line allows; it was left out."
        start = line.end - line.length - 1
        return Shown(start, line.end, "error", Milliseconds(0), _encode(ErrorData("RESOURCE_LIMIT", text)))
    start = line.end - len(line.data) - 1
    record = _read(line.data)
    if isinstance(record, ErrorData):
        return Shown(start, line.end, "error", Milliseconds(0), _encode(record))
    at = _milliseconds(record.timestamp) or Milliseconds(0)
    prompt = record.prompt or record.command
    by = record.written_by
    if prompt is not None:
        data = _encode(PromptData(record.uuid or "", prompt, "terminal"))
        begins = record.prompt is not None and record.attachment is None
        return Shown(start, line.end, "prompt", at, data, (record.uuid or "") if begins else "", by)
    if not record.is_shown:
        return None
    return Shown(start, line.end, "agent_message", at, line.data, written_by=by)


LATEST: Final = Milliseconds(253_402_300_799_999)
"""The end of the year 9999; `datetime` has no later one."""


def _milliseconds(text: str | None) -> Milliseconds | None:
    try:
        at = Milliseconds(max(0, int(datetime.fromisoformat(text or "").timestamp() * 1000)))
    except (ValueError, OverflowError, OSError):
        return None
    return at if at <= LATEST else None


# ----------------------------------------------------------------------
# A session in a list.

TEXT_CHARACTERS: Final = 200


class Summary(msgspec.Struct, frozen=True):
    """What the beginning and the end of a session say about it.

    Attributes:
        directory: where it was begun; None when no record says so.
        title: as the CLI or its user named it, else the first prompt.
        turns: the prompts; an estimate when `estimated`.
    """

    directory: str | None
    title: str
    first_prompt: str
    created_at: Milliseconds | None
    last_active: Milliseconds | None
    turns: int
    estimated: bool


def summarize(head: bytes, tail: bytes, size: int) -> Summary:
    """Summarize a session; lines that cannot be read are skipped.

    Args:
        head: its beginning.
        tail: its end, behind `head`; the two may be all of it.
        size: the bytes of the session.
    """
    whole = len(head) + len(tail) >= size
    if whole:
        first, last = _records(head + tail), []
    else:
        first, last = _records(head[: head.rfind(b"\n") + 1]), _records(tail[tail.find(b"\n") + 1 :])
    records = first + last
    prompts = [text for record in records if (text := record.prompt) is not None]
    turns = len(prompts)
    if not whole:
        reached = max((one.turn_position.prompt_index for one in last if one.turn_position is not None), default=0)
        turns = max(turns, reached) if reached else turns * size // (len(head) + len(tail))
    times = [at for record in records if (at := _milliseconds(record.timestamp)) is not None]
    prompt = next((text for record in first if (text := record.prompt) is not None), "")
    prompt = prompt or _last(one.last_prompt for one in records) or ""
    title = (
        _last(one.custom_title for one in records)
        or _last(one.ai_title for one in records)
        or _last(one.summary for one in records)
    )
    return Summary(
        next((one.cwd for one in records if one.cwd), None),
        _one_line(title or prompt),
        _one_line(prompt),
        times[0] if times else None,
        times[-1] if times else None,
        turns,
        not whole,
    )


def _records(text: bytes) -> list[_TranscriptRecord]:
    found = []
    for line in text.splitlines():
        with suppress(UnicodeDecodeError, RecursionError, msgspec.DecodeError):
            found.append(_decode(line))
    return found


def _last(texts: Iterable[str | None]) -> str | None:
    found = [text for text in texts if text]
    return found[-1] if found else None


def _one_line(text: str) -> str:
    return " ".join(text[: TEXT_CHARACTERS * 4].split())[:TEXT_CHARACTERS]
