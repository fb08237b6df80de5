"""Programs of others that tests run: Prometheus and its like."""

import shutil
import sys
from pathlib import Path

from tests.harness.absence import absent

ROOT = Path(__file__).resolve().parents[2]


def require_tool(name: str) -> Path:
    """A program of `.tools` (see scripts/tools), of Python packages, or of PATH; else a skip, in CI a failure."""
    own = (ROOT / ".tools" / "usr" / "bin", ROOT / ".tools" / "usr" / "sbin", Path(sys.executable).parent)
    found = next(filter(None, (shutil.which(folder / name) for folder in own)), None) or shutil.which(name)
    if found is None:
        absent(name)
    return Path(found)
