"""Python for which the modes of files hold, whoever runs the tests."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.harness.tool import require_tool

ROOT: Final = Path(__file__).resolve().parents[2]
_ABOVE_MODES: Final = "-dac_override,-dac_read_search"
"""What lets root read and enter everything (capabilities(7))."""


def as_mortal(script: str, *arguments: str | Path) -> str:
    """What a script prints that runs in a process of its own, which is not above the modes of files.

    It stays the same user, so that it gets to the directories of the test.

    Args:
        script: may import the package and the tests.
        arguments: its `sys.argv[1:]`.
    """
    command = [sys.executable, "-c", script, *map(str, arguments)]
    if os.geteuid() == 0:
        own = [f"--bounding-set={_ABOVE_MODES}", f"--inh-caps={_ABOVE_MODES}"]
        command = [str(require_tool("setpriv")), *own, "--", *command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
