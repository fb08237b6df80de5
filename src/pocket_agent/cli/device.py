"""`pocket-agent devices`: who may connect."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.cli.audit import note
from pocket_agent.cli.pair import find_projects
from pocket_agent.config import LoadedSettings
from pocket_agent.config.form import printable
from pocket_agent.errors import ValidationError
from pocket_agent.model import Device, Milliseconds, ProjectId
from pocket_agent.protocol.frame import timestamp
from pocket_agent.server.auth import hash_token, new_device, new_token
from pocket_agent.server.pairing import check_name
from pocket_agent.storage import (
    add_device,
    connection_beside,
    device_named,
    devices,
    projects,
    remove_device,
    rename_device,
    rotate_device,
)
from pocket_agent.storage.location import database_path


def make_device(loaded: LoadedSettings, name: str, *, view_only: bool = False, wanted: Sequence[str] = ()) -> str:
    """Store a new device and return its token, which is kept nowhere.

    Args:
        loaded: the settings.
        name: what to call it.
        view_only: whether it may only watch.
        wanted: the projects that it may see, by name, path or id; none for all.

    Raises:
        ValidationError: the name is taken or cannot be one, or there is no such project.
    """
    with _database(loaded) as connection:
        device, token = new_device(check_name(name), view_only=view_only, projects=find_projects(connection, wanted))
        add_device(connection, device)
        note(loaded, connection, "device_add", _details(device))
    return token


def add(loaded: LoadedSettings, name: str, *, view_only: bool, wanted: Sequence[str], bare: bool) -> None:
    """Add a device and print its token."""
    _show_token(name, make_device(loaded, name, view_only=view_only, wanted=wanted), bare=bare)


def show(loaded: LoadedSettings, *, as_json: bool, console: Console) -> None:
    """Print all devices: a table in a terminal, elsewhere a line for each, with tabs between its parts.

    As JSON it is `{"devices": [{"id", "name", "created_at", "last_seen", "last_address", "view_only", "projects"}]}`.
    """
    with _database(loaded) as connection:
        names = {project.id: project.name for project in projects(connection)}
        found = devices(connection)
    if as_json:
        typer.echo(json.dumps({"devices": [_fields(device) for device in found]}, indent=2))
    elif not console.is_terminal:
        for device in found:
            added, seen = f"added {timestamp(device.created_at)}", f"last seen {_seen(device)}"
            typer.echo("\t".join([device.name, added, seen, _access(device, names)]))
    elif found:
        console.print(render_table(found, names))
    else:
        console.print("No device may connect yet. `pocket-agent pair` lets a browser in, `devices add NAME` a program.")


def render_table(found: Sequence[Device], names: Mapping[ProjectId, str]) -> Table:
    """The devices for people; times are those of this machine's zone."""
    table = Table()
    for heading in ("Device", "Added", "Last seen", "From", "May do"):
        table.add_column(heading, overflow="fold")
    for device in found:
        seen = "never" if device.last_seen is None else _local(device.last_seen)
        parts = [device.name, _local(device.created_at), seen, device.last_address or "", _access(device, names)]
        table.add_row(*map(Text, parts))
    return table


def rename(loaded: LoadedSettings, name: str, new_name: str) -> None:
    """Call a device by another name.

    Raises:
        ValidationError: there is none of that name, or the new one is taken or cannot be one.
    """
    with _database(loaded) as connection:
        device = _named(connection, name)
        rename_device(connection, device.id, check_name(new_name))
        note(loaded, connection, "device_rename", {"device_id": device.id, "name": check_name(new_name)})
    typer.echo(f"{name} is now called {check_name(new_name)}.")


def rotate(loaded: LoadedSettings, name: str, *, bare: bool) -> None:
    """Replace a device's token and print the new one; what the old one has opened is closed.

    Raises:
        ValidationError: there is none of that name.
    """
    token = new_token()
    with _database(loaded) as connection:
        device = _named(connection, name)
        rotate_device(connection, device.id, hash_token(token))
        note(loaded, connection, "device_rotate", {"device_id": device.id, "name": device.name})
    _show_token(name, token, bare=bare)


def revoke(loaded: LoadedSettings, name: str) -> None:
    """Remove a device.

    Raises:
        ValidationError: there is none of that name.
    """
    with _database(loaded) as connection:
        device = _named(connection, name)
        remove_device(connection, device.id)
        note(loaded, connection, "device_revoke", {"device_id": device.id, "name": device.name})
    typer.echo(f"{name} may no longer connect.")


@contextmanager
def _database(loaded: LoadedSettings) -> Iterator[sqlite3.Connection]:
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        yield connection


def _named(connection: sqlite3.Connection, name: str) -> Device:
    device = device_named(connection, name)
    if device is None:
        alike = get_close_matches(name.casefold(), {other.name.casefold() for other in devices(connection)}, n=1)
        meant = [repr(other.name) for other in devices(connection) if other.name.casefold() in alike]
        hint = f"did you mean {' or '.join(meant)}?" if meant else "`pocket-agent devices list` shows them."
        raise ValidationError(f"There is no device named {name!r}; {hint}")
    return device


def _show_token(name: str, token: str, *, bare: bool) -> None:
    if bare:
        typer.echo(token)
        return
    typer.echo(f"Token of {name} (shown once): {token}")
    typer.echo("Programs send it as `Authorization: Bearer TOKEN`.")


def _details(device: Device) -> dict[str, object]:
    return {
        "device_id": device.id,
        "name": device.name,
        "view_only": device.view_only,
        "projects": device.projects,
    }


def _fields(device: Device) -> dict[str, object]:
    seen = timestamp(device.last_seen) if device.last_seen is not None else None
    times = {"created_at": timestamp(device.created_at), "last_seen": seen, "last_address": device.last_address}
    access = {"view_only": device.view_only, "projects": device.projects}
    return {"id": device.id, "name": device.name, **times, **access}


def _seen(device: Device) -> str:
    if device.last_seen is None:
        return "never"
    return f"{timestamp(device.last_seen)} from {device.last_address or 'an unknown address'}"


def _local(at: Milliseconds) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _access(device: Device, names: Mapping[ProjectId, str]) -> str:
    """What a device may do, in words; a project that is gone is called by its id."""
    words = ["only watches"] if device.view_only else []
    if device.projects is not None:
        listed = ", ".join(printable(names.get(project, project)) for project in device.projects)
        words.append(f"sees only {listed or 'projects that are gone'}")
    return "; ".join(words) or "may do everything"
