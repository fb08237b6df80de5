"""The output of a conversation: a terminal with a prompt below, or the standard output of a script."""

import sys
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pocket_agent.cli.chat.actions import settle
from pocket_agent.cli.chat.transcript import Transcript
from pocket_agent.client import Client, Frame
from pocket_agent.errors import ApprovalNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

# ----------------------------------------------------------------------
# The output: a terminal, or the standard output of a script.

_STYLES = {True: "dim italic", False: ""}


class Screen:
    """A terminal whose last lines belong to the prompt: whole lines go above it, what is unfinished into it.

    Attributes:
        tail: the unfinished line of the text that is being written.
    """

    def __init__(self, console: Console) -> None:
        self.tail = ""
        self._console = console
        self._thinking = False

    def show(self, *lines: Text) -> None:
        """Show whole lines."""
        self.end_live()
        for line in lines:
            self._print(line)

    def live(self, text: str, *, thinking: bool) -> None:
        """Go on with the text that is being written; what fills a line is shown above the prompt."""
        if thinking is not self._thinking:
            self.end_live()
        self._thinking = thinking
        *whole, self.tail = (self.tail + text).split("\n")
        for line in whole:
            self._print(Text(line, _STYLES[thinking]))
        while cell_len(self.tail) >= self._console.width:
            cut = self._cut()
            self._print(Text(self.tail[:cut].rstrip(), _STYLES[thinking]))
            self.tail = self.tail[cut:]

    def end_live(self) -> None:
        """The text that was being written is complete."""
        if self.tail:
            self._print(Text(self.tail, _STYLES[self._thinking]))
        self.tail = ""

    def _cut(self) -> int:
        """How many characters of the tail fill a line, up to the last blank if there is one."""
        width, fits = 0, 0
        for character in self.tail:
            width += cell_len(character)
            if width >= self._console.width:
                break
            fits += 1
        blank = self.tail.rfind(" ", 0, fits)
        return max(1, blank + 1 if blank > 0 else fits)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


class Script:
    """Standard output gets what the agent says, standard error all the rest."""

    def __init__(self, out: TextIO | None = None, notes: Console | None = None) -> None:
        self._out = out or sys.stdout
        self._notes = notes or Console(stderr=True)
        self._open = False

    def show(self, *lines: Text) -> None:
        """Show whole lines."""
        self.end_live()
        for line in lines:
            self._notes.print(line, soft_wrap=True)

    def live(self, text: str, *, thinking: bool) -> None:
        """Go on with the text that is being written; thinking is left out."""
        if text and not thinking:
            self._out.write(text)
            self._out.flush()
            self._open = not text.endswith("\n")

    def end_live(self) -> None:
        """The text that was being written is complete."""
        if self._open:
            self._out.write("\n")
            self._out.flush()
            self._open = False


# ----------------------------------------------------------------------
# One prompt without a terminal: for scripts.


async def run_prompt(
    client: Client,
    path: str,
    prompt: str,
    *,
    resume: str | None = None,
    approve: bool = False,
    as_json: bool = False,
    sink: Script | None = None,
) -> int:
    """Send one prompt and print the answer.

    Args:
        client: connected.
        path: the project's directory, id or name; a directory that is not a project yet becomes one.
        prompt: the text.
        resume: the session to continue.
        approve: allow every tool; otherwise another client must answer.
        as_json: print the raw frames, one a line, instead of the answer.
        sink: prints the answer.

    Returns:
        The exit status: 0 if the execution ended by itself and without an error.
    """
    project = await settle(client, path)
    if resume is not None:
        await client.resume(project.id, resume)
    transcript = Transcript(sink or Script())
    async with client.subscribe(project.id) as stream:
        execution_id = (await client.execute(project.id, prompt)).execution_id
        verdict = _Verdict(execution_id)
        async for frame in stream:
            if as_json:
                sys.stdout.buffer.write(frame.raw + b"\n")
                sys.stdout.buffer.flush()
            elif frame.type == "project_join" and verdict.began:
                transcript.joined(frame.data, behind=True)
            elif verdict.began or frame.type == "error" or frame.data.get("queue_hold"):
                transcript.frame(frame.type, frame.data)
            verdict.hear(frame)
            if approve and verdict.began:
                await _approve(client, frame, verdict)
            if verdict.status is not None:
                return verdict.status
    return 1


class _Verdict:
    """Follows one execution to its end.

    Attributes:
        began: whether the execution has started.
        status: the exit status, after its end.
    """

    def __init__(self, execution_id: str) -> None:
        self.began = False
        self.status: int | None = None
        self._execution_id = execution_id
        self._rules: dict[str, Callable[[Frame], int | None]] = {
            "prompt": lambda _: 1,  # the next one has started, and this one had no result
            "agent_message": _result,
            "process_killed": lambda _: 1,
            "project_deleted": lambda _: 1,
            "project_state": lambda frame: None if frame.data["state"] == "EXECUTING" else 1,
        }

    def hear(self, frame: Frame) -> None:
        """Take note of a frame."""
        if frame.type == "prompt" and frame.data["execution_id"] == self._execution_id:
            self.began = True
        elif frame.type == "error":
            self.status = self._error(frame)
        elif self.began and frame.type in self._rules:
            self.status = self._rules[frame.type](frame)

    def _error(self, frame: Frame) -> int | None:
        details = frame.data.get("details") or {}
        return 1 if details.get("execution_id") == self._execution_id else None


def _result(frame: Frame) -> int | None:
    if frame.offset is None or frame.data.get("type") != "result":
        return None
    return 1 if frame.data.get("is_error") else 0


async def _approve(client: Client, frame: Frame, verdict: _Verdict) -> None:
    if frame.type == "approval_requested":
        waiting = [frame.data]
    elif frame.type == "project_join":
        waiting = frame.data["approvals"]
    else:
        return
    for approval in waiting:
        try:
            await client.approve(str(frame.project_id), str(approval["approval_id"]))
        except ApprovalNotFoundError:
            continue  # another client was faster
        except ConnectionError:
            return  # the next join has the open approvals again
