"""Real files, pipes and devices that refuse, fill, move and vanish."""

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket_agent.config import LoggingSettings
from pocket_agent.errors import ConfigurationError
from pocket_agent.observability.structured_log import FileOutput, LogOutput, StreamOutput, open_output
from tests.harness.absence import absent
from tests.harness.disk import fill, small_disk


def numbered(first: int, last: int, size: int = 100) -> list[bytes]:
    """Lines with their numbers, of this size each."""
    return [(b"%d " % number).ljust(size - 1, b".") + b"\n" for number in range(first, last + 1)]


def numbers(path: Path) -> list[int]:
    """The numbers of the lines of a file, which are whole."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [int(line.split()[0]) for line in data.splitlines() if line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes; its directory is not there yet."""
    return tmp_path / "logs" / "server.log"


def open_file(path: Path, **changed: int) -> FileOutput:
    """A file output that does not rotate, unless told to."""
    return FileOutput(path, **{"max_bytes": 0, "max_files": 3, **changed})


def test_it_is_its_owners_from_the_first_moment(path: Path) -> None:
    before = os.umask(0)
    try:
        output = open_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    output.close()


def test_rotated_files_are_their_owners_too_and_bounded(path: Path) -> None:
    before = os.umask(0)
    try:
        output = open_file(path, max_bytes=1000, max_files=2)
        assert output.write(numbered(1, 35)) == 35
    finally:
        os.umask(before)
        output.close()
    assert numbers(path) == [31, 32, 33, 34, 35]
    assert numbers(path.with_name("server.log.1")) == list(range(21, 31))
    assert numbers(path.with_name("server.log.2")) == list(range(11, 21))
    assert len(list(path.parent.iterdir())) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert max(file.stat().st_size for file in path.parent.iterdir()) == 1000


def test_a_line_longer_than_the_file_may_be_is_written_alone(path: Path) -> None:
    output = open_file(path, max_bytes=50, max_files=9)
    assert output.write(numbered(1, 3)) == 3
    output.close()
    assert [numbers(file) for file in sorted(path.parent.iterdir())] == [[3], [2], [1]]


def test_none_kept_is_none_kept(path: Path) -> None:
    output = open_file(path, max_bytes=500, max_files=0)
    assert output.write(numbered(1, 12)) == 12
    output.close()
    assert [file.name for file in path.parent.iterdir()] == ["server.log"]
    assert numbers(path) == [11, 12]


def test_it_goes_on_where_it_was_and_counts_what_is_there(path: Path) -> None:
    for first in (1, 8, 15):
        output = open_file(path, max_bytes=1000)
        assert output.write(numbered(first, first + 6)) == 7
        output.close()
    assert numbers(path) == [21]
    assert numbers(path.with_name("server.log.1")) == list(range(11, 21))


def test_a_line_that_a_dead_server_left_unfinished_spoils_none(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"1 whole\n2 cut in the mid")
    output = open_file(path)
    assert output.write([b"3 whole\n", b"4 whole\n"]) == 2
    output.close()
    assert path.read_bytes() == b"1 whole\n2 cut in the mid\n3 whole\n4 whole\n"


def test_moved_away_from_outside(path: Path) -> None:
    output = open_file(path)
    output.write(numbered(1, 2))
    moved = path.with_name("moved")
    path.rename(moved)
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert (numbers(moved), numbers(path)) == ([1, 2], [3, 4])


def test_copied_and_cut_from_outside(path: Path) -> None:
    output = open_file(path)
    output.write(numbered(1, 2))
    os.truncate(path, 0)
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert numbers(path) == [3, 4]


def test_its_directory_is_removed(path: Path) -> None:
    output = open_file(path)
    output.write(numbered(1, 2))
    path.unlink()
    path.parent.rmdir()
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert numbers(path) == [3, 4]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_cannot_be_written_refuses_until_it_can(path: Path) -> None:
    output = open_file(path)
    output.write(numbered(1, 2))
    path.unlink()
    path.mkdir()  # what even root cannot write to
    assert output.write(numbered(3, 4)) == 0
    assert output.write(numbered(5, 5)) == 0
    path.rmdir()
    assert output.write(numbered(6, 6)) == 1
    output.close()
    assert numbers(path) == [6]


def test_where_it_cannot_rotate_it_grows(path: Path) -> None:
    output = open_file(path, max_bytes=500, max_files=1)
    path.with_name("server.log.1").mkdir()
    assert output.write(numbered(1, 12)) == 12
    output.close()
    assert numbers(path) == list(range(1, 13))


def test_a_full_disk_takes_whole_lines_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk):
        path = disk / "server.log"
        output = open_file(path)
        rest = fill(disk, leave=16384)
        lines = numbered(1, 1000)
        written = output.write(lines)
        assert 0 < written < len(lines)
        assert numbers(path) == list(range(1, written + 1))
        assert output.write(numbered(2000, 2100)) == 0
        assert numbers(path) == list(range(1, written + 1))
        rest.unlink()
        assert output.write(numbered(3000, 3001)) == 2
        output.close()
        assert numbers(path) == [*range(1, written + 1), 3000, 3001]


def test_a_device_that_is_full() -> None:
    if not Path("/dev/full").exists():
        absent("/dev/full")
    output = open_output(LoggingSettings(output=Path("/dev/full")))
    assert isinstance(output, StreamOutput)
    assert output.write(numbered(1, 3)) == 0
    output.close()


@contextlib.contextmanager
def pipe(*, blocking: bool) -> Iterator[tuple[int, LogOutput]]:
    """The reading end of a pipe, and an output that writes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    output = StreamOutput(writer, owned=True)
    try:
        yield reader, output
    finally:
        output.close()
        with contextlib.suppress(OSError):
            os.close(reader)


def test_a_pipe_without_a_reader_refuses() -> None:
    with pipe(blocking=True) as (reader, output):
        assert output.write(numbered(1, 3)) == 3
        os.close(reader)
        assert output.write(numbered(4, 6)) == 0


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(tmp_path: Path) -> None:
    size = 300_000  # more than a pipe holds
    with pipe(blocking=False) as (reader, output), (tmp_path / "read").open("wb") as file:
        reading = subprocess.Popen(["head", "-c", str(size)], stdin=reader, stdout=file)
        assert output.write(numbered(1, size // 100)) == size // 100
        assert reading.wait(60) == 0
    assert (tmp_path / "read").read_bytes() == b"".join(numbered(1, size // 100))


def test_after_a_line_that_was_cut_the_next_begins_anew(tmp_path: Path) -> None:
    """The reader of a named pipe leaves in the middle of a line, and another comes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output = open_output(LoggingSettings(output=fifo))
    os.set_blocking(reader, True)
    leaving = subprocess.Popen(["head", "-c", "100000"], stdin=reader, stdout=subprocess.DEVNULL)
    os.close(reader)
    written = output.write(numbered(1, 10_000, 1000))
    assert leaving.wait(60) == 0
    assert 0 < written < 10_000
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.read(reader, 65536):  # what the first one left unread
            pass
    assert output.write([b"last\n"]) == 1
    assert os.read(reader, 65536) == b"\nlast\n"
    output.close()
    os.close(reader)


def refused(settings: LoggingSettings) -> str:
    """Why an output cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        open_output(settings)
    assert "logging.output" in caught.value.message
    return caught.value.message


def test_what_cannot_be_an_output_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refused(LoggingSettings(output=tmp_path))
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(LoggingSettings(output=tmp_path / "file" / "server.log"))
    os.mkfifo(tmp_path / "fifo")
    assert "no process reads it" in refused(LoggingSettings(output=tmp_path / "fifo"))


def test_a_closed_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)  # as Python has it when descriptor 1 is closed
    assert "stdout" in refused(LoggingSettings(output="stdout"))
