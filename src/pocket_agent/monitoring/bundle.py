"""Writes a directory of rendered files, again and again, without overwriting files that a user changed."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.files import RenderedFile

MANIFEST: Final = ".rendered.json"
"""Holds the SHA-256 of each file as it was written, which reveals changes of a user."""
_MAX_SIZE: Final = 16 * 2**20  # bytes that are read; rendered files are smaller, so that a larger one was changed

Manifest = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `write` did, by path below the directory."""

    written: tuple[str, ...]  # new or changed
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]  # changed or made by a user, so not written
    removed: tuple[str, ...]  # written by an earlier run and no longer part of the stack
    abandoned: tuple[str, ...]  # no longer part of the stack, but changed by a user, so not removed


def write(directory: Path, files: Iterable[RenderedFile], *, force: bool = False) -> Outcome:
    """Write the files; one that a user changed or made is kept unless `force` is given.

    Files are replaced atomically, and a run completes the work of an interrupted one. Symbolic links below the
    directory are not followed.

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
        contents = {path: _content(directory, path) for path in sorted(wanted.keys() | known.keys())}
        present = {path: _digest(content) for path, content in contents.items() if content is not None}
        none: frozenset[str] = frozenset()
        changed = {path for path, digest in present.items() if digest not in known.get(path, none)}
        fresh = {path: frozenset({_digest(content)}) for path, content in wanted.items()}
        # First, so that after an interrupted run the next one recognizes its files.
        _write_manifest(directory, {path: known.get(path, none) | fresh.get(path, none) for path in contents})
        outcome = _apply(directory, wanted, present, changed, force=force)
        _write_manifest(directory, {**fresh, **{path: known.get(path, none) for path in outcome.kept}})
    except OSError as error:
        where = directory if error.filename is None else error.filename
        reason = error.strerror or error
        raise FileOperationError(f"The stack cannot be written into {directory}: {where}: {reason}.") from error
    return outcome


def _apply(
    directory: Path, wanted: Mapping[str, bytes], present: Mapping[str, str], changed: set[str], *, force: bool
) -> Outcome:
    """Write and remove files; `present` has the digests of the existing ones, `changed` those that a user changed."""
    written, unchanged, kept = [], [], []
    for path, content in sorted(wanted.items()):
        if present.get(path) == _digest(content):
            unchanged.append(path)
        elif path in changed and not force:
            kept.append(path)
        else:
            _replace(directory, path, content)
            written.append(path)
    gone = [path for path in present if path not in wanted]
    abandoned = [path for path in gone if path in changed]
    removed = [path for path in gone if path not in changed]
    for path in removed:
        _remove(directory, path)
    return Outcome(tuple(written), tuple(unchanged), tuple(kept), tuple(removed), tuple(abandoned))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(directory: Path, path: str) -> bytes | None:
    """The content of a file; None when it does not exist."""
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
    """Raise OSError for a symbolic link below the directory, which may lead anywhere."""
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
        return {}  # then every file counts as changed by a user
    manifest: dict[str, frozenset[str]] = {}
    for path, digests in found.items() if isinstance(found, dict) else ():
        place = PurePosixPath(path)
        # `write` stores no path that leads out of the directory.
        if path and not place.is_absolute() and ".." not in place.parts and isinstance(digests, list):
            manifest[path] = frozenset(map(str, digests))
    return manifest


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    listed = {path: sorted(digests) for path, digests in sorted(manifest.items())}
    content = json.dumps(listed, indent=1).encode() + b"\n"
    if _content(directory, MANIFEST) != content:
        _replace(directory, MANIFEST, content)


def _replace(directory: Path, path: str, content: bytes) -> None:
    """Write a file atomically, also when the machine stops."""
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
