"""Directories of this machine that an agent may work in: checks of paths, and completions."""

import asyncio
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from pocket_agent.errors import InvalidPathError, MissingPathError
from pocket_agent.settings import CurrentSettings, Settings

MAX_COMPLETIONS: Final = 50
_MAX_SCANNED: Final = 20_000
"""The names of one directory that are read at most, which bounds the time of a completion."""


class Completions(NamedTuple):
    """Sorted absolute paths that complete a path; `truncated` when there are more."""

    paths: Sequence[str]
    truncated: bool


class Directories:
    """The directories that the server's settings allow.

    Args:
        settings: `projects.allowed_roots`; empty allows all.
        private: the server's data directory. No agent may work inside it or in a directory around it.
    """

    def __init__(self, settings: CurrentSettings, private: Path) -> None:
        self._settings = settings
        self._private = private

    async def find(self, path: str) -> Path:
        """The real path of a directory that an agent may work in.

        Raises:
            InvalidPathError: relative, missing, not a directory, or outside the allowed roots.
        """
        return await asyncio.to_thread(self._find, path)

    async def find_file(self, path: str) -> Path:
        """The real path of a file that a client may pass to an agent.

        Raises:
            InvalidPathError: relative, missing, not a file, or outside the allowed roots.
        """
        return await asyncio.to_thread(self._find_file, path)

    @property
    def restricted(self) -> bool:
        """Whether projects have to be inside `projects.allowed_roots`."""
        return bool(self._settings.current.projects.allowed_roots)

    async def check(self, real_path: Path) -> None:
        """Refuse a directory (absolute, symlinks resolved) that an agent may not work in (any more).

        Raises:
            InvalidPathError: outside the allowed roots, or inside the data directory, or contains it.
        """
        await asyncio.to_thread(self._check, real_path)

    def _check(self, real_path: Path) -> None:
        identity = _identity(real_path)
        for private in self._check_inside(real_path):
            # A bind mount of the data directory, or of one above it, has another path and the same inode.
            if private.is_relative_to(real_path) or identity in map(_identity, private.parents):
                raise InvalidPathError(
                    "The directory contains the server's data directory, which no agent may access. "
                    "Choose a directory inside it, or move the data directory (data.dir)."
                )

    def _check_inside(self, real_path: Path) -> tuple[Path, ...]:
        """Refuse a path outside the allowed roots or inside the data directory; returns the data directory's paths."""
        roots = self._real_roots()
        worktrees = Path(os.path.realpath(worktrees_folder(self._settings.current)))
        if roots and not any(real_path.is_relative_to(root) for root in (*roots, worktrees)):
            raise InvalidPathError(
                "The path is outside the directories that this server allows (projects.allowed_roots)."
            )
        data = _identity(self._private)
        private = private_paths(self._private)
        if any(real_path.is_relative_to(path) for path in private) or (
            data is not None and data in map(_identity, (real_path, *real_path.parents))
        ):
            raise InvalidPathError("The path is inside the server's own data directory.")
        return private

    async def complete(self, typed: str) -> Completions:
        """Complete a path.

        The result never shows whether a path outside the allowed roots exists: above the roots it has only the
        directories that lead to them. Hidden directories are included when the last part begins with a dot.

        Args:
            typed: an absolute path whose last part may be unfinished; empty for the first suggestions.
        """
        return await asyncio.to_thread(self._complete, typed)

    def _find(self, path: str) -> Path:
        self._check_reach(path)
        real_path = _resolve(path)
        self._check(real_path)
        return real_path

    def _find_file(self, path: str) -> Path:
        if not _is_absolute(path):
            raise InvalidPathError("The path must be absolute.")
        self._check_reach(path)
        try:
            real_path = Path(path).resolve(strict=True)
            is_file = real_path.is_file()
        except (OSError, RuntimeError, ValueError) as error:
            raise MissingPathError("There is no such file, or it cannot be read.") from error
        self._check_inside(real_path)
        if not is_file:
            raise InvalidPathError("The path is not a file.")
        return real_path

    def _check_reach(self, path: str) -> None:
        """Refuse a path outside the allowed roots before another error shows whether it exists."""
        if not _is_absolute(path):
            return
        try:
            real_path = Path(path).resolve(strict=False)
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links
            raise InvalidPathError("The path cannot be read.") from error
        self._check_inside(real_path)

    def _complete(self, typed: str) -> Completions:
        if not typed.strip():
            roots = self._settings.current.projects.allowed_roots
            home = os.path.expanduser("~")  # noqa: PTH111 - without a home it is not an error
            beginnings = [str(root) for root in roots] or [home]
            return _bounded(path for path in beginnings if os.path.isdir(path))  # noqa: PTH112 - the same
        if not _is_absolute(typed):
            return Completions((), truncated=False)
        folder, _, prefix = typed.rpartition("/")
        return _bounded(self._children(folder or "/", prefix))

    def _children(self, folder: str, prefix: str) -> Iterator[str]:
        """The allowed directories in `folder` whose names begin with `prefix`, ignoring case."""
        shown = folder.rstrip("/")
        names: Iterable[str]
        try:
            # Resolved, so that a link inside the roots that leads out of them is not followed.
            real = Path(folder).resolve(strict=True)
            leads = self._leads(real)
            names = leads or ()
            if leads is None:
                with os.scandir(real) as entries:
                    names = [entry.name for entry in itertools.islice(entries, _MAX_SCANNED) if _is_folder(entry)]
        except (OSError, RuntimeError, ValueError):
            return
        for name in sorted(names, key=str.casefold):
            if not name.casefold().startswith(prefix.casefold()) or (name.startswith(".") and not prefix):
                continue
            if leads is not None or self._allowed(f"{shown}/{name}"):
                yield f"{shown}/{name}"

    def _leads(self, folder: Path) -> set[str] | None:
        """The names in a directory outside the roots that lead to a root; None inside them."""
        roots = self._real_roots()
        if not roots or any(folder.is_relative_to(root) for root in roots):
            return None
        return {root.relative_to(folder).parts[0] for root in roots if root.is_relative_to(folder)}

    def _allowed(self, path: str) -> bool:
        try:
            # A directory around the data directory cannot be a project, but leads to others.
            self._check_inside(_resolve(path))
        except InvalidPathError:
            return False
        return True

    def _real_roots(self) -> list[Path]:
        return [Path(os.path.realpath(root)) for root in self._settings.current.projects.allowed_roots]


def worktrees_folder(settings: Settings) -> Path:
    """The folder of the git worktrees of conversations."""
    data = settings.data.dir
    return settings.projects.worktrees or data.with_name(f"{data.name}-worktrees")


def private_paths(directory: Path) -> tuple[Path, ...]:
    """Every path of a directory: its real one, and those by bind mounts (Linux).

    Source: proc_pid_mountinfo(5); a mount shows the tree below `root` of the file system `major:minor`.
    """
    real = Path(os.path.realpath(directory))
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:  # not Linux
        return (real,)
    return _mounted_paths(real, mounts)


@lru_cache(maxsize=8)  # each prompt is checked twice, and mounts seldom change
def _mounted_paths(real: Path, mountinfo: str) -> tuple[Path, ...]:
    fields = [line.split(" ", 5) for line in mountinfo.splitlines()]
    mounts = [(field[2], Path(_unescaped(field[3])), Path(_unescaped(field[4]))) for field in fields]
    # Of two mounts at one path the later one is visible.
    own = max(
        (mount for mount in mounts if real.is_relative_to(mount[2])),
        key=lambda mount: len(mount[2].parts),
        default=None,
    )
    if own is None:
        return (real,)
    device, root, point = next(mount for mount in reversed(mounts) if mount[2] == own[2])
    inside = root / real.relative_to(point)
    others = [
        point / inside.relative_to(root)
        for other, root, point in mounts
        if other == device and inside.is_relative_to(root)
    ]
    return tuple(dict.fromkeys([real, *others]))


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which spaces and backslashes are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def identities(path: Path) -> list[tuple[int, int]]:
    """The device and inode of a directory and of those around it, by all paths that lead to them; innermost first.

    Empty when the directory does not exist. May block on a disk that hangs.
    """
    own = _identity(path)
    if own is None:
        return []
    shown = [other for other in private_paths(path) if _identity(other) == own]
    found = dict.fromkeys(_identity(folder) for other in shown for folder in (other, *other.parents))
    return [identity for identity in found if identity is not None]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _bounded(paths: Iterator[str]) -> Completions:
    found = list(itertools.islice(paths, MAX_COMPLETIONS + 1))
    return Completions(found[:MAX_COMPLETIONS], truncated=len(found) > MAX_COMPLETIONS)


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and "\0" not in path


def _resolve(path: str) -> Path:
    if not _is_absolute(path):
        raise InvalidPathError("The path must be absolute, e.g. /home/me/project.")
    try:
        real_path = Path(path).resolve(strict=True)
        is_directory = real_path.is_dir()
    except FileNotFoundError as error:
        raise MissingPathError("There is no such directory.") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingPathError("The path cannot be read.") from error
    if not is_directory:
        raise InvalidPathError("The path is not a directory.")
    try:
        str(real_path).encode()
    except UnicodeEncodeError as error:
        raise InvalidPathError("The name of the directory is not UTF-8.") from error
    if not os.access(real_path, os.R_OK | os.X_OK):
        raise InvalidPathError("The directory may not be entered by the server's user.")
    return real_path
