"""The commands as they are called: versions, settings, and errors that are meant for people."""

import os
import sys
from pathlib import Path

import pytest

from pocket_agent import __version__
from pocket_agent.cli import serve
from pocket_agent.cli.main import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Call `pocket-agent` with these arguments; its exit status."""
    monkeypatch.setattr(sys, "argv", ["pocket-agent", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"pocket-agent {__version__}\n"


def test_the_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("PA_MAX_PROJECTS", "7")
    assert call(monkeypatch, "config", f"--data-dir={tmp_path / 'here'}") == 0
    out = capsys.readouterr().out
    assert "max_projects: 7" in out
    assert "PA_MAX_PROJECTS" in out
    assert str(tmp_path / "here") in out


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("PA_NO_SUCH_SETTING", "1", "PA_NO_SUCH_SETTING"), ("PA_MAX_PROJECTS", "many", "many")],
)
def test_a_setting_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    assert call(monkeypatch, "config") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pocket-agent: ")
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_a_file_with_an_unknown_setting_is_named_with_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("server:\n  port: 8443\n  prot: 1\n")
    assert call(monkeypatch, "config", f"--config={file}") == 1
    error = capsys.readouterr().err
    assert "prot" in error
    assert "3" in error
    assert str(file) in error


def test_an_unknown_command_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "no-such-command") == 2
    assert "no-such-command" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["/etc/own-authorities.pem", None])
def test_the_server_has_the_certificate_authorities_of_its_user(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Its imports do without them, but agents inherit the variable."""
    seen: list[str | None] = []
    monkeypatch.setattr(serve, "run", lambda _: seen.append(os.environ.get("SSL_CERT_FILE")))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if given is not None:
        monkeypatch.setenv("SSL_CERT_FILE", given)
    assert call(monkeypatch, "serve", "--demo") == 0
    assert seen == [given]
