"""Requests about the CLI's own sessions on this machine, which terminals make and continue."""

import asyncio
import shlex
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from pocket_agent import model
from pocket_agent.claude.transcript_records import Shown
from pocket_agent.claude.transcripts import Follower, Growth, Listing, StoredSession, Transcripts
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.errors import (
    FileOperationError,
    PocketAgentError,
    ProcessActiveError,
    ProjectNotFoundError,
    ValidationError,
)
from pocket_agent.projects import Projects
from pocket_agent.protocol import requests
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.preview import message_data
from pocket_agent.protocol.push import PromptData, SessionData, SessionsChangedData
from pocket_agent.protocol.requests import Large, MessageData, SessionLinesData
from pocket_agent.server.connection import Call, Connection

_LISTED: Final = 100
_PAGE_BYTES: Final = 8 * 1024 * 1024
_CONGESTED_SECONDS: Final = 0.5
_WATCH_SECONDS: Final = 0.5
_WATCH_FACTOR: Final = 10
"""The pause between two checks of a watched list is at least this many times as long as one of them."""
_UNESCAPED: Final = f"{string.ascii_letters}{string.digits}/ ._-"
_LIST: Final = ""
"""The place of a watched list among the followed sessions of a connection."""


def resume_command(directory: str, session_id: str) -> str:
    """The line for a shell that continues a session.

    A control character of a name would reach the terminal when a user pastes the line, within quotes too: such a name
    is written as escapes (`$'...'` of bash, zsh and POSIX.1-2024).
    """
    quoted = shlex.quote(directory) if directory.isprintable() else f"$'{_escaped(directory)}'"
    return f"cd {quoted} && claude --resume={session_id}"


def _escaped(text: str) -> str:
    plain = set(map(ord, _UNESCAPED))
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode("utf-8", "surrogateescape"))


class TerminalSessions:
    """The sessions of the CLI's configuration directory, by the project whose directory they belong to."""

    def __init__(self, projects: Projects, transcripts: Transcripts) -> None:
        self._projects = projects
        self._transcripts = transcripts

    async def on_session_list(
        self, call: Call, conversation: Conversation, request: requests.SessionList
    ) -> requests.SessionListData:
        project, connection = self._main(conversation), call.connection
        listing, unavailable = Listing([], truncated=False), None
        try:
            listing = await self._transcripts.sessions(self._directories(conversation), _LISTED)
        except FileOperationError as error:
            unavailable = error.message
        listed = await self._listed(conversation, listing)
        if request.watch:
            watcher = _ListWatcher(conversation.state.record.id, listing.mark, listed)
            connection.follow(project.project_id, _LIST, lambda: self._watch(connection, watcher))
        return requests.SessionListData(project.project_id, listed, listing.truncated, unavailable)

    async def _listed(self, conversation: Conversation, listing: Listing) -> list[SessionData]:
        """The server's sessions and those of terminals, the last used first."""
        project_id = conversation.state.record.project_id
        own = {value.session_id: value for value in await conversation.sessions()}
        found = {
            value.session_id: value for value in listing.sessions if not self._is_elsewhere(value.directory, project_id)
        }
        missing = [key for key in own if key not in found]
        for key in missing if listing.truncated else ():
            stored = await self._find(conversation, key)
            if stored is not None:
                found[key] = stored
        listed = [_described(value, found.get(key)) for key, value in own.items()]
        listed += [_of_terminal(value) for key, value in found.items() if key not in own]
        having = {other.state.record.session_id: other.state.record for other in self._projects.of(project_id)}
        for at, value in enumerate(listed):
            other = having.get(value.session_id)
            if other is not None and not other.fork:
                listed[at] = replace(value, conversation_id=other.id)
        return sorted(listed, key=lambda value: value.last_active, reverse=True)

    async def _watch(self, connection: Connection, watcher: "_ListWatcher") -> None:
        """Send what changes in the list, as long as the device may see the project."""
        pause = _WATCH_SECONDS
        conversation_id = watcher.conversation_id
        try:
            while True:
                await asyncio.sleep(pause)
                await self._may_send(connection, conversation_id)
                conversation = self._projects.get(conversation_id)
                project, began = self._main(conversation), time.monotonic()
                try:
                    places = self._directories(conversation)
                    listing = await self._transcripts.changed_sessions(places, _LISTED, watcher.mark)
                except FileOperationError:
                    continue
                pause = max(_WATCH_SECONDS, _WATCH_FACTOR * (time.monotonic() - began))
                if listing is None:
                    continue
                sessions, gone = watcher.take(listing.mark, await self._listed(conversation, listing))
                if sessions or gone:
                    data = SessionsChangedData(project.project_id, sessions, gone)
                    connection.send("sessions_changed", data, conversation_id=conversation_id)
        except PocketAgentError as error:
            connection.send_error(error, conversation_id=conversation_id)

    async def _may_send(self, connection: Connection, conversation_id: model.ConversationId) -> None:
        """Wait until the connection has space; raises ProjectNotFoundError when it may not see the project."""
        while connection.congested:  # noqa: ASYNC110 - asyncio reports no space of a transport to a second task
            await asyncio.sleep(_CONGESTED_SECONDS)
        self._projects.get(conversation_id)
        if not connection.sees(conversation_id):
            raise ProjectNotFoundError("There is no such project.")

    async def on_session_resume(
        self, call: Call, conversation: Conversation, request: requests.SessionResume
    ) -> requests.SessionResumeData:
        found = await self.find(conversation, request.session_id, fork=request.fork)
        await self._projects.resume(conversation, request.session_id, fork=request.fork, found=found)
        return requests.SessionResumeData(conversation.state.record.project_id, request.session_id, request.fork)

    async def find(self, conversation: Conversation, session_id: str, *, fork: bool) -> model.KeptSession | None:
        """The session of the project that is to be continued, as the CLI keeps it; None when it keeps none.

        Raises:
            ProcessActiveError: a terminal has it open, and it is not to be copied (`fork`).
        """
        project_id, places = conversation.state.record.project_id, self._directories(conversation)
        try:
            stored = await self._find(conversation, session_id)
            if stored is None:
                return None
            if stored.running and not fork:
                raise ProcessActiveError(
                    "A terminal has this session open: end the CLI there first, or continue a copy (fork).",
                    details={"resume_command": resume_command(stored.directory, session_id)},
                )
            history = await self._transcripts.continued(places, session_id, None, "")
        except FileOperationError:  # the server's own sessions can be continued nevertheless
            return None
        record = model.SessionRecord(session_id, project_id, stored.created_at, stored.last_active, stored.title)
        return model.KeptSession(record, model.TranscriptMark(session_id, history.end, history.digest))

    def _main(self, conversation: Conversation) -> model.ConversationRecord:
        """The main conversation of a conversation's project, whose directory is that of the project."""
        return self._projects.get(conversation.state.record.project_id).state.record

    async def _find(self, conversation: Conversation, session_id: str) -> StoredSession | None:
        """A session of a conversation's project, as the CLI keeps it; raises as `Transcripts.find`."""
        stored = await self._transcripts.find(self._directories(conversation), session_id)
        is_elsewhere = stored is not None and self._is_elsewhere(stored.directory, conversation.state.record.project_id)
        return None if is_elsewhere else stored

    async def _check_known(self, conversation: Conversation, session_id: str) -> None:
        if await self._find(conversation, session_id) is None:
            raise ValidationError("The CLI keeps no such session of this project.")

    def _is_elsewhere(self, directory: str, project_id: model.ProjectId) -> bool:
        """Whether a directory belongs to another project, which may be in a worktree of this one's repository."""
        others = [other.state.record for other in self._projects.all()]
        return any(
            Path(directory).is_relative_to(other.real_path) for other in others if other.project_id != project_id
        )

    def _directories(self, conversation: Conversation) -> list[str]:
        """The real paths of a conversation's project: that of the main conversation, then those of worktrees."""
        records = [other.state.record for other in self._projects.of(conversation.state.record.project_id)]
        return [record.real_path for record in records if record.is_main or record.worktree is not None]

    async def on_session_release(
        self, call: Call, conversation: Conversation, request: requests.SessionRelease
    ) -> requests.SessionReleaseData:
        session_id = await conversation.release_process()
        project = conversation.state.record
        command = resume_command(project.real_path, session_id) if session_id is not None else None
        return requests.SessionReleaseData(project.project_id, session_id, project.real_path, command)

    async def on_session_history(
        self, call: Call, conversation: Conversation, request: requests.SessionHistory
    ) -> requests.SessionHistoryData:
        project = self._main(conversation)
        await self._check_known(conversation, request.session_id)
        page = await self._transcripts.page(
            self._directories(conversation),
            request.session_id,
            request.before,
            limit=request.limit,
            max_bytes=request.max_bytes or _PAGE_BYTES,
        )
        lines = await self._with_makers(conversation, request.session_id, page.lines)
        messages = _messages(lines, request.large)
        return requests.SessionHistoryData(
            project.project_id, request.session_id, page.epoch, messages, page.before, page.end
        )

    async def on_session_follow(
        self, call: Call, conversation: Conversation, request: requests.SessionFollow
    ) -> SessionLinesData:
        project, places = self._main(conversation), self._directories(conversation)
        await self._check_known(conversation, request.session_id)
        epoch, after = request.epoch, request.after
        if epoch is None or after is None:
            page = await self._transcripts.page(places, request.session_id, None, limit=1, max_bytes=_PAGE_BYTES)
            epoch, after = page.epoch, page.end
        follower = await self._transcripts.follow(places, request.session_id, epoch, after)
        first = await follower.next()
        lines = await self._with_makers(conversation, request.session_id, first.lines)
        connection, key = call.connection, (project.project_id, request.session_id)
        if first.ended is None:
            connection.follow(*key, lambda: self._send(connection, *key, epoch, request.large, follower))
        return _lines(request.session_id, epoch, request.large, replace(first, lines=lines))

    async def _with_makers(self, conversation: Conversation, session_id: str, lines: Sequence[Shown]) -> list[Shown]:
        """The lines, in which the prompts of the server's own turns have the devices that gave them."""
        ids = [line.message_id for line in lines if line.type == "prompt" and line.written_by == "print"]
        if not ids:
            return list(lines)
        makers, other = await conversation.makers(session_id, ids)

        def named(line: Shown) -> Shown:
            if line.type != "prompt" or line.written_by != "print":
                return line
            prompt = msgspec.json.decode(line.data, type=PromptData)
            return replace(line, data=msgspec.json.encode(replace(prompt, by=makers.get(line.message_id, other))))

        return [named(line) for line in lines]

    async def on_session_unfollow(
        self, call: Call, conversation: Conversation, request: requests.SessionUnfollow
    ) -> requests.SessionUnfollowData:
        project_id = conversation.state.record.project_id
        call.connection.unfollow(project_id, _LIST if request.session_id is None else request.session_id)
        return requests.SessionUnfollowData(project_id, request.session_id)

    async def _send(
        self,
        connection: Connection,
        project_id: model.ProjectId,
        session_id: str,
        epoch: str,
        large: Large,
        follower: Follower,
    ) -> None:
        """Send what a terminal writes, until the file is gone or the device may not see the project any longer."""
        try:
            while True:
                growth = await follower.next()
                await self._may_send(connection, project_id)
                lines = await self._with_makers(self._projects.get(project_id), session_id, growth.lines)
                growth = replace(growth, lines=lines)
                connection.send("session_lines", _lines(session_id, epoch, large, growth), conversation_id=project_id)
                if growth.ended is not None:
                    return
        except PocketAgentError as error:
            connection.send_error(error, conversation_id=project_id)


class _ListWatcher:
    """What a connection knows of a list of sessions.

    Args:
        conversation_id: the one that the list was requested for.
        mark: that of the listing.
        listed: the sessions of the list.
    """

    def __init__(self, conversation_id: model.ConversationId, mark: int, listed: Sequence[SessionData]) -> None:
        self.conversation_id = conversation_id
        self.mark = mark
        self._known = {one.session_id: _stable(one) for one in listed}

    def take(self, mark: int, listed: Sequence[SessionData]) -> tuple[list[SessionData], list[str]]:
        """The sessions that are new or have changed, and the ids of those that are gone."""
        before, self.mark = self._known, mark
        self._known = {one.session_id: _stable(one) for one in listed}
        changed = [one for one in listed if before.get(one.session_id) != self._known[one.session_id]]
        return changed, [session_id for session_id in before if session_id not in self._known]


def _stable(value: SessionData) -> SessionData:
    """A session without what changes with each record."""
    return replace(value, last_active="", created_at="", size=None)


def _lines(session_id: str, epoch: str, large: Large, growth: Growth) -> SessionLinesData:
    return SessionLinesData(session_id, epoch, _messages(growth.lines, large), growth.end, growth.running, growth.ended)


def _messages(lines: Sequence[Shown], large: Large) -> list[MessageData]:
    messages: list[MessageData] = []
    at = model.Milliseconds(0)
    for line in lines:
        at = line.at or at  # some records have no time
        direction = model.Direction.CLIENT if line.type == "prompt" else model.Direction.CLAUDE
        messages.append(message_data(model.Entry(line.start, at, direction, line.type, line.data), large))
    return messages


def _described(value: SessionData, stored: StoredSession | None) -> SessionData:
    """A session of the server, with what its file says."""
    if stored is None:
        return value
    return replace(
        value,
        last_active=max(value.last_active, timestamp(stored.last_active)),
        directory=stored.directory,
        first_prompt=stored.first_prompt,
        turns=stored.turns,
        turns_estimated=stored.estimated,
        size=stored.size,
        active=stored.running,
        resume_command=resume_command(stored.directory, stored.session_id),
    )


def _of_terminal(stored: StoredSession) -> SessionData:
    value = SessionData(
        session_id=stored.session_id,
        title=stored.title,
        created_at=timestamp(stored.created_at),
        last_active=timestamp(stored.last_active),
        current=False,
        origin="terminal",
    )
    return _described(value, stored)
