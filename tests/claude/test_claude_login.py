"""pocket_agent.claude.installation: what the CLI says of its login, and programs that say nothing of the kind."""

from pathlib import Path

import pytest

from pocket_agent.claude import installation
from pocket_agent.claude.installation import is_logged_in


def program(folder: Path, body: str) -> Path:
    """A program of the shell."""
    file = folder / "claude"
    file.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    file.chmod(0o700)
    return file


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("""echo '{"loggedIn": true}'""", True),
        ("""echo '{"loggedIn": false}'; exit 1""", False),
        ("""echo '{"loggedIn": "maybe"}'""", None),
        ("echo '[]'", None),
        ("echo unknown command", None),
        ("exit 1", None),
    ],
)
async def test_what_is_said(tmp_path: Path, body: str, told: bool | None) -> None:
    assert await is_logged_in(program(tmp_path, body), {}) is told


async def test_a_program_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_SECONDS", 0.2)
    assert await is_logged_in(program(tmp_path, "exec sleep 600"), {"PATH": "/bin:/usr/bin"}) is None


async def test_a_program_that_is_gone(tmp_path: Path) -> None:
    assert await is_logged_in(tmp_path / "none", {}) is None
