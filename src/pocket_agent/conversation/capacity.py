"""The limits of concurrent executions and CLI processes, shared by all projects."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable


class Capacity:
    """Execution slots, first come first served, and the warm processes in the order of their use.

    Args:
        max_executions: executions at a time.
        max_processes: CLI processes at a time, idle ones included, at least `max_executions`, since executing ones are
            never evicted.

    Attributes:
        executing: executions that hold a slot.
    """

    def __init__(self, *, max_executions: int, max_processes: int) -> None:
        self._slots = self._free = max_executions
        self.max_processes = max(max_processes, max_executions)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._warm: OrderedDict[str, Callable[[], Awaitable[bool]]] = OrderedDict()
        self._starting: set[str] = set()
        self.executing = 0

    def try_acquire(self) -> bool:
        """Take a slot if one is free and no caller waits for it."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        self.executing += 1
        return True

    async def acquire(self) -> None:
        """Wait for a slot."""
        if self.try_acquire():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def release(self) -> None:
        """Return a slot; the caller that has waited longest gets it."""
        self.executing -= 1
        self._free += 1
        self._serve()

    def resize(self, *, max_executions: int, max_processes: int) -> None:
        """Change the limits; executions and processes beyond them stay until they end."""
        self._free += max_executions - self._slots
        self._slots = max_executions
        self.max_processes = max(max_processes, max_executions)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                self.executing += 1
                turn.set_result(None)

    def occupy(self) -> None:
        """Take a slot, free or not, for an execution that already runs (adopted after a restart)."""
        self._free -= 1
        self.executing += 1

    def used(self, key: str, evict: Callable[[], Awaitable[bool]]) -> None:
        """Record that the process of the project `key` was used just now; `evict` closes it if it is idle."""
        self._starting.discard(key)
        self._warm[key] = evict
        self._warm.move_to_end(key)

    @property
    def processes(self) -> int:
        """The number of CLI processes."""
        return len(self._warm) + len(self._starting - self._warm.keys())

    def gone(self, key: str) -> None:
        """Record that `key` has no process (any more)."""
        self._starting.discard(key)
        self._warm.pop(key, None)

    async def reserve_process(self, key: str) -> None:
        """Evict least recently used idle processes until one more fits, and reserve its place until `used` or `gone`.

        Other projects that start a process at the same time find the place taken. When all processes work, their number
        exceeds `max_processes`.
        """
        for other, evict in list(self._warm.items()):
            if self.processes < self.max_processes:
                break
            if other != key and other in self._warm and await evict():
                self._warm.pop(other, None)
        self._starting.add(key)
