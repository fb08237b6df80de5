"""A git repository to make a project of."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    """Run git with an identity of its own."""
    own = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *own, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> None:
    """A repository with one commit of one file."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "note.md").write_text("one\n")
    git(folder, "add", "note.md")
    git(folder, "commit", "--quiet", "--message=first")
