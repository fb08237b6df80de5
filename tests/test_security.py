"""What bandit finds is looked at: each finding stands beside the reason why it is none."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

_OF_RULES: Final = {
    "B101": "asserts tell mypy and the reader what holds; nothing relies on them at run time",
    "B404": "to import subprocess runs nothing; each use of it is a finding of its own (B603)",
    "B311": "chance that only spreads load or waits; secrets come from `secrets`",
}
"""Rules without findings that matter here, and why."""


def findings() -> list[dict[str, Any]]:
    """All of them in the package."""
    command = [sys.executable, "-m", "bandit", "-q", "-r", "src", "-f", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return found


def is_explained(finding: dict[str, Any]) -> bool:
    """Whether a line of the statement says why ruff's rule of the same number does not matter there."""
    lines = (ROOT / finding["filename"]).read_text("utf-8").splitlines()
    number = finding["test_id"].removeprefix("B")
    first, last = min(finding["line_range"]), max(finding["line_range"])
    pattern = re.compile(rf"# (?:noqa: S{number}|nosec B{number})\b[ #-]+\w")
    return any(pattern.search(line) for line in lines[max(0, first - 2) : last + 1])


def test_every_finding_of_bandit_is_explained() -> None:
    open_ = [
        f"{found['filename']}:{found['line_number']} {found['test_id']} {found['issue_text']}"
        for found in findings()
        if found["test_id"] not in _OF_RULES and not is_explained(found)
    ]
    assert open_ == []


def test_chance_that_matters_comes_from_secrets() -> None:
    """B311, above: nobody draws tokens, codes or ids from `random`."""
    users = {
        path.relative_to(ROOT / "src" / "pocket_agent").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^(?:import random|from random import)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert users == {"client/websocket_client.py", "conversation/accounting.py"}


def test_every_exception_of_ruffs_security_rules_says_why() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "src").rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"# noqa: S\d+", line) and not re.search(r"# noqa: S\d+(?:, \w+)*\s+[-#]+ ?\w", line)
    ]
    assert silent == []
