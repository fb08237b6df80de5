"""The client: one connection that comes back by itself, typed requests on it, and subscriptions."""

import asyncio
import contextlib
import re
import ssl as tls
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

import aiohttp
import msgspec

from pocket_agent import __version__
from pocket_agent.client import client_errors, websocket_client
from pocket_agent.client.subscription import MAX_BUFFERED_BYTES, MAX_BUFFERED_FRAMES, Since, Subscription
from pocket_agent.client.websocket_client import Backoff, ClientConnection, Frame
from pocket_agent.errors import ForbiddenError, PocketAgentError, UnauthorizedError, ValidationError
from pocket_agent.model import ExecuteOptions, Position
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.requests import REQUESTS

_Data = TypeVar("_Data")
_MAX_INSPECTIONS: Final = 5
_NEVER_REPEATED_AFTER: Final = frozenset({websocket_client.MESSAGE_TOO_BIG, websocket_client.POLICY_VIOLATION})
"""Close codes that a request in flight may have caused, and would cause again."""
_DEFAULT_TIMEOUT_SECONDS: Final = 60.0
_WORKTREE_TIMEOUT_SECONDS: Final = 660.0
"""More than the ten minutes after which the server ends git."""


@dataclass(frozen=True)
class Status:
    """A change of the connection."""

    online: bool  # whether it is open now
    reason: str = ""  # why it is not, for a person; empty when it is
    attempt: int = 0  # how many attempts to reconnect have failed since it ended
    retry_seconds: float = 0.0  # the wait before the next attempt; 0 when there is none


class Client:
    """A client of one server; use it with `async with`.

    It reconnects by itself until it is closed, unless the server refuses its token or its certificate is
    not trusted: then every call raises that error. The methods for each request raise what `request` raises, and
    ProtocolViolationError for a reply that does not fit.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ssl: tls.SSLContext | Path | str | None = None,
        name: str = "library",
        backoff: Backoff | None = None,
        heartbeat: float = 20.0,
        connect_timeout: float = 10.0,
        on_status: Callable[[Status], None] | None = None,
        on_push: Callable[[Frame], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is sent before `async with`.

        Args:
            url: e.g. wss://127.0.0.1:8443/ws.
            token: the device's token.
            ssl: a context, or the file of the certificate to trust; None trusts the system's authorities.
            name: distinguishes this client from others in the server's log.
            backoff: the waits between attempts to reconnect.
            heartbeat: seconds between pings, which detect a dead link.
            connect_timeout: the bound of one attempt to connect, in seconds.
            on_status: called when the connection goes and comes back; must be quick and not raise.
            on_push: called with each push that belongs to no stream; must be quick and not raise.
            check: called before each attempt to connect; raises UnreachableError where the token must not go now.

        Raises:
            UnreachableError: the certificate file cannot be read.
        """
        self._address = websocket_client.ServerAddress(
            url=url,
            token=token,
            tls=websocket_client.tls_context(ssl),
            agent=f"pocket-agent/{__version__} ({name})",
            heartbeat_seconds=heartbeat,
            connect_seconds=connect_timeout,
            check=check,
        )
        self._backoff = backoff or Backoff()
        self._on_status = on_status
        self._on_push = on_push
        self._streams: dict[str, Subscription] = {}
        self._connection: ClientConnection | None = None
        self._failure: PocketAgentError | None = None
        self._changed = asyncio.Event()
        self._closing = False
        self._session: aiohttp.ClientSession | None = None
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            UnauthorizedError: the server does not accept the token.
            ForbiddenError: the token may not connect.
            CertificateError: the server's certificate is not trusted.
            UnreachableError: no server answers there.
        """
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            connection = await ClientConnection.open(session, self._address)
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._group = await asyncio.TaskGroup().__aenter__()
        self._online(connection)
        self._runner = self._group.create_task(self._run(session, connection), name="pocket-agent client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        connection = self._connection
        self._give_up(client_errors.ConnectionLostError("The client is closed."))
        assert self._runner is not None
        assert self._group is not None
        assert self._session is not None
        try:
            if connection is not None:
                await connection.close()
        finally:
            self._runner.cancel()
            try:
                # The group would wrap an error of the caller's block; only cancellation is its business.
                cancelled = error if isinstance(error, asyncio.CancelledError) else None
                await self._group.__aexit__(kind if cancelled else None, cancelled, trace if cancelled else None)
            finally:
                await self._session.close()

    @property
    def online(self) -> bool:
        return self._connection is not None

    async def request(
        self,
        kind: str,
        data: Mapping[str, object] | None = None,
        *,
        project_id: str | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT_SECONDS,
    ) -> Frame:
        """Send a request, as soon as the connection is open, and wait for its reply.

        Args:
            kind: the request's `type`.
            data: its `data`; values that msgspec can encode.
            project_id: the project that it is about.
            timeout: seconds for all of it, waiting for the connection included; None waits on.

        Raises:
            TimeoutError: no reply in time.
            ConnectionLostError: the connection ended before the reply came, and the request is not one
                that may be sent twice.
            PocketAgentError: the class of errors.py whose code the server's error carries.
        """
        body = dict(data or {})
        repeatable = kind in REQUESTS and REQUESTS[kind].spec.repeatable
        repeatable = repeatable or (kind == "execute" and body.get("prompt_id") is not None)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    connection = await self.connected()
                    try:
                        return await connection.request(kind, body, project_id=project_id)
                    except client_errors.ConnectionLostError as error:
                        if not repeatable or error.details.get("close_code") in _NEVER_REPEATED_AFTER:
                            raise
        except TimeoutError as error:
            raise TimeoutError(f"No reply to {kind} in {timeout:g} s.") from error

    async def _ask(self, kind: str, reply: type[_Data], project_id: str | None = None, /, **data: object) -> _Data:
        """Send a request and decode its reply; the server treats null as an absent field."""
        return _decode_reply(await self.request(kind, data, project_id=project_id), reply)

    async def create_project(self, path: str, *, shown: str | None = None) -> push.ProjectStateData:
        """Make the directory `path` of the server's machine a project.

        `shown` is the `hash` of the settings that a user has seen (`inspect_path`): the server accepts nothing else.
        None accepts the current ones.
        """
        return await self._ask("project_create", push.ProjectStateData, path=path, hash=shown)

    async def trust_project(self, project_id: str, shown: str) -> push.ProjectStateData:
        """Accept what the project's own settings have the CLI do, in the state that has the hash `shown`."""
        return await self._ask("project_trust", push.ProjectStateData, project_id, hash=shown)

    async def projects(self) -> list[push.ProjectStateData]:
        return (await self._ask("project_list", requests.ProjectListData)).projects

    async def delete_project(self, project_id: str) -> None:
        """Delete a project and its log; the directory stays."""
        await self.request("project_delete", project_id=project_id)

    async def create_conversation(
        self,
        project_id: str,
        *,
        title: str | None = None,
        worktree: requests.WorktreeRequest | None = None,
        session_id: str | None = None,
        fork: bool = False,
    ) -> push.ProjectStateData:
        """Begin another conversation in a project; its `conversation_id` takes the place of a `project_id` everywhere.

        Args:
            project_id: the project.
            title: a name for people.
            worktree: a git worktree as its directory; None for the project's.
            session_id: a session of the CLI (`sessions`) that it continues, with `fork` as a copy.
        """
        data = {"title": title, "worktree": worktree, "session_id": session_id, "fork": fork}
        timeout = _WORKTREE_TIMEOUT_SECONDS if worktree is not None else _DEFAULT_TIMEOUT_SECONDS
        reply = await self.request("conversation_create", data, project_id=project_id, timeout=timeout)
        return _decode_reply(reply, push.ProjectStateData)

    async def conversations(self, project_id: str, *, archived: bool = False) -> requests.ConversationListData:
        """The conversations of a project, the main one first."""
        return await self._ask("conversation_list", requests.ConversationListData, project_id, archived=archived)

    async def rename_conversation(self, conversation_id: str, title: str | None) -> push.ProjectStateData:
        return await self._ask("conversation_rename", push.ProjectStateData, conversation_id, title=title)

    async def archive_conversation(self, conversation_id: str, *, archived: bool = True) -> push.ProjectStateData:
        return await self._ask("conversation_archive", push.ProjectStateData, conversation_id, archived=archived)

    async def delete_conversation(self, conversation_id: str, *, discard: bool = False) -> push.ConversationDeletedData:
        """Delete a conversation and its worktree, with `discard` also work that only the worktree has."""
        reply = await self.request(
            "conversation_delete", {"discard": discard}, project_id=conversation_id, timeout=_WORKTREE_TIMEOUT_SECONDS
        )
        return _decode_reply(reply, push.ConversationDeletedData)

    async def execute(
        self,
        project_id: str,
        prompt: str,
        *,
        options: ExecuteOptions | None = None,
        prompt_id: str | None = None,
        traceparent: str | None = None,
        when: Literal["queue", "now", "interrupt"] = "queue",
        timeout: float | None = None,
    ) -> requests.ExecuteData:
        """Give the agent a prompt. It runs once, however often the connection is lost before the reply comes.

        Args:
            prompt: the text.
            options: choices for this execution only.
            prompt_id: names the prompt, so that sending it again is the same prompt; random if None.
            traceparent: the span (W3C Trace Context) that the execution's trace continues.
            when: behind the waiting prompts, into the running turn, or instead of the running execution.
            timeout: seconds to wait for the reply (not for the agent), offline or not; None waits on.
        """
        data = {
            "prompt": prompt,
            "prompt_id": prompt_id or uuid.uuid4().hex,
            "options": options,
            "traceparent": traceparent,
            "when": when,
        }
        reply = await self.request("execute", data, project_id=project_id, timeout=timeout)
        return _decode_reply(reply, requests.ExecuteData)

    async def interrupt(
        self, project_id: str, *, execution_id: str | None = None, hold_queue: bool = False
    ) -> requests.AgentInterruptData:
        """Ask the agent to stop what it does; its session stays warm.

        With `execution_id` only this execution; `hold_queue` keeps the prompts that wait until `resume_queue`.
        """
        reply = requests.AgentInterruptData
        return await self._ask("agent_interrupt", reply, project_id, execution_id=execution_id, hold_queue=hold_queue)

    async def kill(
        self, project_id: str, *, execution_id: str | None = None, hold_queue: bool = False
    ) -> push.AgentKillData:
        """End the running execution and all its processes; the arguments are those of `interrupt`."""
        reply = push.AgentKillData
        return await self._ask("agent_kill", reply, project_id, execution_id=execution_id, hold_queue=hold_queue)

    async def resume_queue(self, project_id: str) -> requests.QueueResumeData:
        """Start the prompts that wait after the queue was on hold."""
        return await self._ask("queue_resume", requests.QueueResumeData, project_id)

    async def new_session(self, project_id: str) -> push.SessionResetData:
        """Start a fresh conversation with the next prompt."""
        return await self._ask("agent_new_session", push.SessionResetData, project_id)

    async def approve(
        self,
        project_id: str,
        approval_id: str,
        *,
        updated_input: Mapping[str, object] | None = None,
        remember: bool = False,
    ) -> push.ApprovalResolvedData:
        """Let the agent use the tool.

        `updated_input` replaces its input; with `remember` the CLI does not ask again where it suggested that.
        """
        return await self._ask(
            "approval_respond",
            push.ApprovalResolvedData,
            project_id,
            approval_id=approval_id,
            behavior="allow",
            updated_input=updated_input,
            remember=remember,
        )

    async def accept(
        self, project_id: str, approval_id: str, content: Mapping[str, object] | None = None
    ) -> push.ApprovalResolvedData:
        """Answer a question of an MCP server (`Elicitation`); `content` has the values of its form's fields."""
        data = {"approval_id": approval_id, "behavior": "allow", "content": content}
        return await self._ask("approval_respond", push.ApprovalResolvedData, project_id, **data)

    async def deny(
        self, project_id: str, approval_id: str, message: str | None = None, *, cancel: bool = False
    ) -> push.ApprovalResolvedData:
        """Keep the agent from using the tool; the agent gets `message` as the reason.

        A question of an MCP server is declined, or closed without an answer with `cancel`.
        """
        reply = push.ApprovalResolvedData
        data = {"approval_id": approval_id, "behavior": "deny", "message": message, "cancel": cancel}
        return await self._ask("approval_respond", reply, project_id, **data)

    async def messages(
        self,
        project_id: str,
        *,
        since: Position | int | str | None = None,
        before: Position | int | None = None,
        limit: int = 100,
        direction: Literal["all", "client", "claude", "server"] = "all",
        max_bytes: int | None = None,
        large: Literal["whole", "reference"] = "whole",
    ) -> requests.MessagesData:
        """A page of the log: `limit` entries after `since`, or up to `before`, or the newest ones.

        Args:
            since: only entries after this one, the oldest first.
            before: only entries before this one, the newest of them.
            limit: at most this many entries, 1 to 1000.
            direction: only entries of this one.
            max_bytes: at most this many bytes of data, 1 KiB to 8 MiB, but one entry always.
            large: "reference" replaces each entry of more than 16 KiB by a preview (see `MessageData`), which a
                page of that entry alone fetches whole.
        """
        data: dict[str, object] = {"limit": limit, "direction": direction, "large": large}
        data |= {"max_bytes": max_bytes, "since": since, "before": before}
        return _decode_page(await self.request("get_messages", data, project_id=project_id))

    async def edit_prompt(self, project_id: str, execution_id: str, prompt: str) -> None:
        """Change a prompt that still waits in the queue."""
        await self.request("prompt_edit", {"execution_id": execution_id, "prompt": prompt}, project_id=project_id)

    async def promote_prompt(self, project_id: str, execution_id: str) -> None:
        """Give a prompt that waits in the queue to the agent now."""
        await self.request("prompt_promote", {"execution_id": execution_id}, project_id=project_id)

    async def cancel_prompt(self, project_id: str, execution_id: str) -> None:
        """Withdraw a prompt that still waits in the queue."""
        await self.request("prompt_cancel", {"execution_id": execution_id}, project_id=project_id)

    async def stop_task(self, project_id: str, task_id: str) -> None:
        """End one background task of the agent."""
        await self.request("stop_task", {"task_id": task_id}, project_id=project_id)

    async def report(self, project_id: str, report: Literal["context", "mcp", "usage"]) -> requests.AgentReportData:
        """What the agent's process reports about its context window, its MCP servers, or its account's limits."""
        return await self._ask("agent_report", requests.AgentReportData, project_id, report=report)

    async def rewind_files(
        self, project_id: str, execution_id: str, *, dry_run: bool = False
    ) -> requests.RewindFilesData:
        """Set the files back to their state before an execution, as far as the agent's file tools changed them."""
        reply = requests.RewindFilesData
        return await self._ask("rewind_files", reply, project_id, execution_id=execution_id, dry_run=dry_run)

    async def set_model(self, project_id: str, model: str | None) -> None:
        """Choose the model, now and for later prompts; None is the CLI's default."""
        await self.request("set_model", {"model": model}, project_id=project_id)

    async def set_permission_mode(self, project_id: str, mode: str) -> None:
        """Choose the permission mode, now and for later prompts."""
        await self.request("set_permission_mode", {"mode": mode}, project_id=project_id)

    async def sessions(self, project_id: str, *, watch: bool = False) -> list[push.SessionData]:
        """The conversations that can be resumed, newest first.

        `watch`: get `sessions_changed` pushes on this connection, until `unfollow_session`; call it again after a
        reconnect. They belong to the stream of `project_id`, if there is one, else to `on_push`.
        """
        return (await self._ask("session_list", requests.SessionListData, project_id, watch=watch)).sessions

    async def session_history(
        self, project_id: str, session_id: str, *, before: int | None = None, limit: int = 100
    ) -> requests.SessionHistoryData:
        """A page of a session from the CLI's own file: its newest records, or those before a position."""
        reply = requests.SessionHistoryData
        return await self._ask("session_history", reply, project_id, session_id=session_id, before=before, limit=limit)

    async def follow_session(
        self, project_id: str, session_id: str, *, epoch: str | None = None, after: int | None = None
    ) -> requests.SessionLinesData:
        """Get `session_lines` pushes (`on_push`) on this connection; call it again after a reconnect.

        `epoch` and `after` are those of the history or of the last push; without them only new records are sent.
        """
        reply = requests.SessionLinesData
        return await self._ask("session_follow", reply, project_id, session_id=session_id, epoch=epoch, after=after)

    async def unfollow_session(self, project_id: str, session_id: str | None = None) -> None:
        """Stop to follow a session, or to watch the list of sessions."""
        await self.request("session_unfollow", {"session_id": session_id}, project_id=project_id)

    async def release_session(self, project_id: str) -> requests.SessionReleaseData:
        """End the idle process of the agent, so that a terminal can continue the conversation."""
        return await self._ask("session_release", requests.SessionReleaseData, project_id)

    async def resume(self, project_id: str, session_id: str, *, fork: bool = False) -> requests.SessionResumeData:
        """Continue an older conversation with the next prompt, or a copy of it (`fork`)."""
        reply = requests.SessionResumeData
        return await self._ask("session_resume", reply, project_id, session_id=session_id, fork=fork)

    async def executions(
        self, project_id: str, *, limit: int = 50, before: str | None = None
    ) -> requests.ExecutionListData:
        """A page of executions with their usage, newest first: `limit` (1 to 200) of them before another one's id."""
        return await self._ask("execution_list", requests.ExecutionListData, project_id, limit=limit, before=before)

    async def watch(self, *, away: bool = False) -> requests.WatchData:
        """Get pushes about all projects on this connection (`on_push`); call it again after a reconnect.

        `away`: no user is at this client, so that users are notified as if it were not connected.
        """
        return await self._ask("watch", requests.WatchData, away=away)

    async def complete_path(self, path: str) -> requests.PathCompleteData:
        """The directories with which the path of a new project may continue."""
        return await self._ask("path_complete", requests.PathCompleteData, path=path)

    async def inspect_path(self, path: str, offset: int = 0) -> requests.PathInspectData:
        """What a directory has the CLI do without asking, or would if it were a project: a page, from `offset` on."""
        return await self._ask("path_inspect", requests.PathInspectData, path=path, offset=offset)

    async def inspect_all(self, path: str) -> requests.PathInspectData:
        """All pages of `inspect_path`, of one state of the directory.

        Raises:
            ValidationError: the directory's settings change all the time.
        """
        for _ in range(_MAX_INSPECTIONS):
            found = await self.inspect_path(path)
            claims, page = list(found.claims), found
            while len(claims) < found.total and page.claims and page.hash == found.hash:
                page = await self.inspect_path(path, len(claims))
                claims += page.claims
            if len(claims) == found.total and page.hash == found.hash:
                return msgspec.structs.replace(found, claims=claims)
        raise ValidationError("The settings of the directory changed while they were read; try again.")

    async def health(self) -> requests.HealthCheckData:
        return await self._ask("health_check", requests.HealthCheckData)

    async def stats(self) -> push.ServerStatsData:
        return await self._ask("server_stats", push.ServerStatsData)

    def subscribe(
        self,
        project_id: str,
        since: Since = None,
        *,
        max_frames: int = MAX_BUFFERED_FRAMES,
        max_bytes: int = MAX_BUFFERED_BYTES,
    ) -> Subscription:
        """A stream of a project, to be entered with `async with`; one for each project and client.

        Args:
            since: the last entry that the caller has: a position, an offset or a time; None is now, 0 everything.
            max_frames: how many frames are buffered for a slow consumer.
            max_bytes: how many bytes of frames are buffered for it.
        """
        return Subscription(self, project_id, since, max_frames=max_frames, max_bytes=max_bytes)

    async def connected(self) -> ClientConnection:
        """Wait for the open connection. Raises PocketAgentError when the client is closed, or was refused for good."""
        while self._connection is None:
            if self._failure is not None:
                raise client_errors.copy_error(self._failure)
            await self._changed.wait()
        return self._connection

    def attach(self, subscription: Subscription) -> None:
        """Route a project's frames to a stream. Called by the stream."""
        if subscription.project_id in self._streams:
            raise ValueError(f"This client has a stream of project {subscription.project_id} already.")
        self._streams[subscription.project_id] = subscription

    async def detach(self, subscription: Subscription) -> None:
        """Stop routing a project's frames, and leave it. Called by the stream."""
        if self._streams.get(subscription.project_id) is subscription:
            del self._streams[subscription.project_id]
        if self._connection is not None:
            await _leave(self._connection, subscription.project_id)

    def delay(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` of something that failed."""
        return self._backoff.delay(attempt)

    async def _run(self, session: aiohttp.ClientSession, first: ClientConnection) -> None:
        connection: ClientConnection | None = first
        attempt = 0
        while connection is not None:
            reason = await self._serve(connection)
            if self._closing:
                return
            if not isinstance(reason, client_errors.ConnectionLostError):
                self._give_up(reason)
                return
            attempt = 0 if connection.proved else attempt + 1
            connection = await self._reconnect(session, reason, attempt)

    async def _serve(self, connection: ClientConnection) -> PocketAgentError:
        """Dispatch frames until the connection ends; returns why it did."""
        violation: client_errors.ProtocolViolationError | None = None
        try:
            async for frame in connection.frames():
                await self._dispatch(connection, frame)
        except client_errors.ProtocolViolationError as error:
            violation = error
        reason = connection.end()
        if not self._closing:  # __aexit__ waits for the close handshake itself
            self._offline()
            await connection.close()
        return violation or reason

    async def _dispatch(self, connection: ClientConnection, frame: Frame) -> None:
        if frame.request_id is not None and frame.offset is None:
            return  # a reply, which its request has got
        stream = self._streams.get(frame.conversation_id) if frame.conversation_id is not None else None
        if stream is None:
            if self._on_push is not None:
                self._on_push(frame)
        elif not stream.accept(frame):
            await _leave(connection, stream.project_id)

    async def _reconnect(
        self, session: aiohttp.ClientSession, reason: PocketAgentError, attempt: int
    ) -> ClientConnection | None:
        while True:
            wait = self._backoff.delay(attempt)
            self._notify(Status(False, reason.message, attempt, wait))
            await asyncio.sleep(wait)
            try:
                connection = await ClientConnection.open(session, self._address)
            except (UnauthorizedError, ForbiddenError, client_errors.CertificateError) as error:
                self._give_up(error)
                return None
            except client_errors.UnreachableError as error:
                reason = error
                attempt += 1
            else:
                self._online(connection)
                return connection

    def _online(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._changed.set()
        self._notify(Status(True))

    def _offline(self) -> None:
        self._connection = None
        self._changed.clear()
        for stream in self._streams.values():
            stream.release(None)

    def _give_up(self, failure: PocketAgentError) -> None:
        self._connection = None
        self._failure = self._failure or failure
        self._changed.set()
        for stream in self._streams.values():
            stream.release(self._failure)
        if not self._closing:
            self._notify(Status(False, failure.message))

    def _notify(self, status: Status) -> None:
        if self._on_status is not None:
            self._on_status(status)


def _decode_reply(reply: Frame, kind: type[_Data], payload: bytes | None = None) -> _Data:
    try:
        return msgspec.json.decode(reply.payload if payload is None else payload, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise client_errors.ProtocolViolationError(
            f"The reply {reply.type} is not as it should be: {error}."
        ) from error


_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""A JSON escape (RFC 8259 section 7): a surrogate pair, a lone surrogate (the group), or any other."""


def _decode_page(reply: Frame) -> requests.MessagesData:
    """A page of history, whose lines may hold lone surrogates: msgspec refuses these, JSON does not."""
    whole = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], reply.payload)
    page = _decode_reply(reply, requests.MessagesData, whole)
    if whole == reply.payload:
        return page
    # A replacement is as long as the escape, so that each message is found at the same place.
    messages, end = [], 0
    for message in page.messages:
        start = whole.index(bytes(message.message), end)
        end = start + len(bytes(message.message))
        messages.append(msgspec.structs.replace(message, message=msgspec.Raw(reply.payload[start:end])))
    return msgspec.structs.replace(page, messages=messages)


async def _leave(connection: ClientConnection, project_id: str) -> None:
    """Leave a project without waiting for the reply: frames before it are not routed to a stream."""
    with contextlib.suppress(client_errors.ConnectionLostError):
        await connection.send("project_leave", {}, project_id=project_id, request_id=f"leave {project_id}")
