"""The directory that a process starts in: the one that was allowed, whatever its path leads to meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextmanager
def held(path: Path) -> Iterator[str]:
    """A path to start a process in, good inside the block, which stands for the directory itself.

    An agent may move a directory and put a link in its place between the check of a path and its use;
    so each part is opened by itself, and none may be a link, since those were resolved when the path was
    allowed. Elsewhere than on Linux it is the path as it is.

    Args:
        path: absolute, symlinks resolved.

    Raises:
        OSError: a part is missing, no directory, or a link (ENOTDIR).
    """
    if not hasattr(os, "O_PATH") or not _DESCRIPTORS.is_dir():
        yield str(path)
        return
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:]:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # A process that is being started still has our descriptors when it changes its directory.
        yield str(_DESCRIPTORS / str(descriptor))
    finally:
        os.close(descriptor)


def is_replaced(path: Path) -> bool:
    """Whether a path that had no links in it has one now."""
    with suppress(OSError):
        return path.resolve(strict=True) != path
    return False
