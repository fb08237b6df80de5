"""The running commit: that of the checkout that the code is in, or the one that the package was built from.

The build hook of the package runs this file too, so it may import only the standard library.
"""

import re
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
FILE: Final = "revision.txt"
"""What a build writes into the package."""
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def find_revision(package: Path = _PACKAGE) -> str:
    """The first digits of the commit's hash, or "unknown"; `package` is the directory of the package."""
    checkout = package.parents[1]
    found = checkout_revision(checkout) if package == checkout / "src" / package.name else None
    return found or _read(package / FILE) or UNKNOWN


def checkout_revision(checkout: Path) -> str | None:
    """The commit of a git checkout, read without git (gitrepository-layout(5)); None for another directory."""
    git = checkout / ".git"
    pointer = _read(git) if git.is_file() else None
    if pointer is not None:  # a linked worktree
        git = checkout / pointer.removeprefix("gitdir:").strip()
    commit = _read(git / "HEAD") or ""
    if commit.startswith("ref:"):
        name = commit.removeprefix("ref:").strip()
        common = git / (_read(git / "commondir") or ".")
        packed = (_read(common / "packed-refs") or "").splitlines()
        loose = _read(git / name) or _read(common / name)
        commit = loose or next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
    return commit[:12] if _COMMIT.fullmatch(commit) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
