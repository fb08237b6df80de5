"""What a line typed into the terminal means, and which project it is for."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from pocket_agent.cli.chat.transcript import Transcript, one_line
from pocket_agent.client import Client
from pocket_agent.errors import ProjectNotFoundError, ValidationError
from pocket_agent.protocol.push import ProjectStateData
from pocket_agent.protocol.requests import PathInspectData

# ----------------------------------------------------------------------
# The project to talk in.

PATH_MAX: Final = 4096
"""Linux's limit on the length of a path: a path is shown whole, or it cannot be copied."""

Ask = Callable[[str], Awaitable[str]]
"""Asks a person a question and returns the answer."""


def find(projects: list[ProjectStateData], path: str) -> ProjectStateData | None:
    """The project in the directory `path`, or the one with that id or name."""
    real = os.path.realpath(path)
    for project in projects:
        if os.path.realpath(project.path) == real:
            return project
    named = [project for project in projects if path in {project.id, project.name}]
    return named[0] if len(named) == 1 else None


def absolute(path: str) -> str:
    """`path` from the root, symlinks left as they are."""
    return str(Path(path).absolute())


async def settle(client: Client, path: str) -> ProjectStateData:
    """The project at `path`, made one if it is none, without asking."""
    found = find(await client.projects(), path)
    return found if found is not None else await client.create_project(absolute(path))


async def choose(client: Client, path: str | None, ask: Ask, say: Callable[[str], None]) -> ProjectStateData:
    """Let a person pick a project, or make one.

    Raises:
        ProjectNotFoundError: they did not want any.
    """
    projects = await client.projects()
    here = absolute(path or ".")
    found = find(projects, path or here)
    if found is not None:
        return found
    if path is not None or not projects:
        # Not part of the question: the terminal would break the path at its width, and a user could not copy it.
        say(f"{one_line(here, PATH_MAX)} is no project yet.")
        shown = await inspect_new(client, here, say)
        return await make(client, here, "Make it one? [y/n] ", ask, shown.hash)
    return await pick(client, projects, here, ask, say)


async def pick(
    client: Client, projects: list[ProjectStateData], here: str, ask: Ask, say: Callable[[str], None]
) -> ProjectStateData:
    """Let a person pick one of `projects` by its number, or make one of the directory `here`.

    Raises:
        ProjectNotFoundError: they did not want any.
    """
    for number, project in enumerate(projects, 1):
        say(f"{number:>3}  {one_line(project.name, 40)}  {one_line(project.path, PATH_MAX)}  {project.state}")
    say(f"  n  make a project of {one_line(here, PATH_MAX)}")
    answer = (await ask("Which one? ")).strip().lower()
    if answer == "n":
        shown = await inspect_new(client, here, say)
        if shown.claims:
            return await make(client, here, "Make it a project all the same? [y/n] ", ask, shown.hash)
        return await client.create_project(here, shown=shown.hash or None)
    if answer.isdecimal() and 1 <= int(answer) <= len(projects):
        return projects[int(answer) - 1]
    raise ProjectNotFoundError("No project was chosen.")


async def inspect_new(client: Client, here: str, say: Callable[[str], None]) -> PathInspectData:
    """Show what a directory has the CLI do without asking and nobody has accepted for it; returns all that it does."""
    found = await client.inspect_all(here)
    new = found.claims[: found.new] if found.project_id is not None else found.claims
    if new:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(str(claim.kind) for claim in new).items())
        what = "new or changed settings" if found.project_id is not None else "settings"
        say(f"{one_line(here, PATH_MAX)} has {what} of its own, which the CLI follows without asking ({kinds}):")
    for claim in new:
        # Whole: what is cut off could be what matters.
        say(f"  {one_line(claim.file, 4096)}: {claim.kind} {one_line(claim.text, len(claim.text) * 10)}")
    return found


async def make(client: Client, here: str, question: str, ask: Ask, shown: str) -> ProjectStateData:
    """Make a directory a project if a person wants that, with the settings that have the hash `shown`.

    Raises:
        ProjectNotFoundError: they did not.
    """
    answer = await ask(question)
    if answer.strip().lower() not in {"y", "yes"}:
        raise ProjectNotFoundError("No project was chosen.")
    return await client.create_project(here, shown=shown or None)


# ----------------------------------------------------------------------
# Commands and prompts.

HELP: Final = """\
Type a prompt and press Enter; while the agent works it waits in the queue.
y, a, n [reason]      allow, allow for this session, or deny the oldest thing that the agent asks for
/projects             talk in another project
/new                  begin a fresh conversation
/sessions             list the conversations
/resume ID            go on with one of them
/kill                 end the execution, what runs in the background, and all its processes
/queue                list the prompts that wait
/continue             let the prompts that wait go on after the queue was on hold
/trust [yes]          show what is new in the project's own settings; yes accepts what was shown
/cancel N, /edit N T  withdraw a waiting prompt, or change its text to T
/model [M]            choose the model; without M the default
/mode M               choose the permission mode
/history N            show the last N entries
/quit                 leave; the agent goes on (also Ctrl-D)
Ctrl-C                interrupt the agent; twice when it is idle: leave"""


class Actions:
    """Carries out what is typed for one project."""

    def __init__(
        self,
        client: Client,
        project_id: str,
        transcript: Transcript,
        show_history: Callable[[int], Awaitable[object]],
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._transcript = transcript
        self._show_history = show_history
        self._shown: str | None = None
        self._commands: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "help": self._help,
            "new": self._new,
            "sessions": self._sessions,
            "resume": self._resume,
            "kill": self._kill,
            "queue": self._queue,
            "continue": self._continue,
            "trust": self._trust,
            "cancel": self._cancel,
            "edit": self._edit,
            "model": self._model,
            "mode": self._mode,
            "history": self._history,
        }

    async def carry_out(self, line: str) -> None:
        """Do what a line says.

        Raises:
            PocketAgentError: the server refused it, or it makes no sense.
        """
        if line.startswith("/"):
            name, _, rest = line[1:].partition(" ")
            command = self._commands.get(name)
            if command is None:
                raise ValidationError(f"There is no command /{one_line(name, 40)}; /help lists them.")
            await command(rest.strip())
        elif not await self._answered(line):
            await self._prompt(line)

    async def interrupt(self) -> None:
        """Ask the agent to stop."""
        await self._client.interrupt(self._project_id)

    async def _answered(self, line: str) -> bool:
        """Whether the line was an answer to what the agent asks for."""
        word, _, reason = line.strip().partition(" ")
        if not self._transcript.approvals or word not in {"y", "n", "a"} or (reason and word != "n"):
            return False
        approval_id = next(iter(self._transcript.approvals))
        if word == "n":
            await self._client.deny(self._project_id, approval_id, reason.strip() or None)
        else:
            await self._client.approve(self._project_id, approval_id, remember=word == "a")
        return True

    async def _prompt(self, text: str) -> None:
        if not self._client.online:
            self._transcript.note("offline; the prompt is sent, once, when the server is back")
        reply = await self._client.execute(self._project_id, text)
        if reply.status == "queued":
            self._transcript.note(f"queued, at place {reply.position}")

    async def _help(self, _: str) -> None:
        self._transcript.note(HELP, "")

    async def _new(self, _: str) -> None:
        await self._client.new_session(self._project_id)

    async def _sessions(self, _: str) -> None:
        sessions = await self._client.sessions(self._project_id)
        if not sessions:
            self._transcript.note("There is no conversation yet.")
        for session in sessions:
            mark = "*" if session.current else " "
            title = one_line(session.title, 60)
            self._transcript.note(f"{mark} {session.session_id}  {session.last_active[:16]}  {title}", "")

    async def _resume(self, session_id: str) -> None:
        await self._client.resume(self._project_id, session_id)
        self._transcript.note(f"The next prompt goes on with conversation {session_id}.")

    async def _kill(self, _: str) -> None:
        await self._client.kill(self._project_id)

    async def _queue(self, _: str) -> None:
        if not self._transcript.queue:
            self._transcript.note("No prompt waits.")
        elif self._transcript.hold:
            self._transcript.note(f"On hold: {self._transcript.hold} ({self._transcript.way_out})")
        for waiting in self._transcript.queue:
            self._transcript.note(f"{waiting['position']:>3}  {one_line(str(waiting['prompt']), 120)}", "")

    async def _continue(self, _: str) -> None:
        await self._client.resume_queue(self._project_id)

    async def _trust(self, answer: str) -> None:
        """Show what nobody has accepted yet, or accept what was shown last."""
        if answer == "yes":
            if self._shown is None:
                raise ValidationError("Look at the settings first: /trust")
            await self._client.trust_project(self._project_id, self._shown)
            self._shown = None
            self._transcript.note("accepted")
            return
        if answer:
            raise ValidationError("Say /trust to look at the settings, and /trust yes to accept them.")
        project = next((one for one in await self._client.projects() if one.id == self._project_id), None)
        if project is None:
            raise ProjectNotFoundError("The project was deleted.")
        found = await inspect_new(self._client, project.path, lambda text: self._transcript.note(text, ""))
        self._shown = found.hash
        self._transcript.note("/trust yes accepts this" if found.new else "Nothing in its settings is new.")

    async def _cancel(self, rest: str) -> None:
        await self._client.cancel_prompt(self._project_id, self._waiting(rest))
        self._transcript.note("withdrawn")

    async def _edit(self, rest: str) -> None:
        number, _, text = rest.partition(" ")
        if not text.strip():
            raise ValidationError("Say which waiting prompt and its new text: /edit 1 the new text")
        await self._client.edit_prompt(self._project_id, self._waiting(number), text.strip())
        self._transcript.note("changed")

    def _waiting(self, number: str) -> str:
        """The execution of a waiting prompt by its place in the queue."""
        for waiting in self._transcript.queue:
            if str(waiting["position"]) == number.strip():
                return str(waiting["execution_id"])
        raise ValidationError("No prompt waits at that place; /queue lists them.")

    async def _model(self, name: str) -> None:
        await self._client.set_model(self._project_id, name or None)
        self._transcript.note(f"model: {name or 'the default'}")

    async def _mode(self, mode: str) -> None:
        await self._client.set_permission_mode(self._project_id, mode)
        self._transcript.note(f"permission mode: {mode}")

    async def _history(self, number: str) -> None:
        if not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise ValidationError("Say how many entries, from 1 to 1000: /history 50")
        await self._show_history(int(number))
