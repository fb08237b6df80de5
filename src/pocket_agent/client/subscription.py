"""The stream of one project: each entry once, in order, across any number of connections."""

import asyncio
import enum
from collections import deque
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from pocket_agent.client.client_errors import ConnectionLostError, ProtocolViolationError, copy_error
from pocket_agent.client.websocket_client import ClientConnection, Frame
from pocket_agent.errors import PocketAgentError, RateLimitedError
from pocket_agent.model import Position
from pocket_agent.protocol.requests import ProjectJoinData

MAX_BUFFERED_FRAMES: Final = 10_000
MAX_BUFFERED_BYTES: Final = 64 * 1024 * 1024

Since = Position | int | str | None
"""Where to start: a position, an offset of the current epoch, an RFC 3339 time, or None for now."""

_decode_join: Final = msgspec.json.Decoder(ProjectJoinData).decode


_DELETED: Final = frozenset({"project_deleted", "conversation_deleted"})


class StreamState(enum.StrEnum):
    """How a stream relates to its log."""

    LIVE = "live"
    CATCHING_UP = "catching-up"
    OFFLINE = "offline"


class Link(Protocol):
    async def connected(self) -> ClientConnection: ...

    @property
    def online(self) -> bool: ...

    def attach(self, subscription: "Subscription") -> None: ...

    async def detach(self, subscription: "Subscription") -> None: ...

    def delay(self, attempt: int) -> float: ...


class Subscription:
    """Frames of a project; iterate over it inside `async with`, from one task.

    It joins by itself, again after each connection that ended, each time with the last entry that it has.
    Each join is a `project_join` frame in the stream, so that a user interface sees what waits
    (`approvals`, `queue`) and what is being written (`partial`). When the log could not be
    continued, that frame has `gap` set, and the entries after it are another log or begin later.

    Memory is bounded: when the consumer is too slow, frames that do not fit are dropped and the project left;
    it is joined again, from the last entry kept, when the consumer has caught up.

    Attributes:
        joined: the last reply to `project_join`; None before the first.
        position: the last entry that the consumer got; None until the log's epoch is known.
    """

    def __init__(
        self,
        link: Link,
        project_id: str,
        since: Since,
        *,
        max_frames: int = MAX_BUFFERED_FRAMES,
        max_bytes: int = MAX_BUFFERED_BYTES,
    ) -> None:
        self.project_id = project_id
        self.joined: ProjectJoinData | None = None
        self.position = since if isinstance(since, Position) else None
        self._link = link
        self._since = since
        self._buffer: deque[Frame] = deque()
        self._buffered_bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._attached = False
        self._ended = False
        self._failure: PocketAgentError | None = None
        self._wake = asyncio.Event()
        self._epoch = ""
        self._seen_at: str | None = None
        """The timestamp of the entry at `_since`; another one there shows a log that was put back."""
        self._next: int | None = None  # the offset that the next entry must have; None when any may come

    @property
    def state(self) -> StreamState:
        """Whether the stream has what the server has, as far as it knows."""
        if not self._link.online:
            return StreamState.OFFLINE
        if not self._attached or self.joined is None:
            return StreamState.CATCHING_UP
        if self.position is None:  # `since` is a time, and nothing came yet
            return StreamState.CATCHING_UP if self._buffer else StreamState.LIVE
        behind = self.position.offset < self.joined.offset
        return StreamState.CATCHING_UP if behind else StreamState.LIVE

    async def __aenter__(self) -> Self:
        """Join.

        Raises:
            ValueError: the client has a stream of this project already.
            ProjectNotFoundError: there is no such project.
            PocketAgentError: another error of the server.
        """
        self._link.attach(self)
        try:
            await self._join()
        except BaseException:
            await self._link.detach(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._attached = False
        await self._link.detach(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        """The next frame; cancelling this loses nothing.

        Raises:
            StopAsyncIteration: the project or the conversation was deleted.
            ProtocolViolationError: the server left out or repeated an entry.
            PocketAgentError: the project cannot be joined again, or the client may not connect any more.
        """
        while True:
            if self._buffer:
                return self._take()
            if self._failure is not None:
                raise copy_error(self._failure)
            if self._ended:
                raise StopAsyncIteration
            if not self._attached:
                await self._join()
                continue
            self._wake.clear()
            await self._wake.wait()

    def accept(self, frame: Frame) -> bool:
        """Take a frame from the connection. Called by the client.

        Returns:
            False when the buffer is full: the frame is dropped, and the project should be left.
        """
        if not self._attached:
            return True  # from before a join that is under way, which will bring it again
        full = len(self._buffer) >= self._max_frames or self._buffered_bytes >= self._max_bytes
        if full and frame.type not in _DELETED:
            self._attached = False
            return False
        if frame.offset is not None and not self._advance(frame, frame.offset):
            return True
        self._put(frame)
        if frame.type in _DELETED:
            self._attached = False
            self._ended = True
        return True

    def release(self, failure: PocketAgentError | None) -> None:
        """The connection ended, for good with `failure`. Called by the client."""
        self._attached = False
        self._failure = self._failure or failure
        self._wake.set()

    async def _join(self) -> None:
        attempt = 0
        while self._failure is None:
            connection = await self._link.connected()
            data: dict[str, object] = {}
            if isinstance(self._since, Position) and self._seen_at is not None:
                since = self._since
                data["since"] = {"epoch": since.epoch, "offset": since.offset, "timestamp": self._seen_at}
            elif self._since is not None:
                data["since"] = self._since
            try:
                await connection.request("project_join", data, project_id=self.project_id, on_reply=self._on_joined)
                break  # the buffer may have overflown since: __anext__ joins again once it is empty
            except ConnectionLostError:
                continue
            except RateLimitedError:
                await asyncio.sleep(self._link.delay(attempt))
                attempt += 1
        if self._failure is not None and not self._buffer:  # frames from before it are delivered first
            raise copy_error(self._failure)

    def _on_joined(self, frame: Frame) -> None:
        try:
            joined = _decode_join(frame.payload)
        except msgspec.MsgspecError as error:
            self._fail(f"the reply to project_join is unreadable ({error})")
            return
        asked = self._since
        if isinstance(asked, Position) and joined.recovered and joined.epoch != asked.epoch:
            self._fail(f"epoch {joined.epoch} was given as the continuation of epoch {asked.epoch}")
            return
        frame.gap = asked is not None and not joined.recovered
        start = _start(asked, joined)
        if start != asked:
            self._seen_at = None
        frame.position = start
        self._next = None if frame.gap or start is None else start.offset + 1
        self._since = asked if start is None else start
        self._epoch = joined.epoch
        self.joined = joined
        if self.position is None:
            self.position = start
        self._attached = True
        self._put(frame)

    def _advance(self, frame: Frame, offset: int) -> bool:
        if self._next is not None and offset != self._next:
            self._fail(f"entry {offset} came where entry {self._next} was due")
            return False
        self._next = offset + 1
        self._seen_at = frame.timestamp or None
        frame.position = self._since = Position(epoch=self._epoch, offset=offset)
        return True

    def _fail(self, what: str) -> None:
        self._attached = False
        self._failure = ProtocolViolationError(f"The log of project {self.project_id} has a fault: {what}.")
        self._wake.set()

    def _put(self, frame: Frame) -> None:
        self._buffer.append(frame)
        self._buffered_bytes += len(frame.raw)
        self._wake.set()

    def _take(self) -> Frame:
        frame = self._buffer.popleft()
        self._buffered_bytes -= len(frame.raw)
        if frame.position is not None:
            self.position = frame.position
        return frame


def _start(asked: Since, joined: ProjectJoinData) -> Position | None:
    """The position before the first entry of a join; None when only that entry shows it."""
    if asked is None:
        return Position(epoch=joined.epoch, offset=joined.offset)
    if not joined.recovered:
        return Position(epoch=joined.epoch, offset=0)
    match asked:
        case Position():
            return asked
        case int():
            return Position(epoch=joined.epoch, offset=asked)
        case _:
            return None
