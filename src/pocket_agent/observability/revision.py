"""Which commit is running: of the checkout that the code is in, or the one that a package was built from.

The build hook of the package runs this file too, so it needs nothing but the standard library.
"""

import re
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
FILE: Final = "revision.txt"
"""What a build writes into the package."""
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_SHORT: Final = 12
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def find_revision(package: Path = _PACKAGE) -> str:
    """The first digits of the commit's hash, or "unknown".

    Args:
        package: the directory of the package.
    """
    checkout = package.parents[1]
    found = checkout_revision(checkout) if package == checkout / "src" / package.name else None
    return found or _read(package / FILE) or UNKNOWN


def checkout_revision(checkout: Path) -> str | None:
    """The commit of a git checkout, read without git; None for another directory.

    The files are those of gitrepository-layout(5).
    """
    git = checkout / ".git"
    pointer = _read(git) if git.is_file() else None
    if pointer is not None:  # a further worktree
        git = checkout / pointer.removeprefix("gitdir:").strip()
    head = _read(git / "HEAD")
    if head is None:
        return None
    name = head.removeprefix("ref:").strip() if head.startswith("ref:") else None
    commit = _commit_of(git, name) if name is not None else head
    return commit[:_SHORT] if commit is not None and _COMMIT.fullmatch(commit) else None


def _commit_of(git: Path, name: str) -> str | None:
    """The commit of a branch."""
    common = git / (_read(git / "commondir") or ".")
    loose = _read(git / name) or _read(common / name)
    if loose is not None:
        return loose
    lines = (_read(common / "packed-refs") or "").splitlines()
    return next((line.partition(" ")[0] for line in lines if line.endswith(f" {name}")), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
