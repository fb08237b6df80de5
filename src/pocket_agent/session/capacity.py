"""How many executions and CLI processes the machine carries at a time, shared by all projects."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable


class Capacity:
    """Execution slots, first come first served, and the warm processes in the order of their use.

    Args:
        max_executions: executions at a time.
        max_processes: CLI processes at a time, idle ones included; executing ones are never evicted,
            so there are at least as many as there are executions.

    Attributes:
        max_processes: how many may be warm at a time.
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
        """Take a slot if one is free and nobody waits for it."""
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
        """Give a slot back; the longest waiting gets it."""
        self.executing -= 1
        self._free += 1
        self._serve()

    def resize(self, *, max_executions: int, max_processes: int) -> None:
        """Go on with other numbers; executions and processes that are too many then stay until they end."""
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
        """Take a slot for an execution that runs already (adopted after a restart), free or not."""
        self._free -= 1
        self.executing += 1

    def used(self, key: str, evict: Callable[[], Awaitable[bool]]) -> None:
        """Note that the process of `key` is running and was used just now.

        Args:
            key: the project.
            evict: closes the process if it is idle; returns whether it did.
        """
        self._starting.discard(key)
        self._warm[key] = evict
        self._warm.move_to_end(key)

    @property
    def processes(self) -> int:
        """How many CLI processes there are."""
        return len(self._warm) + len(self._starting - self._warm.keys())

    def gone(self, key: str) -> None:
        """Note that `key` has no process (any more)."""
        self._starting.discard(key)
        self._warm.pop(key, None)

    async def make_room(self, key: str) -> None:
        """Close least recently used idle processes until one more fits, and keep that place until `used` or `gone`.

        Other projects that start a process at the same time find the place taken. When every process is at work, there
        are more of them than `max_processes`.
        """
        for other, evict in list(self._warm.items()):
            if self.processes < self.max_processes:
                break
            if other != key and other in self._warm and await evict():
                self._warm.pop(other, None)
        self._starting.add(key)
