"""The file of the audit log: appended to by the server and by commands beside it, one at a time."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pocket_agent.audit.record import EMPTY, MAX_LINE, Head, Record, bounded, digest_of, encode, head_of, prev_of

TORN: Final = "torn"
"""The action of a record that tells of what stands before it: the beginning of lines that a crash cut off."""

TAMPERED: Final = "tampered"
"""The action of a record that notes that the record before it is not the one that was written."""

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
        known: the head that was last known. The chain goes on from it and not from what the file says: where
            the file's last record is another one, a record notes that it was tampered with, and the chain stays
            broken at that place for ever. Records behind the known head are those of a process that was killed
            before it could store the head; their own chain has to lead there.

    Returns:
        The new head.

    Raises:
        OSError: the disk refused; nothing of the records is to be relied on.
    """
    with _locked(path) as descriptor:
        last, torn = _last(descriptor)
        seq, prev = max(last.seq, known.seq), last.digest
        tampered: list[Record] = []
        if not _follows(descriptor, last, known):
            prev = known.digest
            details: dict[str, object] = {"known_seq": known.seq, "found_seq": last.seq, "found_sha256": last.digest}
            tampered.append(Record(records[0].time, TAMPERED, "FILE_OPERATION", details=details))
        text = b""
        for record in (*_of_torn(torn, records[0].time), *tampered, *records):
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


def _follows(descriptor: int, last: Head, known: Head) -> bool:
    """Whether the file ends with the known head, or with records that are chained to it."""
    if known in {last, EMPTY}:
        return True
    if last.seq <= known.seq:
        return False
    # At most the records of one batch are newer than the head; the file is read from its end until the known one.
    end = os.fstat(descriptor).st_size
    size = _TAIL_BYTES
    while True:
        start = max(0, end - size)
        lines = os.pread(descriptor, end - start, start).split(b"\n")
        chained = _chained(lines if start == 0 else lines[1:], known)
        if chained is not None:
            return chained
        if start == 0:
            return False
        size *= 4


def _chained(lines: Sequence[bytes], known: Head) -> bool | None:
    """Whether the records behind the known one lead back to it; None when the known one is not among the lines."""
    expected: Head | None = None
    for line in lines:
        head = head_of(line) if line else None
        if head is None:
            continue
        if expected is not None:
            if prev_of(line) != expected.digest or head.seq != expected.seq + 1:
                return False
            expected = head
        elif head.seq == known.seq:
            if head != known:
                return False
            expected = head
    return None if expected is None else True


def _of_torn(torn: bytes, time: str) -> Iterator[Record]:
    if torn:
        yield Record(time, TORN, details={"bytes": len(torn), "sha256": digest_of(torn)})
