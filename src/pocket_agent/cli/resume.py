"""`pocket-agent resume`: continues a conversation of a server on this machine in the terminal."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import typer

from pocket_agent.cli.access import find_access
from pocket_agent.cli.chat.actions import key_of
from pocket_agent.cli.chat.transcript import one_line
from pocket_agent.client import Client
from pocket_agent.errors import (
    ClaudeNotFoundError,
    DirectoryUnavailableError,
    ProcessActiveError,
    ProjectNotFoundError,
    ValidationError,
)
from pocket_agent.protocol.push import ProjectStateData, SessionData
from pocket_agent.protocol.requests import ConversationListData
from pocket_agent.settings import LoadedSettings

_SHOWN: Final = 20
_TITLE_MAX: Final = 100


@dataclass(frozen=True)
class ResumeOptions:
    """The options of `pocket-agent resume`; `cli/main.py` has their help."""

    target: str | None = None
    session: str | None = None
    shows: bool = False


def run_resume(options: ResumeOptions, read: Callable[[], LoadedSettings], environ: Mapping[str, str]) -> None:
    """Choose a session, have the server end its idle process, and become Claude Code; does not return.

    Raises:
        ProjectNotFoundError: no project or conversation is meant.
        ValidationError: it has no such session, or several, and the input is not a terminal.
        ProcessActiveError: the agent is busy with it, or another terminal has it open.
        ClaudeNotFoundError: Claude Code is not installed for this user.
        DirectoryUnavailableError: the session's directory is gone, or may not be entered.
    """
    loaded = read()
    binary = str(loaded.settings.claude.binary or "claude")
    program = shutil.which(binary, path=environ.get("PATH"))
    if program is None:
        raise ClaudeNotFoundError(f"{binary} is not an executable program on PATH; set claude.binary to its path.")
    access = find_access(None, None, None, lambda: loaded, environ)

    async def choose() -> SessionData:
        async with Client(access.url, token=access.token, ssl=access.ca, name="resume", check=access.check) as client:
            return await _released(client, options)

    chosen = asyncio.run(choose())
    if options.shows:
        typer.echo(chosen.resume_command)
        return
    try:
        os.chdir(chosen.directory or ".")
    except FileNotFoundError as error:
        text = f"The session's directory {chosen.directory} does not exist; continue it from a client of the server."
        raise DirectoryUnavailableError(text) from error
    except OSError as error:
        raise DirectoryUnavailableError(f"{chosen.directory} cannot be entered: {error.strerror}.") from error
    environment = dict(environ)
    if (directory := loaded.settings.claude.environment.get("CLAUDE_CONFIG_DIR")) is not None:
        environment["CLAUDE_CONFIG_DIR"] = directory  # where the agents keep their sessions
    os.execve(program, [program, f"--resume={chosen.session_id}"], environment)  # noqa: S606 - the user's own program


async def _released(client: Client, options: ResumeOptions) -> SessionData:
    """The session to continue, which no process of the server has open any longer."""
    conversation = await _meant(client, options.target)
    project_id = conversation.id.partition(".")[0]
    sessions = [one for one in await client.sessions(project_id) if one.resume_command is not None]
    wanted = options.session
    is_main = conversation.conversation_id is msgspec.UNSET
    if wanted is None and (not is_main or conversation.id == options.target):
        wanted = conversation.session_id
        if wanted is None and not is_main:
            raise ValidationError("This conversation has no session yet; give it a prompt first.")
    chosen = _pick(sessions, wanted)
    if chosen.active:
        raise ProcessActiveError("Another terminal has this session open: go on there, or end Claude Code there first.")
    for one in await _conversations(client, project_id):
        if one.session_id == chosen.session_id:
            await client.release_session(key_of(one))
    return chosen


async def _meant(client: Client, target: str | None) -> ProjectStateData:
    """The conversation with an id, the main one of the project with an id, a name, or around a path, or the one whose
    worktree is around the path."""
    projects = await client.projects()
    project_id, dot, _ = (target or "").partition(".")
    if dot and any(project.id == project_id for project in projects):
        for conversation in await _conversations(client, project_id):
            if key_of(conversation) == target:
                return conversation
    try:
        return _find_project(projects, target)
    except ProjectNotFoundError:
        for project in projects:
            for conversation in await _conversations(client, project.id):
                if _is_around(conversation, target):
                    return conversation
        raise


async def _conversations(client: Client, project_id: str) -> Sequence[ProjectStateData]:
    reply = await client.request("conversation_list", {"archived": True}, project_id=project_id)
    return msgspec.json.decode(reply.payload, type=ConversationListData).conversations


def _is_around(conversation: ProjectStateData, target: str | None) -> bool:
    return Path(os.path.realpath(target or ".")).is_relative_to(os.path.realpath(conversation.path))


def _find_project(projects: Sequence[ProjectStateData], target: str | None) -> ProjectStateData:
    path = Path(os.path.realpath(target or "."))
    named = [project for project in projects if target in {project.id, project.name}]
    if len(named) == 1 and (named[0].id == target or not path.exists()):
        return named[0]
    for project in projects:
        if _is_around(project, target):
            return project
    raise ProjectNotFoundError(f"{target or path} is neither a project or a conversation, nor inside a project.")


def _pick(sessions: Sequence[SessionData], wanted: str | None) -> SessionData:
    """The wanted session, the only one, or the user's choice."""
    if wanted is not None:
        for session in sessions:
            if session.session_id == wanted:
                return session
        raise ValidationError("Claude Code keeps no such session of this project.")
    if not sessions:
        raise ValidationError("This project has no session yet; begin one with `claude` or from any client.")
    if len(sessions) == 1:
        return sessions[0]
    if not sys.stdin.isatty():
        raise ValidationError("This project has several sessions; choose one with --session ID.")
    for number, session in enumerate(sessions[:_SHOWN], 1):
        marks = [f"{'about ' if session.turns_estimated else ''}{session.turns} prompts", session.last_active[:16]]
        marks += ["open in a terminal"] if session.active else []
        title = one_line(session.title, _TITLE_MAX) or session.session_id
        typer.echo(f"{number:>3}  {title}  ({', '.join(marks)})")
    choice: int = typer.prompt("Which session", type=int, default=1)
    if not 1 <= choice <= min(len(sessions), _SHOWN):
        raise ValidationError(f"There is no session {choice}.")
    return sessions[choice - 1]
