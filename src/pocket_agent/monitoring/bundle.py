"""A directory of rendered files: written again and again without losing what a person changed in it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.output import RenderedFile

MANIFEST: Final = ".rendered.json"
"""Holds the SHA-256 of each file as it was written, by which a change of a person is seen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What writing did, by path below the directory.

    Attributes:
        written: new, or other than before.
        unchanged: as they were.
        kept: changed by a person, and left alone.
        removed: written by an earlier run and not part of the stack any more.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]


def write(directory: Path, files: Iterable[RenderedFile], *, force: bool = False) -> Outcome:
    """Write the files; one that a person changed or made stays as it is unless `force` is given.

    Raises:
        FileOperationError: the directory cannot be used.
    """
    wanted = {file.path: file.text.encode() for file in files}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        known = _read_manifest(directory)
        written, unchanged, kept = [], [], []
        manifest: dict[str, str] = {}
        for path, content in sorted(wanted.items()):
            present = _content(directory / path)
            if present == content:
                unchanged.append(path)
            elif present is None or force or _digest(present) == known.get(path):
                _replace(directory / path, content)
                written.append(path)
            else:
                kept.append(path)
            manifest[path] = known.get(path, "") if path in kept else _digest(content)
        removed = [path for path in sorted(known.keys() - wanted.keys()) if _remove(directory / path, known[path])]
        _replace(directory / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise FileOperationError(f"{directory} cannot be written: {error.strerror or error}.") from error
    return Outcome(tuple(written), tuple(unchanged), tuple(kept), tuple(removed))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read_manifest(directory: Path) -> Mapping[str, str]:
    content = _content(directory / MANIFEST)
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    # A path that leads out of the directory was not written by us.
    return {
        str(path): str(digest)
        for path, digest in found.items()
        if not Path(path).is_absolute() and ".." not in Path(path).parts
    }


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _remove(path: Path, digest: str) -> bool:
    """Remove a file that is still as it was written."""
    present = _content(path)
    if present is None or _digest(present) != digest:
        return False
    path.unlink()
    return True
