"""Whoever writes never waits; what is lost is counted, and told when lines can be written again."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.structured_log import FileOutput, LogOutput, LogWriter, StreamOutput
from tests.harness.absence import absent
from tests.harness.disk import fill, small_disk

BOUND = 60.0
"""Nothing is expected to take so long."""


def notice(count: int) -> bytes:
    """Tells how many lines were lost."""
    return b'{"lost":%d}\n' % count


def line(number: int, size: int = 100) -> bytes:
    """A numbered line."""
    return json.dumps({"number": number}).ljust(size - 1).encode() + b"\n"


def parsed(data: bytes) -> tuple[list[int], int]:
    """The numbers of the lines that arrived, and how many were told to be lost."""
    lines: list[dict[str, Any]] = [json.loads(text) for text in data.splitlines()]
    return [found["number"] for found in lines if "number" in found], sum(found.get("lost", 0) for found in lines)


class Held:
    """An output that takes nothing before it may, and then refuses as many batches as it is told."""

    def __init__(self, refusals: int = 0) -> None:
        self.began, self.may = threading.Event(), threading.Event()
        self.refusals = refusals
        self.data = b""
        self.closed = False

    def write(self, lines: Sequence[bytes]) -> int:
        """Wait, then take or refuse."""
        self.began.set()
        assert self.may.wait(BOUND)
        if self.refusals:
            self.refusals -= 1
            return 0
        self.data += b"".join(lines)
        return len(lines)

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_lines_arrive_in_order_and_the_end_waits_for_them(tmp_path: Path) -> None:
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)
    for number in range(20_000):
        sink.write(line(number))
    sink.close(BOUND)
    assert parsed((tmp_path / "log").read_bytes()) == (list(range(20_000)), 0)
    assert losses.of("logs") == 0


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)

    def work(first: int) -> None:
        for number in range(first, first + 2000):
            sink.write(line(number))

    threads = [threading.Thread(target=work, args=(2000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    sink.close(BOUND)
    numbers, _ = parsed((tmp_path / "log").read_bytes())
    assert sorted(numbers) == list(range(16_000))


def test_what_does_not_fit_is_lost_counted_and_told() -> None:
    output, losses = Held(), Losses()
    sink = LogWriter(output, losses, notice, most_bytes=1000)
    sink.write(line(0))
    assert output.began.wait(BOUND)  # it holds the first one
    for number in range(1, 26):
        sink.write(line(number))
    assert losses.of("logs") == 15
    output.may.set()
    sink.close(BOUND)
    assert parsed(output.data) == (list(range(11)), 15)
    assert output.closed


def test_what_is_refused_is_lost_counted_and_told() -> None:
    output, losses = Held(refusals=1), Losses()
    sink = LogWriter(output, losses, notice)
    sink.write(line(0))
    assert output.began.wait(BOUND)
    sink.write(line(1))
    sink.write(line(2))
    output.may.set()
    sink.close(BOUND)
    assert parsed(output.data) == ([1, 2], 1)
    assert losses.of("logs") == 1


def test_the_end_is_bounded_and_what_waits_is_lost() -> None:
    output, losses = Held(), Losses()
    sink = LogWriter(output, losses, notice)
    sink.write(line(0))
    assert output.began.wait(BOUND)
    sink.write(line(1))
    sink.close(0.01)
    assert losses.of("logs") == 1
    sink.write(line(2))
    assert losses.of("logs") == 2, "what comes after the end"
    output.may.set()


def test_a_line_that_comes_up_while_another_is_handed_over(tmp_path: Path) -> None:
    """A finaliser may log at any point of any line of Python, in the thread that hands over."""
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)
    with sink._changed:
        sink.write(line(0))
    sink.close(BOUND)
    assert parsed((tmp_path / "log").read_bytes()) == ([0], 0)


@contextlib.contextmanager
def stalled_pipe() -> Iterator[tuple[int, LogOutput]]:
    """A pipe that nobody reads yet, and the output into it."""
    reader, writer = os.pipe()
    try:
        yield reader, StreamOutput(writer, owned=True)
    finally:
        os.close(reader)


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    losses = Losses()
    with stalled_pipe() as (reader, output):
        sink = LogWriter(output, losses, notice, most_bytes=100_000)
        for number in range(10_000):  # a megabyte
            sink.write(line(number))
        assert losses.of("logs") > 5000
        data = bytearray()

        def read() -> None:
            while part := os.read(reader, 65536):
                data.extend(part)

        reading = threading.Thread(target=read)
        reading.start()
        sink.close(BOUND)
        reading.join(BOUND)
    numbers, told = parsed(bytes(data))
    assert told == losses.of("logs")
    assert len(numbers) + told == 10_000
    assert numbers == sorted(numbers)


def test_a_full_disk_recovers(tmp_path: Path) -> None:
    disk, losses = tmp_path / "disk", Losses()
    with small_disk(disk):
        sink = LogWriter(FileOutput(disk / "log", max_bytes=0, max_files=0), losses, notice)
        rest = fill(disk)
        for number in range(1000):
            sink.write(line(number))
        wait_for(lambda: losses.of("logs") >= 900)
        rest.unlink()
        sink.write(line(5000))
        sink.close(BOUND)
        numbers, told = parsed((disk / "log").read_bytes())
    assert numbers[-1] == 5000
    assert told == losses.of("logs")
    assert len(numbers) + told == 1001


def wait_for(condition: Any) -> None:
    """Wait for another thread."""
    waiting = threading.Event()
    for _ in range(int(BOUND / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("never came true")


def test_where_nothing_can_be_written_all_is_counted() -> None:
    if not Path("/dev/full").exists():
        absent("/dev/full")
    losses = Losses()
    sink = LogWriter(StreamOutput(os.open("/dev/full", os.O_WRONLY), owned=True), losses, notice)
    for number in range(100):
        sink.write(line(number))
    sink.close(BOUND)
    assert losses.of("logs") == 100
