"""The terminal client: a conversation above, a prompt below, until the user leaves."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console

from pocket_agent.cli.chat.actions import (
    PATH_MAX,
    Actions,
    absolute,
    archive,
    begin,
    choose,
    delete,
    find_conversation,
    key_of,
    pick,
    pick_conversation,
    restore,
    title_of,
)
from pocket_agent.cli.chat.form import ELICITATION
from pocket_agent.cli.chat.screen import Screen
from pocket_agent.cli.chat.transcript import Transcript, one_line
from pocket_agent.client import Client, Frame, Status
from pocket_agent.errors import PocketAgentError, ProjectNotFoundError, ValidationError
from pocket_agent.model import Position
from pocket_agent.protocol.push import ProjectStateData, SessionResumedData
from pocket_agent.protocol.requests import MessageData, MessagesData

_HINT: Final = "y: allow   n [reason]: deny   a: allow for this session: {always}"
_LEAVE_WITHIN_SECONDS: Final = 2.0

Connect = Callable[[Callable[[Status], None]], Client]
"""Makes a client that reports its changes of state to the given function."""


async def run_terminal(
    connect: Connect,
    path: str | None,
    *,
    conversation: str | None = None,
    resume: str | None = None,
    history: int = 20,
    history_file: Path | None = None,
) -> int:
    """Run the terminal client until the user leaves; returns the exit status.

    Args:
        path: the project's directory, id or name; None is the current directory, or a choice.
        conversation: the title or id of one of its conversations; None is the only one, or a choice.
        resume: the session to continue.
        history: the number of entries to show at the start.
        history_file: keeps the typed lines; None keeps them in memory.
    """
    with patch_stdout(raw=True):
        terminal = Terminal(Console(file=sys.stdout, force_terminal=True, highlight=False), history_file)
        async with connect(terminal.on_status) as client:
            try:
                project = await choose(client, path, terminal.ask, terminal.say)
                if conversation is not None:
                    state = await find_conversation(client, project.id, conversation)
                else:
                    state = await pick_conversation(client, project.id, terminal.ask, terminal.say)
                while True:
                    another = await terminal.talk(client, state, history, resume)
                    if another is None:
                        break
                    state, resume = another, None
            except ProjectNotFoundError as error:
                terminal.say(error.message)
                return 1
            except (EOFError, KeyboardInterrupt):
                pass
            terminal.farewell()
    return 0


class Terminal:
    """Reads commands and prompts, and shows a project's conversation."""

    def __init__(self, console: Console, history_file: Path | None) -> None:
        self._screen = Screen(console)
        self._console = console
        self._transcript = Transcript(self._screen)
        self._offline = False
        self._warned = 0.0
        self._title = ""
        self._actions: Actions | None = None
        self._tasks: asyncio.TaskGroup | None = None
        kept = FileHistory(str(history_file)) if history_file is not None else InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            history=kept, key_bindings=self._keys(), erase_when_done=True, enable_open_in_editor=False
        )

    def say(self, text: str) -> None:
        """Show a line that is not part of a conversation."""
        self._console.print(text, markup=False, soft_wrap=True)

    async def ask(self, question: str) -> str:
        """Ask the user a question."""
        return await PromptSession[str]().prompt_async(question)

    def on_status(self, status: Status) -> None:
        """Show once that the connection is lost."""
        if not status.online and not self._offline:
            self._offline = True
            self._transcript.note(f"── offline: {status.reason} Reconnecting. ──")

    def farewell(self) -> None:
        goes_on = "The agent goes on working" if self._transcript.executing else "Nothing was stopped"
        self.say(f"{goes_on}; `pocket-agent chat` comes back to it.")

    async def talk(
        self, client: Client, project: ProjectStateData, history: int, resume: str | None
    ) -> ProjectStateData | None:
        """Run in a conversation until the user leaves (None) or switches to another one."""
        key, self._title = key_of(project), title_of(project)
        self._transcript = Transcript(self._screen, hint=_HINT)
        self._actions = Actions(client, key, self._transcript, lambda count: self._history(client, key, count))
        name = f"{one_line(project.name, 40)} / {self._title}" if self._title else one_line(project.name, 40)
        self.say(f"── {name}  {one_line(project.path, PATH_MAX)}  (/help) ──")
        if resume is not None:
            await client.resume(key, resume)
        since = await self._history(client, key, history)
        lines: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            workers = [
                tasks.create_task(self._follow(client, key, since)),
                tasks.create_task(self._carry_out(lines)),
            ]
            try:
                return await self._read(client, project, lines)
            finally:
                self._tasks = None
                for worker in workers:
                    worker.cancel()

    async def _read(
        self, client: Client, state: ProjectStateData, lines: asyncio.Queue[str]
    ) -> ProjectStateData | None:
        while True:
            try:
                line = (await self._session.prompt_async(self._message)).strip()
            except EOFError:
                return None
            if line == "/quit":
                return None
            command, _, rest = line.partition(" ")
            if command in {"/projects", "/switch", "/new", "/rename", "/archive", "/restore", "/delete"}:
                another = await self._another(client, state, command, rest.strip())
                if another is not None:
                    return another
            else:
                lines.put_nowait(line)  # an empty one matters in a form

    async def _another(
        self, client: Client, state: ProjectStateData, command: str, rest: str
    ) -> ProjectStateData | None:
        """The conversation that the user picks, begins or goes to, or the project, if any."""
        project_id = state.id
        try:
            match command:
                case "/rename" | "/delete" if key_of(state) == project_id:
                    raise ValidationError("The main conversation has the name of its project, and is deleted with it.")
                case "/rename":
                    self._title = title_of(await client.rename_conversation(key_of(state), rest or None))
                    return None
                case "/archive" | "/delete" if rest:
                    raise ValidationError(f"{command} takes no name: it is for the conversation that is shown.")
                case "/new":
                    another = begin(client, project_id, rest)
                case "/archive":
                    another = archive(client, state, self.say)
                case "/restore":
                    another = restore(client, project_id, rest, self.ask, self.say)
                case "/delete":
                    another = delete(client, state, self.ask, self.say)
                case "/switch" if rest:
                    another = find_conversation(client, project_id, rest)
                case _:
                    if command == "/projects":
                        project_id = (await pick(client, await client.projects(), absolute("."), self.ask, self.say)).id
                    another = pick_conversation(client, project_id, self.ask, self.say)
            return await another
        except (EOFError, KeyboardInterrupt):
            self.say("The conversation stays.")
        except (PocketAgentError, TimeoutError) as error:
            self.say(str(error))
        return None

    async def _carry_out(self, lines: asyncio.Queue[str]) -> None:
        assert self._actions is not None
        while True:
            await self._attempt(self._actions.carry_out(await lines.get()))

    async def _attempt(self, action: Awaitable[None]) -> None:
        """Wait for an action; its error becomes a note."""
        try:
            await action
        except (PocketAgentError, TimeoutError) as error:
            self._transcript.note(str(error), "red")

    async def _follow(self, client: Client, conversation_id: str, since: Position) -> None:
        try:
            async with client.subscribe(conversation_id, since) as stream:
                async for frame in stream:
                    if frame.type == "project_join":
                        self._joined(frame)
                    else:
                        self._transcript.frame(frame.type, frame.data)
                    self._session.app.invalidate()
        except PocketAgentError as error:
            self._transcript.note(f"{error.message} This conversation is no longer updated.", "bold red")

    def _joined(self, frame: Frame) -> None:
        if frame.gap:
            self._transcript.note("── entries in between were deleted ──", "bold red")
        elif self._offline and frame.position is not None:
            missed = frame.data["offset"] - frame.position.offset
            self._transcript.note(f"── back; {missed} entries to catch up with ──" if missed else "── back ──")
        self._offline = False
        behind = frame.position is None or frame.data["offset"] > frame.position.offset
        self._transcript.joined(frame.data, behind=behind)

    async def _history(self, client: Client, conversation_id: str, count: int) -> Position:
        """Show the newest entries; returns the end of the log."""
        page = await client.messages(conversation_id, limit=max(1, count))
        past = Transcript(self._screen)
        for message in [*await _before_log(client, conversation_id, page, count), *page.messages] if count else []:
            if message.type != "approval_requested":  # the reply to the join has those that are open
                past.frame(message.type, json.loads(bytes(message.message)))
        return Position(page.metadata.epoch, page.metadata.last_offset)

    def _message(self) -> StyleAndTextTuples:
        parts: StyleAndTextTuples = []
        if self._screen.tail:
            parts.append(("", self._screen.tail + "\n"))
        if self._actions is not None and self._actions.form is not None:
            parts.append(("bold fg:ansiyellow", "form "))
        elif self._transcript.approvals:
            is_question = next(iter(self._transcript.approvals.values()))["tool_name"] == ELICITATION
            parts.append(("bold fg:ansiyellow", "y/n/c " if is_question else "y/n/a "))
        elif self._transcript.executing:
            parts.append(("fg:ansicyan", "… "))
        if self._offline:
            parts.append(("fg:ansired", "offline "))
        if self._title:
            parts.append(("fg:ansibrightblack", f"{one_line(self._title, 30)} "))
        parts.append(("bold", "> "))
        return parts

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        # While text is printed above the prompt, the terminal turns Ctrl-C into a signal.
        @keys.add("c-c")
        @keys.add("<sigint>")
        def _interrupt(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            elif self._transcript.executing:
                if self._tasks is not None and self._actions is not None:
                    self._transcript.note("interrupting…")
                    self._tasks.create_task(self._attempt(self._actions.interrupt()))
            elif time.monotonic() - self._warned < _LEAVE_WITHIN_SECONDS:
                event.app.exit(exception=EOFError())
            else:
                self._warned = time.monotonic()
                self._transcript.note("The agent is idle; Ctrl-C again leaves.")

        return keys


async def _before_log(client: Client, conversation_id: str, page: MessagesData, count: int) -> Sequence[MessageData]:
    """The newest records of the session that the log continues, when the page has fewer entries than `count`."""
    first = page.messages[0] if page.messages else None
    missing = count - len(page.messages)
    if first is None or first.type != "session_resumed" or first.offset != page.metadata.first_offset or missing < 1:
        return ()
    resumed = msgspec.json.decode(bytes(first.message), type=SessionResumedData)
    if resumed.end is None:
        return ()
    try:
        found = await client.session_history(conversation_id, resumed.session_id, before=resumed.end, limit=missing)
    except PocketAgentError:  # the CLI has deleted the session
        return ()
    return found.messages
