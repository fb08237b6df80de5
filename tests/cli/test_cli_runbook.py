"""pocket_agent.cli.runbook: the runbooks in a terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pocket_agent.cli.runbook import show_runbook
from pocket_agent.errors import ValidationError
from tests.harness.tool import ROOT


def shown(name: str | None, *, terminal: bool = False) -> str:
    """What is printed."""
    out = io.StringIO()
    show_runbook(name, Console(file=out, width=80, color_system=None, force_terminal=terminal))
    return out.getvalue()


def test_programs_get_it_as_it_is_written() -> None:
    assert shown("ServiceDown") == (ROOT / "docs/runbooks/ServiceDown.md").read_text("utf-8")


def test_people_get_it_set() -> None:
    text = shown("servicedown", terminal=True)
    assert "ServiceDown" in text
    assert "## Meaning" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_a_name_all_are_listed() -> None:
    text = shown(None)
    assert "ErrorBudgetBurn" in text
    assert "Generated" not in text


def test_a_name_that_there_is_none_of() -> None:
    with pytest.raises(ValidationError, match=r"did you mean ServiceDown\?"):
        shown("ServceDown")
    with pytest.raises(ValidationError, match=r"lists all of them"):
        shown("../metrics")


def test_the_command_itself(tmp_path: Path) -> None:
    """It needs neither a server nor settings that can be used."""
    command = [sys.executable, "-m", "pocket_agent.cli", "runbook", "Watchdog"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PA_NONSENSE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "# Watchdog")
