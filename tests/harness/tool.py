"""Programs of others that tests run: Prometheus and its like."""

import shutil
from pathlib import Path

from tests.harness.absence import absent

ROOT = Path(__file__).resolve().parents[2]


def require_tool(name: str) -> Path:
    """A program of `.tools` (see scripts/tools) or of PATH; without it a skip by name, in CI a failure."""
    found = shutil.which(ROOT / ".tools" / "usr" / "bin" / name) or shutil.which(name)
    if found is None:
        absent(name)
    return Path(found)
