"""Lines go into the FIFO whole and in order, whatever their size and whoever gives up."""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest

from pocket_agent.claude.spool import Spool, SpoolWriter
from pocket_agent.errors import ProcessNotFoundError
from tests.harness import DEADLINE_SECONDS


@pytest.fixture
def reading(spool: Spool) -> Iterator[int]:
    """The process's end of the FIFO: it holds it open for reading and writing."""
    descriptor = os.open(spool.input, os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def level(descriptor: int) -> int:
    """Bytes in the FIFO."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]
    return count


async def drain(descriptor: int, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(data) < count:
            try:
                data += os.read(descriptor, 65536)
            except BlockingIOError:
                await asyncio.sleep(0)
    return data


async def test_an_ordinary_line_is_one_write(spool: Spool, reading: int) -> None:
    writer = SpoolWriter(spool)
    line = b"x" * 500_000 + b"\n"
    await writer.write(line)
    assert level(reading) == len(line)
    assert await drain(reading, len(line)) == line
    writer.close()


async def test_long_lines_of_several_writers_do_not_mix(spool: Spool, reading: int) -> None:
    writer = SpoolWriter(spool)
    lines = [bytes([65 + number]) * 2_000_000 + b"\n" for number in range(4)]
    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(asyncio.wait_for(writer.write(line), None))
        await asyncio.sleep(0)
        assert 0 < level(reading) < len(lines[0]), "the first has begun, and the others wait"
        data = await drain(reading, sum(map(len, lines)))
    assert data == b"".join(lines)
    writer.close()


async def test_a_line_that_has_begun_is_finished_even_when_cancelled(spool: Spool, reading: int) -> None:
    writer = SpoolWriter(spool)
    long, withdrawn, last = b"a" * 3_000_000 + b"\n", b"withdrawn\n", b"last\n"
    first = asyncio.ensure_future(writer.write(long))
    second = asyncio.ensure_future(writer.write(withdrawn))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.wait({first, second})
    assert first.cancelled()
    assert second.cancelled()
    third = asyncio.ensure_future(writer.write(last))
    assert await drain(reading, len(long) + len(last)) == long + last
    await third
    writer.close()


async def test_a_process_that_is_not_there_is_a_clear_error(spool: Spool) -> None:
    with pytest.raises(ProcessNotFoundError):
        SpoolWriter(spool)
    spool.remove()
    with pytest.raises(ProcessNotFoundError):
        SpoolWriter(spool)


async def test_a_process_that_ends_fails_the_lines_that_wait(spool: Spool) -> None:
    descriptor = os.open(spool.input, os.O_RDONLY | os.O_NONBLOCK)
    writer = SpoolWriter(spool)
    waiting = [asyncio.ensure_future(writer.write(b"x" * 2_000_000 + b"\n")) for _ in range(2)]
    await asyncio.sleep(0)
    os.close(descriptor)
    async with asyncio.timeout(DEADLINE_SECONDS):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ProcessNotFoundError] * 2
    with pytest.raises(ProcessNotFoundError):
        await writer.write(b"late\n")


async def test_closing_fails_the_lines_that_wait(spool: Spool, reading: int) -> None:
    writer = SpoolWriter(spool, resync=True)
    waiting = asyncio.ensure_future(writer.write(b"x" * 2_000_000 + b"\n"))
    await asyncio.sleep(0)
    writer.close()
    writer.close()
    with pytest.raises(ProcessNotFoundError):
        await waiting
    assert os.read(reading, 2) == b"\nx"


async def test_an_adopted_fifo_starts_on_a_line_of_its_own(spool: Spool, reading: int) -> None:
    os.write(reading, b'{"half":')
    writer = SpoolWriter(spool, resync=True)
    await writer.write(b"{}\n")
    assert os.read(reading, 100) == b'{"half":\n{}\n'
    writer.close()
