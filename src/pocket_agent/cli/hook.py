"""`pocket-agent hook`: puts the server's hooks into the user's settings of the CLI, shows them, and takes them out."""

import contextlib
import os
import secrets
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import typer

from pocket_agent.claude import hook_relay, hook_settings
from pocket_agent.claude.hook_relay import SOCKET
from pocket_agent.claude.transcripts import configuration_directory
from pocket_agent.errors import ConfigurationError, FileOperationError
from pocket_agent.settings import LoadedSettings

_MAX_BYTES: Final = 10 * 1024 * 1024
_CONNECT_SECONDS: Final = 2.0


def install_hook(loaded: LoadedSettings, environ: Mapping[str, str]) -> None:
    """Install the hooks for the server with these settings.

    Raises:
        ConfigurationError: the settings of the CLI are broken; nothing was changed.
        FileOperationError: they cannot be read or written.
    """
    data_dir = loaded.settings.data.dir.absolute()
    relay = Path(hook_relay.__file__)
    commands = {event: hook_settings.command(sys.executable, relay, data_dir, event) for event in hook_settings.EVENTS}
    path = _path(environ)
    if _change(path, lambda text: hook_settings.install(text, commands)):
        typer.echo(f"Installed in {path}. Claude Code sessions that start now ask the server's clients too.")
    else:
        typer.echo(f"Installed in {path} already.")


def remove_hook(environ: Mapping[str, str]) -> None:
    """Take the hooks out of the CLI's settings; raises as `install_hook`."""
    path = _path(environ)
    typer.echo(f"Removed from {path}." if _change(path, hook_settings.remove) else f"{path} has no such hook.")


def show_hook(loaded: LoadedSettings, environ: Mapping[str, str]) -> None:
    """Print whether the hooks are installed, for which server, and whether it listens.

    Raises:
        typer.Exit: with status 1 when terminals would not ask this server.
        ConfigurationError, FileOperationError: as `install_hook`.
    """
    path = _path(environ)
    text = _read(path) or ""
    found = hook_settings.installed(text)
    data_dir = loaded.settings.data.dir.absolute()
    missing = [event for event in hook_settings.EVENTS if event not in found]
    if missing:
        what = "No hook is installed" if not found else f"The hooks {', '.join(missing)} are missing"
        typer.echo(f"{what} in {path}: run `pocket-agent hook install`.")
        raise typer.Exit(1)
    expected = hook_settings.command(sys.executable, Path(hook_relay.__file__), data_dir, hook_settings.EVENTS[0])
    if found[hook_settings.EVENTS[0]] != expected:
        typer.echo(f"The hook in {path} is for another server or installation: run `pocket-agent hook install`.")
        raise typer.Exit(1)
    if hook_settings.are_off(text):
        typer.echo(f"`disableAllHooks` in {path} switches all hooks off: delete it there.")
        raise typer.Exit(1)
    typer.echo(f"Installed in {path}, for the server with the data directory {data_dir}.")
    if not _listens(data_dir):
        typer.echo("That server does not run now; terminals show their own dialog alone.")


def _path(environ: Mapping[str, str]) -> Path:
    """The CLI's settings of the user; a link to them stays a link."""
    return Path(os.path.realpath(configuration_directory(environ) / "settings.json"))


def _read(path: Path) -> str | None:
    """The settings; None when there is no file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is not the CLI's settings file: no regular file, or larger than 10 MiB.")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8. Mend it first.") from error
    except OSError as error:
        raise FileOperationError(f"{path} cannot be read: {error.strerror}.") from error


def _change(path: Path, change: Callable[[str | None], str | None]) -> bool:
    """Replace the settings as a whole, with their mode; returns whether anything changed."""
    before = _read(path)
    after = change(before)
    if after == before:
        return False
    try:
        if after is None:
            path.unlink()
            return True
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else 0o600
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(after.encode())
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileOperationError(f"{path} cannot be written: {error.strerror}.") from error
    return True


def _listens(data_dir: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        os.chdir(data_dir)  # the path of a socket is limited to 108 bytes (unix(7))
        probe.settimeout(_CONNECT_SECONDS)
        probe.connect(SOCKET)
        return True
    return False
