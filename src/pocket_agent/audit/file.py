"""The file of the audit log: appended to by the server and by commands beside it, one at a time."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pocket_agent.audit.record import EMPTY, Head, Record, digest_of, encode, head_of

_PRIVATE: Final = 0o600
_TAIL_BYTES: Final = 1 << 20
"""More than the longest line."""


def audit_path(data_dir: Path) -> Path:
    """Where the log of a data directory is."""
    return data_dir / "audit.log"


def append(path: Path, records: Sequence[Record], known: Head) -> Head:
    """Write records behind what there is, and flush them to the disk.

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
        last = _last(descriptor)
        seq, prev = max(last.seq, known.seq), last.digest
        text = b""
        for record in records:
            seq += 1
            line = encode(record, seq, prev)
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


def _last(descriptor: int) -> Head:
    """The head of the file: its last line that is one of ours."""
    end = os.fstat(descriptor).st_size
    start = max(0, end - _TAIL_BYTES)
    lines = os.pread(descriptor, end - start, start).split(b"\n")
    found = (head_of(line) for line in reversed(lines) if line)
    return next((head for head in found if head is not None), EMPTY)
