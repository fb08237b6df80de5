"""Approvals of plain terminal sessions: a hook of the CLI asks over a Unix socket, and any client may answer.

The socket is in the data directory, for the user alone; `claude/hook_relay.py` is its other end. The CLI shows its own
dialog next to it, so an approval ends as soon as the user answers there. It is kept in memory only: the hook's process
ends with its connection, and the dialog stays.
"""

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import sys
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from pocket_agent import events, model
from pocket_agent.claude import control
from pocket_agent.claude.control import PermissionRequest
from pocket_agent.claude.hook_relay import MAX_INPUT, SOCKET
from pocket_agent.claude.process_tree import read_marker
from pocket_agent.claude.stream import without_surrogates
from pocket_agent.claude.transcripts import RunningSession, Transcripts
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import live_draft, now, tick
from pocket_agent.conversation.state import changes_input, check_answer, resolved_data
from pocket_agent.errors import ApprovalNotFoundError, FileOperationError
from pocket_agent.events import Observer, SettingIgnored
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol.push import ApprovalCancelledData, ApprovalRequestedData, ApprovalResolvedData, TerminalData
from pocket_agent.protocol.requests import ApprovalRespond

_NULL: Final = msgspec.Raw(b"null")
_MAX_CONNECTIONS: Final = 100  # hooks that send their input or wait; each has a file descriptor
_BACKLOG: Final = 16
_MAX_KNOWN: Final = 200
_READ_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.5
_PATH_BYTES: Final = 100  # of a socket, unix(7); some systems have less than Linux's 108
_ANSWERED: Final = "It was answered in the terminal."
_ENDED: Final = "The terminal's session has ended."


class _HookInput(msgspec.Struct, frozen=True):
    """The input of a hook (https://code.claude.com/docs/en/hooks), as far as it is needed."""

    session_id: str
    cwd: str
    hook_event_name: str
    tool_name: str = ""
    tool_input: msgspec.Raw = msgspec.Raw(b"{}")
    permission_suggestions: msgspec.Raw = _NULL
    agent_id: str | None = None


class _PendingHook:
    """A hook that waits. `answer` has what it prints; None when it prints nothing."""

    def __init__(
        self, data: ApprovalRequestedData, request: PermissionRequest, conversation: Conversation, hook: _HookInput
    ) -> None:
        self.data = data
        self.request = request
        self.conversation = conversation
        self.hook = hook
        self.created_at = now()
        self.created_tick = tick()
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.dialog: float | None = None  # when the CLI began to show the dialog, once that is known
        self.seen = False  # whether the CLI was found running

    def has_ended(self, running: RunningSession | None) -> str | None:
        """Why the terminal does not wait any longer; None while it does."""
        if running is None:
            return _ENDED if self.seen else None
        self.seen = True
        if running.status is None:
            return None
        if running.status == "waiting":
            if self.dialog is None:
                self.dialog = running.status_updated_at
            return _ANSWERED if running.status_updated_at != self.dialog else None
        was_shown = self.dialog is not None or running.status_updated_at > self.created_at
        return _ANSWERED if was_shown else None


class TerminalApprovals:
    """The approvals that hooks of terminal sessions wait for."""

    def __init__(self, projects: Projects, transcripts: Transcripts, policy: Policy, observer: Observer) -> None:
        self._projects = projects
        self._transcripts = transcripts
        self._policy = policy
        self._observer = observer
        self._pending: dict[str, _PendingHook] = {}
        self._answered: OrderedDict[str, tuple[Conversation, events.Behavior, str | None]] = OrderedDict()
        self._wake = asyncio.Event()
        self._connections = 0

    def has(self, approval_id: str) -> bool:
        """Whether an approval is, or was until recently, one of a terminal."""
        return approval_id in self._pending or approval_id in self._answered

    def sees_dialog(self, approval_id: str) -> bool:
        """Whether the CLI is known to show its own dialog for a pending approval."""
        return approval_id in self._pending and self._pending[approval_id].dialog is not None

    def changes_input(self, approval_id: str, updated_input: Mapping[str, msgspec.Raw]) -> bool:
        """As that of a conversation."""
        waiting = self._pending.get(approval_id)
        return waiting is None or changes_input(waiting.request, updated_input)

    async def respond(self, conversation: Conversation, request: ApprovalRespond, by: str) -> ApprovalResolvedData:
        """Answer a hook; the first answer wins.

        Raises:
            ApprovalNotFoundError: it does not wait any longer, or not in this project.
            ForbiddenError, InvalidPathError: clients may not choose what would be remembered; it still waits.
            ValidationError: the answer does not fit the request, which still waits.
        """
        waiting = self._pending.get(request.approval_id)
        if waiting is None or waiting.conversation is not conversation:
            raise self._gone(conversation, request.approval_id)
        check_answer(waiting.request, request)
        allow = request.behavior == "allow"
        suggested = control.remembered(waiting.request) if allow and request.remember else None
        if suggested is not None:
            await self._policy.check_remembered(suggested)
        if request.approval_id not in self._pending:  # answered during the check
            raise self._gone(conversation, request.approval_id)
        changed = request.updated_input if allow else None
        decision: dict[str, object] = {"behavior": request.behavior}
        if changed is not None:
            decision["updatedInput"] = changed
        if suggested is not None:
            decision["updatedPermissions"] = msgspec.Raw(control.for_session(suggested))
        if not allow:
            decision["message"] = request.message or "The user denied this."
        output = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}
        data = resolved_data(request, by)
        self._end(waiting, request.behavior, by, data, msgspec.json.encode(output))
        return data

    def _gone(self, conversation: Conversation, approval_id: str) -> ApprovalNotFoundError:
        asked, behavior, by = self._answered.get(approval_id, (None, None, None))
        if asked is not conversation:
            return ApprovalNotFoundError("There is no such approval in this project.")
        if by is None:
            return ApprovalNotFoundError("The terminal withdrew this request.", details={"behavior": behavior})
        status = model.ApprovalStatus.ALLOWED if behavior == "allow" else model.ApprovalStatus.DENIED
        return ApprovalNotFoundError(
            f"This request was answered already ({status} by {by}).", details={"behavior": status, "by": by}
        )

    async def listen(self, data_dir: Path) -> None:
        """Accept hooks until cancelled."""
        try:
            listener = _listener(data_dir)
        except OSError as error:
            reason = f"Terminals cannot ask for approvals: {error.strerror or error}"
            self._observer.emit(SettingIgnored("data.dir", reason))
            return
        server = await asyncio.start_unix_server(self._accept, sock=listener, backlog=_BACKLOG)
        try:
            await self._watch()
        finally:
            server.close()
            for waiting in list(self._pending.values()):
                waiting.answer.cancel()
            with contextlib.suppress(OSError):
                (data_dir / SOCKET).unlink()

    async def _watch(self) -> None:
        """Withdraw what terminals have answered."""
        while True:
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(_POLL_SECONDS)
            try:
                running = await self._transcripts.running()
            except FileOperationError:
                continue
            for waiting in list(self._pending.values()):
                reason = waiting.has_ended(running.get(waiting.hook.session_id))
                if reason is None and waiting.conversation not in self._projects.mains():
                    reason = "The project was deleted."
                if reason is not None:
                    self._withdraw(waiting, reason)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            peer = writer.get_extra_info("socket")
            if self._connections <= _MAX_CONNECTIONS and _is_trusted(peer):
                async with asyncio.timeout(_READ_SECONDS):
                    length = int(await reader.readuntil(b"\n"))
                    text = await reader.readexactly(length) if 0 <= length <= MAX_INPUT else b""
                await self._serve(_read_hook(text), reader, writer)
        except (TimeoutError, ValueError, OSError, EOFError, asyncio.LimitOverrunError, RecursionError):
            pass  # it gets no answer, and the CLI's own dialog stays
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, hook: _HookInput, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if hook.hook_event_name != "PermissionRequest":
            self._observe(hook)
            return
        async with self._asking(hook) as waiting:
            if waiting is None:
                return
            gone = asyncio.ensure_future(reader.read(1))
            ends: list[asyncio.Future[Any]] = [gone, waiting.answer]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
            if waiting.answer.done() and not waiting.answer.cancelled():
                answer = waiting.answer.result()
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()

    def _observe(self, hook: _HookInput) -> None:
        """A turn or a session of a terminal has ended, and so has its main thread's dialog."""
        for waiting in list(self._pending.values()):
            if waiting.hook.session_id != hook.session_id:
                continue
            if hook.hook_event_name == "SessionEnd":
                self._withdraw(waiting, _ENDED)
            elif waiting.hook.agent_id is None:
                self._withdraw(waiting, _ANSWERED)

    @contextlib.asynccontextmanager
    async def _asking(self, hook: _HookInput) -> AsyncIterator[_PendingHook | None]:
        """Ask all clients of the project that has the hook's directory, if there is one, until the block is left."""
        conversation = await self._conversation_of(hook.cwd)
        request = _permission_request(hook)
        if conversation is None or request is None:
            yield None
            return
        for other in list(self._pending.values()):
            # The CLI shows one dialog at a time in each thread.
            if (other.hook.session_id, other.hook.agent_id) == (hook.session_id, hook.agent_id):
                self._withdraw(other, _ANSWERED)
        data = ApprovalRequestedData(
            approval_id=request.request_id,
            tool_name=request.tool_name,
            input=request.input,
            title=None,
            description=None,
            suggestions=control.remembered(request) or msgspec.Raw(b"[]"),
            execution_id=None,
            agent_id=hook.agent_id,
            terminal=TerminalData(hook.session_id, hook.cwd),
        )
        waiting = _PendingHook(data, request, conversation, hook)
        self._pending[data.approval_id] = waiting
        conversation.state.terminal_approvals[data.approval_id] = data
        self._wake.set()
        conversation.state.log.say([live_draft("approval_requested", data), *conversation.state.announce()])
        project_id = conversation.state.record.project_id
        self._observer.emit(events.ApprovalRequested(project_id, project_id, None, data.approval_id, data.tool_name))
        try:
            yield waiting
        finally:
            self._withdraw(waiting, "The terminal does not wait for it any longer.")

    async def _conversation_of(self, directory: str) -> Conversation | None:
        records = [conversation.state.record for conversation in self._projects.all()]
        projects: Mapping[str, str] = {record.real_path: record.project_id for record in records}
        try:
            found = await self._transcripts.belongs_to(directory, projects)
        except FileOperationError:
            return None
        return self._projects.get(found) if found is not None else None

    def _withdraw(self, waiting: _PendingHook, reason: str) -> None:
        if waiting.data.approval_id in self._pending:
            self._end(waiting, "cancelled", None, ApprovalCancelledData(waiting.data.approval_id, reason), None)

    def _end(
        self,
        waiting: _PendingHook,
        behavior: events.Behavior,
        by: str | None,
        data: ApprovalResolvedData | ApprovalCancelledData,
        answer: bytes | None,
    ) -> None:
        approval_id, state = waiting.data.approval_id, waiting.conversation.state
        del self._pending[approval_id]
        state.terminal_approvals.pop(approval_id, None)
        if not waiting.answer.done():
            waiting.answer.set_result(answer)
        self._answered[approval_id] = waiting.conversation, behavior, by
        if len(self._answered) > _MAX_KNOWN:
            self._answered.popitem(last=False)
        kind = "approval_cancelled" if isinstance(data, ApprovalCancelledData) else "approval_resolved"
        state.log.say([live_draft(kind, data), *state.announce()])
        self._observer.emit(
            events.ApprovalResolved(
                project_id=state.record.project_id,
                context=None,
                approval_id=approval_id,
                tool=waiting.data.tool_name,
                behavior=behavior,
                by=by,
                requested_at=waiting.created_at,
                waited=max(0, tick() - waiting.created_tick) / 1000,
            )
        )


def _read_hook(text: bytes) -> _HookInput:
    """The input of a hook; raises ValueError, as msgspec does, also for bytes that are not UTF-8."""
    decoded = text.decode()
    try:
        return msgspec.json.decode(decoded, type=_HookInput)
    except msgspec.DecodeError:
        if "\\ud" not in decoded.lower():
            raise
        return msgspec.json.decode(msgspec.json.encode(without_surrogates(json.loads(decoded))), type=_HookInput)


def _permission_request(hook: _HookInput) -> PermissionRequest | None:
    """What the hook asks for; None when a client could not show it."""
    if not hook.tool_name or not bytes(hook.tool_input).startswith(b"{"):
        return None
    return PermissionRequest(
        tool_name=hook.tool_name,
        request_id=f"terminal-{uuid.uuid4()}",
        raw=b"",
        input=hook.tool_input,
        permission_suggestions=None if hook.permission_suggestions == _NULL else hook.permission_suggestions,
        agent_id=hook.agent_id,
    )


def _listener(data_dir: Path) -> socket.socket:
    """The socket in the data directory, in the place of one that an earlier server left."""
    path = data_dir / SOCKET
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The directory is private already (app.py), so that no other user can connect before the mode is set.
        is_long = len(os.fsencode(path)) > _PATH_BYTES and sys.platform.startswith("linux")
        made.bind(f"/proc/self/fd/{folder}/{SOCKET}" if is_long else str(path))
        path.chmod(0o600)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    finally:
        os.close(folder)
    return made


def _is_trusted(peer: socket.socket) -> bool:
    """Whether the other end is a process of the server's user, and not one of an agent.

    Elsewhere than on Linux the modes of the socket and its directory have to do.
    """
    if not sys.platform.startswith("linux"):
        return True
    pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid == os.geteuid() and read_marker(pid) is None
