"""The turns that a terminal makes in a conversation's session: taken from the CLI's own file into the log, once each.

The log has what the server's own process says from its spool. A CLI in a terminal that continues the session writes
only to the session's file. `ConversationRecord.transcript` is the position up to which that file is known. It changes
in the transaction that stores the entries, so that a server which is killed takes in nothing twice. Only what an
interactive CLI wrote is taken in: the server's own agents write into the same file, also records that no prompt of a
user explains. So it does no harm when the position is older than the end of the last own turn.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from pocket_agent.claude.stream import peek
from pocket_agent.claude.transcript_records import Shown
from pocket_agent.claude.transcripts import Continued, Transcripts
from pocket_agent.conversation.conversation_log import Draft, entry_draft, now
from pocket_agent.conversation.state import State
from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.model import Direction, Milliseconds, TranscriptMark
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import PromptData, TerminalTurnsData

_decode_prompt: Final = msgspec.json.Decoder(PromptData).decode


class TerminalTurns:
    """Takes the turns of terminals into one conversation's log. Callers of its methods hold the conversation's mutex.

    Args:
        directories: the real paths of the project's directory and of the conversation's.
        transcripts: the sessions of the machine; None takes nothing in.

    Attributes:
        wake: set when a terminal may have made turns.
    """

    def __init__(self, state: State, directories: Sequence[str], transcripts: Transcripts | None) -> None:
        self.wake = asyncio.Event()
        self._state = state
        self._directories = directories
        self._transcripts = transcripts

    @property
    def may_come(self) -> bool:
        """Whether a terminal may continue the session, and a client would see it."""
        record = self._state.record
        is_resumable = self._transcripts is not None and record.session_id is not None and not record.fork
        return is_resumable and self._state.log.channel.subscribers > 0

    @property
    def is_unknown(self) -> bool:
        """Whether it is not known how much of the session's file is history, as of a copy of another session."""
        return self._state.record.session_id is not None and self._state.record.transcript is None

    async def is_open(self) -> bool:
        """Whether a terminal has the session open; not if that cannot be read."""
        if self._transcripts is None:
            return False
        with suppress(FileOperationError):
            return self._state.record.session_id in await self._transcripts.running()
        return False

    async def take_in(self) -> bool:
        """Store the records of terminals that are not in the log yet; returns whether there were any.

        A directory that cannot be read has none.

        Raises:
            FileOperationError: the store refused; the next call takes in the rest.
        """
        record = self._state.record
        if self._transcripts is None or record.session_id is None or record.fork:
            return False
        found = False
        while True:
            mark = self._state.record.transcript
            if mark is not None and mark.session_id != record.session_id:
                mark = None
            place = (mark.position, mark.digest) if mark is not None else (None, "")
            try:
                batch = await self._transcripts.continued(self._directories, record.session_id, *place)
            except (FileOperationError, ValidationError):  # it does not answer, or the CLI has deleted the session
                return found
            if mark is None:  # the records that exist now are history
                after = TranscriptMark(record.session_id, batch.end, batch.digest)
                await self._state.log.write(record={"transcript": after})
            elif await self._store_batch(mark, batch):
                found = True
            if not batch.more:
                return found

    async def _store_batch(self, mark: TranscriptMark, batch: Continued) -> bool:
        """Store a batch, and its end with it; returns whether it has records of a terminal."""
        state = self._state
        drafts, in_terminal = _drafts(mark, batch.lines)
        if batch.replaced:
            drafts = [entry_draft("terminal_turns", TerminalTurnsData(mark.session_id, lost=True))]
            in_terminal = False
        after = TranscriptMark(mark.session_id, batch.end, batch.digest, in_terminal)
        if drafts:
            await state.log.write(drafts, record={"transcript": after}, after=state.announce)
        else:
            state.log.note(transcript=after)
        return bool(drafts) and not batch.replaced


def _drafts(mark: TranscriptMark, lines: Sequence[Shown]) -> tuple[list[Draft], bool]:
    """The entries of the terminals' records among these, and whether the last record is of a terminal."""
    drafts: list[Draft] = []
    in_terminal = mark.in_terminal
    for line in lines:
        before = in_terminal
        if line.written_by:
            in_terminal = line.written_by == "interactive"
        if not in_terminal:
            continue
        if not before:
            drafts.append(entry_draft("terminal_turns", TerminalTurnsData(mark.session_id)))
        drafts.append(_draft(line))
    return drafts, in_terminal


def _draft(line: Shown) -> Draft:
    if line.type != "prompt":
        return Draft(line.type, line.data, Direction.CLAUDE, peek(line.data).said)
    at = line.at or Milliseconds(now())
    prompt = replace(_decode_prompt(line.data), typed_at=timestamp(at))
    return entry_draft("prompt", prompt, Direction.CLIENT, said=prompt.prompt)
