"""The file of the audit log: appended to by the server and by commands beside it, one at a time."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pocket_agent.audit.record import EMPTY, MAX_LINE, Head, Record, bounded, digest_of, encode, head_of

TORN: Final = "torn"
"""The action of a record that tells of what stands before it: the beginning of lines that a crash cut off."""

_PRIVATE: Final = 0o600
_TAIL_BYTES: Final = 8 * MAX_LINE


def audit_path(data_dir: Path) -> Path:
    """Where the log of a data directory is."""
    return data_dir / "audit.log"


def append(path: Path, records: Sequence[Record], known: Head) -> Head:
    """Write records behind what there is, and flush them to the disk.

    What a crash has left of a line stays, and a record behind it says so.

    Args:
        path: the file; made for its owner alone when there is none.
        records: at least one, in their order.
        known: the head that was last known. A file that ends before it was cut: the numbers go on behind
            it, so that the gap shows for ever.

    Returns:
        The new head.

    Raises:
        OSError: the disk refused; nothing of the records is to be relied on.
    """
    with _locked(path) as descriptor:
        last, torn = _last(descriptor)
        seq, prev = max(last.seq, known.seq), last.digest
        text = b""
        for record in (*_of_torn(torn, records[0].time), *records):
            seq += 1
            line = encode(bounded(record), seq, prev)
            prev = digest_of(line)
            text += line + b"\n"
        _write(descriptor, text)
        return Head(seq, prev)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, _PRIVATE)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: bytes) -> None:
    end = os.fstat(descriptor).st_size
    try:
        # After a crash within a line the next one must not be glued to it.
        whole = b"\n" + text if end and os.pread(descriptor, 1, end - 1) != b"\n" else text
        written = 0
        while written < len(whole):
            written += os.write(descriptor, whole[written:])
        os.fsync(descriptor)
    except OSError:
        # A disk that filled in the middle: what was begun is taken back, so that it can be tried again.
        os.ftruncate(descriptor, end)
        raise


def _last(descriptor: int) -> tuple[Head, bytes]:
    """The head of the file, which is its last line that is one of ours, and what stands behind that line."""
    end = start = os.fstat(descriptor).st_size
    tail = b""
    size = _TAIL_BYTES
    while start > 0:
        start = max(0, end - size)
        size *= 4
        tail = os.pread(descriptor, end - start, start)
        # The first line of what was read may have begun before it.
        at = 0 if start == 0 else tail.find(b"\n") + 1
        lines = tail[at:].split(b"\n")
        for number in range(len(lines) - 1, -1, -1):
            head = head_of(lines[number]) if lines[number] else None
            if head is not None:
                return head, b"\n".join(lines[number + 1 :]).removesuffix(b"\n")
    return EMPTY, tail.removesuffix(b"\n")


def _of_torn(torn: bytes, time: str) -> Iterator[Record]:
    if torn:
        yield Record(time, TORN, details={"bytes": len(torn), "sha256": digest_of(torn)})
