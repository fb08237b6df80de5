"""`pocket-agent hook`: the file of the CLI's settings on the disk."""

import os
import socket
from pathlib import Path

import pytest
import typer

from pocket_agent.claude.hook_relay import SOCKET
from pocket_agent.cli.hook import install_hook, remove_hook, show_hook
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, load_settings


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSettings:
    """The settings of a server."""
    (tmp_path / "data").mkdir()
    return load_settings(config=None, environ={}, flags={"data.dir": tmp_path / "data"})


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Where the user's settings of the CLI are; the directory does not exist yet."""
    return tmp_path / "configuration" / "settings.json"


def environ(settings: Path) -> dict[str, str]:
    return {"CLAUDE_CONFIG_DIR": str(settings.parent)}


def test_a_new_file_is_private_and_goes_again(loaded: LoadedSettings, settings: Path) -> None:
    install_hook(loaded, environ(settings))
    assert settings.stat().st_mode & 0o777 == 0o600
    text = settings.read_bytes()
    install_hook(loaded, environ(settings))
    assert settings.read_bytes() == text
    remove_hook(environ(settings))
    assert list(settings.parent.iterdir()) == []
    remove_hook(environ(settings))


def test_a_link_and_a_mode_stay(loaded: LoadedSettings, settings: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_bytes(b'{\r\n "model":"opus"}')
    real.chmod(0o644)
    settings.parent.mkdir()
    settings.symlink_to(real)
    install_hook(loaded, environ(settings))
    assert settings.is_symlink()
    assert b"hook_relay.py" in real.read_bytes()
    assert real.stat().st_mode & 0o777 == 0o644
    remove_hook(environ(settings))
    assert real.read_bytes() == b'{\r\n "model":"opus"}'
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "data", settings.parent, real])


@pytest.mark.parametrize("text", [b"", b"\n", b"\xef\xbb\xbf{}", b"\xef\xbb\xbf"])
def test_a_file_of_an_editor_is_restored(loaded: LoadedSettings, settings: Path, text: bytes) -> None:
    """Claude Code (2.1.332) takes settings that are blank or have a byte order mark."""
    settings.parent.mkdir()
    settings.write_bytes(text)
    install_hook(loaded, environ(settings))
    assert settings.read_bytes().startswith(text[:3])
    show_hook(loaded, environ(settings))
    remove_hook(environ(settings))
    assert settings.read_bytes() == text


@pytest.mark.parametrize("text", [b'{"hooks": {', b"\xff\xfe{}", b"[]"])
def test_broken_settings_are_left_alone(loaded: LoadedSettings, settings: Path, text: bytes) -> None:
    settings.parent.mkdir()
    settings.write_bytes(text)
    with pytest.raises(ConfigurationError, match="Mend"):
        install_hook(loaded, environ(settings))
    with pytest.raises(ConfigurationError, match="Mend"):
        remove_hook(environ(settings))
    assert settings.read_bytes() == text


def test_a_fifo_is_not_waited_for(loaded: LoadedSettings, settings: Path) -> None:
    settings.parent.mkdir()
    os.mkfifo(settings)
    with pytest.raises(ConfigurationError, match="no regular file"):
        install_hook(loaded, environ(settings))


def test_the_status_says_what_is_missing(
    loaded: LoadedSettings,
    settings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit):
        show_hook(loaded, environ(settings))
    assert "No hook is installed" in capsys.readouterr().out
    install_hook(loaded, environ(settings))
    show_hook(loaded, environ(settings))
    assert "does not run" in capsys.readouterr().out
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(SOCKET)  # the status has made the data directory the working directory
        server.listen()
        show_hook(loaded, environ(settings))
    assert "does not run" not in capsys.readouterr().out
    other = load_settings(config=None, environ={}, flags={"data.dir": tmp_path / "other"})
    with pytest.raises(typer.Exit):
        show_hook(other, environ(settings))
    assert "another server" in capsys.readouterr().out
    settings.write_text(settings.read_text().replace("Stop", "Start"))
    with pytest.raises(typer.Exit):
        show_hook(loaded, environ(settings))
    assert "hooks Stop are missing" in capsys.readouterr().out


def test_the_status_says_that_hooks_are_switched_off(
    loaded: LoadedSettings, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.parent.mkdir()
    settings.write_text('{"disableAllHooks": true}')
    install_hook(loaded, environ(settings))
    with pytest.raises(typer.Exit):
        show_hook(loaded, environ(settings))
    assert "disableAllHooks" in capsys.readouterr().out
