"""Writes log lines in a thread of its own, so that no disk and no pipe slows the server."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pocket_agent.observability.loss import Losses
from pocket_agent.observability.output import Output

MOST_BYTES: Final = 8 * 2**20
"""Lines that wait beyond this are dropped, and counted."""
_BATCH_BYTES: Final = 256 * 1024


class Sink:
    """Lines on their way to an output. Any thread may write; nobody waits."""

    def __init__(
        self, output: Output, losses: Losses, notice: Callable[[int], bytes], *, most_bytes: int = MOST_BYTES
    ) -> None:
        """Start the thread.

        Args:
            output: where the lines go; closed at the end.
            losses: where dropped lines are counted.
            notice: the line that tells how many were lost, written when lines can be written again.
            most_bytes: how much may wait.
        """
        self._output = output
        self._losses = losses
        self._notice = notice
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._untold = 0
        self._closing = False
        # Its lock can be taken again by the thread that holds it: a collected object may log in the midst of `write`.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hand over a line."""
        with self._changed:
            if self._closing or self._bytes + len(line) > self._most_bytes:
                self._lose(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def close(self, seconds: float) -> None:
        """Write what waits, for at most so many seconds; the rest is lost, and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._lose(len(self._lines))
            self._lines.clear()

    def _lose(self, count: int) -> None:
        if count:
            self._losses.add("logs", count)
            self._untold += count

    def _work(self) -> None:
        while batch := self._batch():
            refused = len(batch) - self._output.write(batch)
            with self._changed:
                self._lose(refused)
                tell = not refused and not self._lines
            if tell:
                self._tell()
        self._tell()
        self._output.close()

    def _batch(self) -> list[bytes]:
        """The next lines, when there are some; none at the end."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            batch: list[bytes] = []
            size = 0
            while self._lines and size < _BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            self._bytes -= size
            return batch

    def _tell(self) -> None:
        """Say how many lines were lost, if any were since it was said last."""
        with self._changed:
            count, self._untold = self._untold, 0
        if count and not self._output.write([self._notice(count)]):
            with self._changed:
                self._untold += count
