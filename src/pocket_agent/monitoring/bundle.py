"""A directory of rendered files: written again and again without losing what a person changed in it."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.files import RenderedFile

MANIFEST: Final = ".rendered.json"
"""Holds the SHA-256 of each file as it was written, by which a change of a person is seen."""
_MAX_SIZE: Final = 16 * 2**20
"""Bytes; no file of ours is so large, so one that is was changed, and need not be read."""

Manifest = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What writing did, by path below the directory.

    Attributes:
        written: new, or other than before.
        unchanged: as they were.
        kept: changed or made by a person, and left alone.
        removed: written by an earlier run and not part of the stack any more.
        abandoned: the same, but changed by a person, and left alone.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    abandoned: tuple[str, ...]


def write(directory: Path, files: Iterable[RenderedFile], *, force: bool = False) -> Outcome:
    """Write the files; one that a person changed or made stays as it is unless `force` is given.

    Each file is the old one or the new one at any moment, and a run that was interrupted is made up for by the next.
    Symbolic links below the directory are not followed.

    Raises:
        FileOperationError: the directory cannot be used.
    """
    wanted = {file.path: file.text.encode() for file in files}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        known = _read_manifest(directory)
        for path in wanted.keys() | known.keys() | {MANIFEST}:
            _refuse_links(directory, path)
            _draft(directory / path).unlink(missing_ok=True)  # of a run that was interrupted
        present = {path: _digest_of(directory, path) for path in sorted(wanted.keys() | known.keys())}
        theirs = {
            path
            for path, digest in present.items()
            if digest is not None and digest not in known.get(path, frozenset())
        }
        fresh = {path: frozenset({_digest(content)}) for path, content in wanted.items()}
        # Before anything else, so that a file of a run that is interrupted is known as ours by the next.
        _write_manifest(
            directory, {path: known.get(path, frozenset()) | fresh.get(path, frozenset()) for path in present}
        )
        outcome = _apply(directory, wanted, present, theirs, force=force)
        left = {path: known.get(path, frozenset()) for path in outcome.kept}
        _write_manifest(directory, {**fresh, **left})
    except OSError as error:
        raise _refusal(directory, error) from error
    return outcome


def _apply(
    directory: Path, wanted: Mapping[str, bytes], present: Mapping[str, str | None], theirs: set[str], *, force: bool
) -> Outcome:
    """Bring the directory up to date.

    Args:
        directory: of the stack.
        wanted: the content of each file.
        present: the digest of each file that is there, of those that are wanted or known.
        theirs: the files that a person changed or made.
        force: whether these are overwritten, too.
    """
    written, unchanged, kept = [], [], []
    for path, content in sorted(wanted.items()):
        if present[path] == _digest(content):
            unchanged.append(path)
        elif path in theirs and not force:
            kept.append(path)
        else:
            _replace(directory, path, content)
            written.append(path)
    gone = [path for path in present if path not in wanted and present[path] is not None]
    abandoned = [path for path in gone if path in theirs]
    removed = [path for path in gone if path not in theirs]
    for path in removed:
        _remove(directory, path)
    return Outcome(tuple(written), tuple(unchanged), tuple(kept), tuple(removed), tuple(abandoned))


def _refusal(directory: Path, error: OSError) -> FileOperationError:
    where = directory if error.filename is None else error.filename
    return FileOperationError(f"The stack cannot be written into {directory}: {where}: {error.strerror or error}.")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(directory: Path, path: str) -> str | None:
    """The digest of a file; None when it is not there."""
    content = _content(directory, path)
    return None if content is None else _digest(content)


def _content(directory: Path, path: str) -> bytes | None:
    _refuse_links(directory, path)
    place = directory / path
    try:
        if not stat.S_ISREG(place.lstat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(place))
        with place.open("rb") as file:
            return file.read(_MAX_SIZE)
    except FileNotFoundError:
        return None


def _refuse_links(directory: Path, path: str) -> None:
    """Nothing is read or written through a symbolic link below the directory: it may lead anywhere.

    Raises:
        OSError: there is one on the way.
    """
    place = directory
    for part in PurePosixPath(path).parts:
        place /= part
        if place.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(place))


def _read_manifest(directory: Path) -> Manifest:
    content = _content(directory, MANIFEST)
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}  # then everything there counts as changed by a person
    return dict(_entries(found)) if isinstance(found, dict) else {}


def _entries(found: Mapping[object, object]) -> Iterator[tuple[str, frozenset[str]]]:
    for path, digests in found.items():
        inside = isinstance(path, str) and path and not PurePosixPath(path).is_absolute()
        # A path that leads out of the directory was not written by us.
        if inside and ".." not in PurePosixPath(str(path)).parts and isinstance(digests, list):
            yield str(path), frozenset(map(str, digests))


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    listed = {path: sorted(digests) for path, digests in sorted(manifest.items())}
    content = json.dumps(listed, indent=1).encode() + b"\n"
    if _content(directory, MANIFEST) != content:
        _replace(directory, MANIFEST, content)


def _replace(directory: Path, path: str, content: bytes) -> None:
    """Write a file whole or not at all, also when the machine stops."""
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(target)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.rendering")


def _remove(directory: Path, path: str) -> None:
    """Remove a file, and the directories that it leaves empty."""
    place = directory / path
    place.unlink(missing_ok=True)
    for parent in place.parents:
        if parent == directory or any(parent.iterdir()):
            return
        parent.rmdir()
