"""The commands and prompts of the terminal client, and the choice of a project and a conversation."""

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from pocket_agent.cli.chat.form import ELICITATION, Form
from pocket_agent.cli.chat.transcript import Transcript, one_line, task_line
from pocket_agent.client import Client
from pocket_agent.errors import ProjectNotFoundError, ValidationError
from pocket_agent.model import ProjectState, project_of
from pocket_agent.protocol.push import LastLineData, ProjectStateData, WorktreeData
from pocket_agent.protocol.requests import PathInspectData, SessionId, WorktreeRequest

# ----------------------------------------------------------------------
# The project to talk in.

PATH_MAX: Final = 4096
"""Linux's limit on the length of a path: paths are shown in full, so that a user can copy them."""

Ask = Callable[[str], Awaitable[str]]
"""Asks the user a question and returns the answer."""


def find(projects: list[ProjectStateData], path: str) -> ProjectStateData | None:
    """The project in the directory `path`, or the one with that id or name."""
    real = os.path.realpath(path)
    for project in projects:
        if os.path.realpath(project.path) == real:
            return project
    named = [project for project in projects if path in {project.id, project.name}]
    return named[0] if len(named) == 1 else None


def absolute(path: str) -> str:
    """The absolute path, with its symlinks."""
    return str(Path(path).absolute())


async def settle(client: Client, path: str, conversation: str | None) -> ProjectStateData:
    """The project at `path`, or one of its conversations; another directory becomes a project, without asking.

    Raises:
        ProjectNotFoundError: it has no such conversation.
    """
    found = find(await client.projects(), path)
    project = found if found is not None else await client.create_project(absolute(path))
    return project if conversation is None else await find_conversation(client, project.id, conversation)


async def choose(client: Client, path: str | None, ask: Ask, say: Callable[[str], None]) -> ProjectStateData:
    """Let the user pick a project, or create one.

    Raises:
        ProjectNotFoundError: the user chose none.
    """
    projects = await client.projects()
    here = absolute(path or ".")
    found = find(projects, path or here)
    if found is not None:
        return found
    if path is not None or not projects:
        # Not part of the question: the terminal would break the path at its width, and a user could not copy it.
        say(f"{one_line(here, PATH_MAX)} is not a project yet.")
        shown = await inspect_new(client, here, say)
        return await make(client, here, "Make it one? [y/n] ", ask, shown.hash)
    return await pick(client, projects, here, ask, say)


async def pick(
    client: Client, projects: list[ProjectStateData], here: str, ask: Ask, say: Callable[[str], None]
) -> ProjectStateData:
    """Let the user pick one of `projects` by its number, or make the directory `here` a project.

    Raises:
        ProjectNotFoundError: the user chose none.
    """
    for number, project in enumerate(projects, 1):
        facts = [one_line(project.name, 40), one_line(project.path, PATH_MAX), state_word(project), *last_line(project)]
        say(f"{number:>3}  {'  '.join(facts)}")
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
    """Show the claims of a directory that no user has accepted; returns all of its claims."""
    found = await client.inspect_all(here)
    new = found.claims[: found.new] if found.project_id is not None else found.claims
    if new:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(str(claim.kind) for claim in new).items())
        what = "new or changed settings" if found.project_id is not None else "settings"
        say(f"{one_line(here, PATH_MAX)} has {what} of its own, which the CLI follows without asking ({kinds}):")
    for claim in new:
        # In full, since the end could be the part that matters.
        say(f"  {one_line(claim.file, 4096)}: {claim.kind} {one_line(claim.text, len(claim.text) * 10)}")
    return found


async def make(client: Client, here: str, question: str, ask: Ask, shown: str) -> ProjectStateData:
    """Make a directory a project if the user agrees, with the claims that have the hash `shown`.

    Raises:
        ProjectNotFoundError: the user did not agree.
    """
    await _agree(ask, question, "No project was chosen.")
    return await client.create_project(here, shown=shown or None)


async def _agree(ask: Ask, question: str, otherwise: str) -> None:
    """Raise ProjectNotFoundError with the text `otherwise` unless the user says yes."""
    if (await ask(question)).strip().lower() not in {"y", "yes"}:
        raise ProjectNotFoundError(otherwise)


# ----------------------------------------------------------------------
# The conversation to talk in.

_TITLE_MAX: Final = 60


def key_of(state: ProjectStateData) -> str:
    """The id of a conversation, which is that of its project for the main one."""
    return state.conversation_id if isinstance(state.conversation_id, str) else state.id


def title_of(state: ProjectStateData) -> str:
    """The title of a conversation, or its first prompt; empty for the main one."""
    if key_of(state) == state.id:
        return ""
    return one_line(state.title or state.session_title or "new conversation", _TITLE_MAX)


def summary(state: ProjectStateData) -> str:
    """A conversation in a list: its title, its state and the branch of its worktree."""
    parts = [title_of(state) or "main conversation", state_word(state)]
    if isinstance(state.worktree, WorktreeData):
        parts.append(one_line(state.worktree.branch, _TITLE_MAX))
    return "  ".join([*parts, *last_line(state)])


def state_word(state: ProjectStateData) -> str:
    """The state of a conversation, or what it waits for."""
    if state.pending_approvals > 0:
        return "waits for approval"
    is_held = state.queue_hold is not None and state.state is not ProjectState.EXECUTING
    return "on hold" if is_held else str(state.state)


def last_line(state: ProjectStateData) -> list[str]:
    """What was said last in a conversation, with its time; empty before the first prompt."""
    line = state.last_line
    if not isinstance(line, LastLineData):
        return []
    return [f"{line.at[:16]}Z", f"{'> ' if line.by == 'user' else ''}{one_line(line.text, _TITLE_MAX)}"]


async def find_conversation(client: Client, project_id: str, wanted: str) -> ProjectStateData:
    """The conversation with this id, or with this title if only it has that.

    Raises:
        ProjectNotFoundError: no conversation has the title, or several have it.
    """
    found = (await client.conversations(project_id, archived=True)).conversations
    named = [state for state in found if key_of(state) == wanted] or [one for one in found if one.title == wanted]
    if len(named) == 1:
        return named[0]
    some = "Several conversations have" if named else "No conversation of this project has"
    raise ProjectNotFoundError(f"{some} the title or id {one_line(wanted, _TITLE_MAX)!r}; /conversations lists them.")


async def pick_conversation(
    client: Client, project_id: str, ask: Ask, say: Callable[[str], None], *, archived: bool = False
) -> ProjectStateData:
    """Let the user pick a conversation, or an archived one, by its number; the only one without a question.

    Raises:
        ProjectNotFoundError: the user chose none, or none is archived.
    """
    listed = (await client.conversations(project_id, archived=archived)).conversations
    found = [state for state in listed if bool(state.archived) or not archived]
    if not found:
        raise ProjectNotFoundError("No conversation of this project is archived.")
    if len(found) == 1:
        return found[0]
    for number, state in enumerate(found, 1):
        say(f"{number:>3}  {summary(state)}")
    answer = (await ask("Which conversation? [1] ")).strip() or "1"
    if answer.isdecimal() and 1 <= int(answer) <= len(found):
        return found[int(answer) - 1]
    raise ProjectNotFoundError("No conversation was chosen.")


async def begin(client: Client, project_id: str, rest: str) -> ProjectStateData:
    """Begin a conversation with a title, behind `--worktree[=BRANCH]` in a git worktree.

    Raises:
        ValidationError: there is no such option, or the server refused it.
    """
    option, _, title = rest.partition(" ")
    name, _, branch = option.partition("=")
    if name == "--worktree":
        worktree = WorktreeRequest(branch=branch or None)
        return await client.create_conversation(project_id, title=title.strip() or None, worktree=worktree)
    if name.startswith("--"):
        raise ValidationError(f"There is no option {one_line(name, 40)}: /new [--worktree[=BRANCH]] [TITLE]")
    return await client.create_conversation(project_id, title=rest or None)


async def archive(client: Client, state: ProjectStateData, say: Callable[[str], None]) -> ProjectStateData:
    """Archive a conversation; returns the main one."""
    await client.archive_conversation(key_of(state))
    say("The conversation is archived; /restore brings it back.")
    return await find_conversation(client, state.id, state.id)


async def restore(
    client: Client, project_id: str, wanted: str, ask: Ask, say: Callable[[str], None]
) -> ProjectStateData:
    """Restore the archived conversation with this title or id, or the one that the user picks."""
    if wanted:
        state = await find_conversation(client, project_id, wanted)
    else:
        state = await pick_conversation(client, project_id, ask, say, archived=True)
    return await client.archive_conversation(key_of(state), archived=False)


async def delete(client: Client, state: ProjectStateData, ask: Ask, say: Callable[[str], None]) -> ProjectStateData:
    """Delete a conversation if the user agrees, twice if only its worktree has some work; returns the main one.

    Raises:
        ProjectNotFoundError: the user did not agree.
    """
    has_tree = isinstance(state.worktree, WorktreeData)
    files = f"and its worktree with all files: {one_line(state.path, PATH_MAX)}" if has_tree else "files are kept."
    say(f"The log of this conversation is deleted from the server, {files}")
    await _agree(ask, "Delete it? [y/n] ", "The conversation stays.")
    try:
        deleted = await client.delete_conversation(key_of(state))
    except ValidationError as error:
        if "changes" not in error.details:
            raise
        say(f"{error.message.partition('. ')[0]}.")
        await _agree(ask, "Delete this work for good? [y/n] ", "The conversation stays.")
        deleted = await client.delete_conversation(key_of(state), discard=True)
    if deleted.kept_branch is not None:
        say(f"The branch {one_line(deleted.kept_branch, PATH_MAX)} is kept.")
    return await find_conversation(client, state.id, state.id)


# ----------------------------------------------------------------------
# Commands and prompts.

_LATE_SECONDS: Final = 2.0
"""An answer that is typed so soon after the end of a request was meant for that, not for the next one or the agent."""

HELP: Final = """\
Type a prompt and press Enter; while the agent works it waits in the queue.
y, a, n [reason]      allow, allow for this session, or deny the oldest tool request
y, n, c               answer a question of an MCP server, decline it, or close it without an answer
/projects             switch to another project
/conversations        list the conversations of the project
/switch [NAME]        switch to another one, by its title or id; without NAME pick one
/new [TITLE]          begin another conversation, with a log, a queue and an agent of its own; this one stays
/new --worktree[=BRANCH] [TITLE]
                      begin it in a git worktree, on BRANCH or a new branch
/rename [TITLE]       rename this conversation; without TITLE its first prompt is the title
/archive              leave this conversation out of the lists, and switch to the main one
/restore [NAME]       switch to an archived one, which is listed again; without NAME pick one
/delete               delete this conversation with its worktree, and switch to the main one
/clear                let the agent forget: the next prompt starts a new session of the CLI in this conversation,
                      whose log and queue stay
/sessions             list the CLI's sessions, and report those that a terminal opens from then on
/resume ID            continue one of them in this conversation
/fork ID              continue a copy of it, as of one that a terminal has open
/kill                 kill the execution, its background tasks and all its processes
/queue                list the prompts that wait
/continue             continue with the queue after it was on hold
/trust [yes]          show what is new in the project's own settings; yes accepts what was shown
/now T, /instead T    give a prompt into the running turn, or interrupt the agent and start with it
/promote N            give a waiting prompt into the running turn
/cancel N, /edit N T  withdraw a waiting prompt, or change its text to T
/model [M]            choose the model; without M the default
/mode M               choose the permission mode
/tasks, /stop N       list what runs in the background, or end one of it
/context, /mcp        show the use of the context window, or the MCP servers
/usage                show the usage limits of the account
/rewind [yes]         show what the last prompt changed in files; yes sets them back
/history N            show the last N entries
/quit                 leave; the agent continues (also Ctrl-D)
Ctrl-C                interrupt the agent; twice when it is idle: leave"""


class Actions:
    """Runs the commands and sends the prompts that are typed for one conversation."""

    def __init__(
        self,
        client: Client,
        conversation_id: str,
        transcript: Transcript,
        show_history: Callable[[int], Awaitable[object]],
    ) -> None:
        self._client = client
        self._conversation_id = conversation_id
        self._transcript = transcript
        self._show_history = show_history
        self._shown: str | None = None
        self._form: Form | None = None
        self._own: set[str] = set()  # requests that were answered or interrupted here
        self._commands: Mapping[str, Callable[[str], Awaitable[object]]] = {
            "help": self._help,
            "conversations": self._conversations,
            "clear": lambda _: client.new_session(conversation_id),
            "sessions": self._sessions,
            "resume": self._resume,
            "fork": lambda session_id: self._resume(session_id, fork=True),
            "kill": lambda _: client.kill(conversation_id),
            "queue": self._queue,
            "continue": lambda _: client.resume_queue(conversation_id),
            "trust": self._trust,
            "now": lambda text: self._prompt(self._worded(text), when="now"),
            "instead": lambda text: self._prompt(self._worded(text), when="interrupt"),
            "promote": self._promote,
            "cancel": self._cancel,
            "edit": self._edit,
            "model": self._model,
            "mode": self._mode,
            "tasks": self._tasks,
            "stop": self._stop,
            "context": self._context,
            "mcp": self._mcp,
            "usage": self._usage,
            "rewind": self._rewind,
            "history": self._history,
        }

    @property
    def form(self) -> Form | None:
        """The form that is being filled in, unless its question was answered or withdrawn elsewhere."""
        is_open = self._form is not None and self._form.approval_id in self._transcript.approvals
        return self._form if is_open else None

    async def carry_out(self, line: str) -> None:
        """Run a command, answer a tool request, fill in a form, or send a prompt.

        Raises:
            PocketAgentError: the server refused it, or there is no such command.
        """
        if self.form is not None:
            await self._fill_in(self.form, line)
        elif self._form is not None:
            self._form = None
            self._transcript.note("The question has ended before this answer; it was not sent.")
        elif line.startswith("/"):
            name, _, rest = line[1:].partition(" ")
            command = self._commands.get(name)
            if command is None:
                raise ValidationError(f"There is no command /{one_line(name, 40)}; /help lists them.")
            await command(rest.strip())
        elif line and not await self._answered(line):
            await self._prompt(line)

    async def interrupt(self) -> None:
        self._own.update(self._transcript.approvals)
        await self._client.interrupt(self._conversation_id)

    async def _answered(self, line: str) -> bool:
        """Whether the line was an answer to a tool request."""
        word, _, reason = line.strip().partition(" ")
        ended, at = self._transcript.ended
        is_late = time.monotonic() - at < _LATE_SECONDS and not (self._transcript.approvals and ended in self._own)
        if is_late and word in {"y", "n", "a", "c"} and (not reason or word == "n"):
            self._transcript.note(
                "The request for this answer has just ended; nothing was sent. Type it again if needed."
            )
            return True
        if not self._transcript.approvals:
            return False
        approval_id, asked = next(iter(self._transcript.approvals.items()))
        is_question = asked["tool_name"] == ELICITATION
        if word not in ({"y", "n", "c"} if is_question else {"y", "n", "a"}) or (reason and word != "n"):
            return False
        self._own.add(approval_id)
        if word in {"n", "c"}:
            await self._client.deny(self._conversation_id, approval_id, reason.strip() or None, cancel=word == "c")
        elif is_question:
            self._form = Form(approval_id, asked["input"])
            await self._ask_next(self._form)
        else:
            await self._client.approve(self._conversation_id, approval_id, remember=word == "a")
        return True

    async def _fill_in(self, form: Form, line: str) -> None:
        if line == "/back":
            self._form = None
            self._transcript.note("The question still waits: y, n or c.")
            return
        form.take(line)
        await self._ask_next(form)

    async def _ask_next(self, form: Form) -> None:
        """Ask for the next field, or send the form when it is filled in."""
        if form.field is not None:
            self._transcript.note(f"{one_line(form.field.label, 1000)}  (/back leaves the form)", "yellow")
            return
        self._form = None
        await self._client.accept(self._conversation_id, form.approval_id, form.content)

    def _worded(self, text: str) -> str:
        if not text:
            raise ValidationError("The text of the prompt is needed: /now the text")
        return text

    async def _prompt(self, text: str, when: Literal["queue", "now", "interrupt"] = "queue") -> None:
        if not self._client.online:
            self._transcript.note("offline; the prompt is sent once when the server is back")
        reply = await self._client.execute(self._conversation_id, text, when=when)
        if reply.status == "queued":
            self._transcript.note(f"queued, at place {reply.position}")

    async def _help(self, _: str) -> None:
        self._transcript.note(HELP, "")

    async def _conversations(self, _: str) -> None:
        for state in (await self._client.conversations(project_of(self._conversation_id))).conversations:
            mark = "*" if key_of(state) == self._conversation_id else " "
            self._transcript.note(f"{mark} {summary(state)}", "")

    async def _sessions(self, _: str) -> None:
        sessions = await self._client.sessions(self._conversation_id, watch=True)
        self._transcript.open_sessions = {session.session_id for session in sessions if session.active}
        if not sessions:
            self._transcript.note("There is no session yet.")
        for session in sessions:
            mark = "*" if session.current else " "
            title = one_line(session.title, 60) + ("  (open in a terminal)" if session.active else "")
            self._transcript.note(f"{mark} {session.session_id}  {session.last_active[:16]}  {title}", "")

    async def _resume(self, session_id: str, *, fork: bool = False) -> None:
        try:
            msgspec.convert(session_id, SessionId)
        except msgspec.ValidationError as error:
            raise ValidationError(
                "The id of a session is needed; /sessions lists them: /resume ID, /fork ID"
            ) from error
        await self._client.resume(self._conversation_id, session_id, fork=fork)
        self._transcript.note(f"The next prompt goes on with {'a copy of ' if fork else ''}session {session_id}.")

    async def _queue(self, _: str) -> None:
        if not self._transcript.queue:
            self._transcript.note("No prompt waits.")
        elif self._transcript.hold:
            self._transcript.note(f"On hold: {self._transcript.hold} ({self._transcript.way_out})")
        for waiting in self._transcript.queue:
            self._transcript.note(f"{waiting['position']:>3}  {one_line(str(waiting['prompt']), 120)}", "")

    async def _trust(self, answer: str) -> None:
        """Show the claims that no user has accepted, or accept those that were shown last."""
        if answer == "yes":
            if self._shown is None:
                raise ValidationError("Show the settings first: /trust")
            await self._client.trust_project(self._conversation_id, self._shown)
            self._shown = None
            self._transcript.note("accepted")
            return
        if answer:
            raise ValidationError("/trust shows the settings, and /trust yes accepts them.")
        project = next(
            (one for one in await self._client.projects() if one.id == project_of(self._conversation_id)), None
        )
        if project is None:
            raise ProjectNotFoundError("The project was deleted.")
        found = await inspect_new(self._client, project.path, lambda text: self._transcript.note(text, ""))
        self._shown = found.hash
        self._transcript.note("/trust yes accepts this" if found.new else "Nothing in its settings is new.")

    async def _promote(self, rest: str) -> None:
        await self._client.promote_prompt(self._conversation_id, self._waiting(rest))

    async def _cancel(self, rest: str) -> None:
        await self._client.cancel_prompt(self._conversation_id, self._waiting(rest))
        self._transcript.note("withdrawn")

    async def _edit(self, rest: str) -> None:
        number, _, text = rest.partition(" ")
        if not text.strip():
            raise ValidationError("The place of a waiting prompt and its new text are needed: /edit 1 the new text")
        await self._client.edit_prompt(self._conversation_id, self._waiting(number), text.strip())
        self._transcript.note("changed")

    def _waiting(self, number: str) -> str:
        """The execution id of a waiting prompt, by its place in the queue."""
        for waiting in self._transcript.queue:
            if str(waiting["position"]) == number.strip():
                return str(waiting["execution_id"])
        raise ValidationError("No prompt waits at that place; /queue lists them.")

    async def _tasks(self, _: str) -> None:
        if not self._transcript.tasks:
            self._transcript.note("Nothing runs in the background.")
        for number, task in enumerate(self._transcript.tasks, start=1):
            self._transcript.note(f"{number:>3}  {task_line(task)}", "")

    async def _stop(self, number: str) -> None:
        tasks = self._transcript.tasks
        if not number.isdecimal() or not 1 <= int(number) <= len(tasks):
            raise ValidationError("Nothing runs in the background at that place; /tasks lists it.")
        await self._client.stop_task(self._conversation_id, str(tasks[int(number) - 1]["task_id"]))

    async def _context(self, _: str) -> None:
        found = (await self._client.report(self._conversation_id, "context")).context
        if found is None:
            return
        share = found.total_tokens / found.max_tokens if found.max_tokens else 0
        self._transcript.note(f"context: {found.total_tokens:,} of {found.max_tokens:,} tokens ({share:.0%})", "")
        for part in found.categories:
            self._transcript.note(f"{part.tokens:>12,}  {one_line(part.name, 60)}", "")

    async def _mcp(self, _: str) -> None:
        servers = (await self._client.report(self._conversation_id, "mcp")).mcp_servers
        if not servers:
            self._transcript.note("The agent has no MCP servers.")
        for server in servers or ():
            error = f": {one_line(server.error, 200)}" if server.error else ""
            self._transcript.note(f"{one_line(server.name, 60)}  {one_line(server.status, 40)}{error}", "")

    async def _usage(self, _: str) -> None:
        windows = (await self._client.report(self._conversation_id, "usage")).usage_windows
        if not windows:
            self._transcript.note("The API has reported no usage limits.")
        for window in windows or ():
            name = one_line(window.window.replace("_", " "), 40)
            self._transcript.note(f"{name}: {window.utilization:.0%} used, reset at {window.resets_at[:16]}Z", "")

    async def _rewind(self, answer: str) -> None:
        execution_id = self._transcript.last_execution
        if answer not in {"", "yes"} or execution_id is None:
            raise ValidationError("/rewind shows what the last prompt changed, and /rewind yes sets the files back.")
        found = await self._client.rewind_files(self._conversation_id, execution_id, dry_run=not answer)
        if not found.can_rewind:
            self._transcript.note(
                f"The files cannot be set back: {one_line(found.error or 'no reason was given', 300)}"
            )
        elif answer:
            self._transcript.note("The files are as they were before the last prompt.")
        else:
            for file in found.files:
                self._transcript.note(f"  {one_line(file, 4096)}", "")
            lines = f"{found.insertions} lines added, {found.deletions} removed"
            self._transcript.note(f"{lines}; /rewind yes sets them back" if found.files else "No file has changed.")

    async def _model(self, name: str) -> None:
        await self._client.set_model(self._conversation_id, name or None)
        self._transcript.note(f"model: {name or 'the default'}")

    async def _mode(self, mode: str) -> None:
        await self._client.set_permission_mode(self._conversation_id, mode)
        self._transcript.note(f"permission mode: {mode}")

    async def _history(self, number: str) -> None:
        if not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise ValidationError("The number of entries must be from 1 to 1000: /history 50")
        await self._show_history(int(number))
