"""Where the real CLI is, and what happens when it is not there."""

import os
import shutil
from pathlib import Path

from tests.harness.absence import absent

ROOT = Path(__file__).resolve().parents[2]


def find_claude() -> Path | None:
    """The real CLI: PA_TEST_CLAUDE, the project's own installation, or PATH."""
    own = ROOT / "node_modules" / ".bin" / "claude"
    for candidate in (os.environ.get("PA_TEST_CLAUDE"), str(own), "claude"):
        found = shutil.which(candidate) if candidate else None
        if found is not None:
            return Path(found)
    return None


def require_claude() -> Path:
    """The real CLI, or a skip by name; in CI its absence is a failure."""
    found = find_claude()
    if found is None:
        absent("real claude CLI")
    return found
