"""Where a conversation is shown: a terminal with a prompt at the bottom, or the output of a script."""

import sys
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pocket_agent.cli.chat.actions import key_of, settle
from pocket_agent.cli.chat.form import ELICITATION
from pocket_agent.cli.chat.transcript import Transcript
from pocket_agent.client import Client, Frame
from pocket_agent.errors import ApprovalNotFoundError

_STYLES = {True: "dim italic", False: ""}


class Screen:
    """A terminal whose last lines are the prompt: whole lines go above it, the unfinished line `tail` into it."""

    def __init__(self, console: Console) -> None:
        self.tail = ""
        self._console = console
        self._thinking = False

    def show(self, *lines: Text) -> None:
        self.end_live()
        for line in lines:
            self._print(line)

    def live(self, text: str, *, thinking: bool) -> None:
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
        if self.tail:
            self._print(Text(self.tail, _STYLES[self._thinking]))
        self.tail = ""

    def _cut(self) -> int:
        """The number of characters of the tail that fill a line, up to the last blank if there is one."""
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
    """The agent's text goes to standard output, without its thinking; all other lines go to standard error."""

    def __init__(self, out: TextIO | None = None, notes: Console | None = None) -> None:
        self._out = out or sys.stdout
        self._notes = notes or Console(stderr=True)
        self._open = False

    def show(self, *lines: Text) -> None:
        self.end_live()
        for line in lines:
            self._notes.print(line, soft_wrap=True)

    def live(self, text: str, *, thinking: bool) -> None:
        if text and not thinking:
            self._out.write(text)
            self._out.flush()
            self._open = not text.endswith("\n")

    def end_live(self) -> None:
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
    conversation: str | None = None,
    resume: str | None = None,
    approve: bool = False,
    as_json: bool = False,
    sink: Script | None = None,
) -> int:
    """Send one prompt and print the answer.

    Args:
        path: the project's directory, id or name; another directory becomes a project.
        conversation: the title or id of one of its conversations; None is the main one.
        resume: the session to continue.
        approve: allow every tool, and decline questions of MCP servers; otherwise another client has to answer.
        as_json: print the raw frames, one a line, instead of the answer.

    Returns:
        The exit status: 0 if the agent ended by itself and without an error.
    """
    key = key_of(await settle(client, path, conversation))
    if resume is not None:
        await client.resume(key, resume)
    transcript = Transcript(sink or Script())
    async with client.subscribe(key) as stream:
        execution_id = (await client.execute(key, prompt)).execution_id
        outcome = _Outcome(execution_id)
        async for frame in stream:
            if as_json:
                sys.stdout.buffer.write(frame.raw + b"\n")
                sys.stdout.buffer.flush()
            elif frame.type == "project_join" and outcome.began:
                transcript.joined(frame.data, behind=True)
            elif outcome.shows(frame):
                transcript.frame(frame.type, frame.data)
            outcome.follow(frame)
            if approve and outcome.began:
                await _approve(client, key, frame)
            if outcome.status is not None:
                return outcome.status
    return 1


class _Outcome:
    """Follows one execution to its end.

    Attributes:
        began: whether its turn has come.
        status: the exit status, once it has ended.
        paused: whether it waits for a usage limit, or for a decision.
    """

    def __init__(self, execution_id: str) -> None:
        self.began = False
        self.status: int | None = None
        self.paused = False
        self._failed = False
        self._execution_id = execution_id

    def shows(self, frame: Frame) -> bool:
        """Whether a frame is about this execution; what follows its error has been shown with it."""
        if self._failed:
            return frame.type == "execution_paused"
        return self.began or frame.type == "error" or bool(frame.data.get("queue_hold"))

    def follow(self, frame: Frame) -> None:
        match frame.type:
            case "prompt" if frame.data["execution_id"] == self._execution_id:
                self.began, self.paused, self._failed = True, False, False
            case "execution_paused" if frame.data["execution_id"] == self._execution_id:
                self.paused = True
            case "queue_state" if self.paused:
                waiting = {prompt["execution_id"] for prompt in frame.data["queue"]}
                self.status = None if self._execution_id in waiting else 1
            case "error":
                details = frame.data.get("details") or {}
                self.status = 1 if details.get("execution_id") == self._execution_id else None
            case "agent_message" if self.began:
                # An error may be a pause, which the next frames show.
                self._failed = _is_result(frame) and bool(frame.data.get("is_error"))
                self.status = 0 if _is_result(frame) and not self._failed else None
            case "project_state" if self.began and not self.paused:
                self.status = None if frame.data["state"] == "EXECUTING" else 1
            case "prompt" | "process_killed" | "project_deleted" if self.began:
                self.status = 1  # a later prompt has begun, or none can: this one ended without a result


def _is_result(frame: Frame) -> bool:
    return frame.offset is not None and frame.data.get("type") == "result"


async def _approve(client: Client, conversation_id: str, frame: Frame) -> None:
    if frame.type == "approval_requested":
        waiting = [frame.data]
    elif frame.type == "project_join":
        waiting = frame.data["approvals"]
    else:
        return
    for approval in waiting:
        try:
            if approval["tool_name"] == ELICITATION:
                await client.deny(conversation_id, str(approval["approval_id"]))
            else:
                await client.approve(conversation_id, str(approval["approval_id"]))
        except ApprovalNotFoundError:
            continue  # another client was faster
        except ConnectionError:
            return  # the reply to the next join has it again
