"""Programs of others that tests run: Prometheus and its like."""

import shutil
import sys
from pathlib import Path

from tests.harness.absence import absent

ROOT = Path(__file__).resolve().parents[2]
NEWER = "forky"
"""The Debian suite with the newest programs of the monitoring stack that tests run; see scripts/tools."""
GENERATIONS = {"Debian 12": "", "newer": NEWER}
"""The suites whose programs must accept the rendered stack; the empty one is that of this machine."""


def require_tool(name: str, suite: str = "") -> Path:
    """A program of `.tools` (see scripts/tools), of Python packages, or of PATH; else a skip, in CI a failure.

    With a suite it is that of this Debian suite, and no other.
    """
    if suite:
        program = ROOT / ".tools" / suite / "usr" / "bin" / name
        if not program.exists():
            absent(f"{name} of Debian {suite}")
        return program
    own = (ROOT / ".tools" / "usr" / "bin", ROOT / ".tools" / "usr" / "sbin", Path(sys.executable).parent)
    found = next(filter(None, (shutil.which(folder / name) for folder in own)), None) or shutil.which(name)
    if found is None:
        absent(name)
    return Path(found)
