"""`pocket-agent devices`: the devices that may connect."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent import storage
from pocket_agent.claude.process import kill_leftovers
from pocket_agent.cli.audit import note
from pocket_agent.cli.common import print_json
from pocket_agent.cli.pair import find_projects
from pocket_agent.cli.storage import open_database
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import ValidationError
from pocket_agent.model import Device, Execution, Milliseconds, Pairing, ProcessRecord, ProjectId, project_of
from pocket_agent.protocol.frame import timestamp
from pocket_agent.server.auth import hash_token, new_device, new_token
from pocket_agent.server.pairing import check_name
from pocket_agent.settings import LoadedSettings, printable
from pocket_agent.storage.database import transaction

_HINT: Final = "--kill would have killed it; another device can (web client, `pocket-agent chat`)."


def make_device(loaded: LoadedSettings, name: str, *, view_only: bool = False, wanted: Sequence[str] = ()) -> str:
    """Store a new device and return its token, of which only the hash is kept.

    Args:
        view_only: whether it may only watch.
        wanted: the projects that it may see, by name, path or id; empty for all.

    Raises:
        ValidationError: the name is taken or not valid, or there is no such project.
    """
    with open_database(loaded) as connection:
        device, token = new_device(check_name(name), view_only=view_only, projects=find_projects(connection, wanted))
        storage.add_device(connection, device)
        details = {"device_id": device.id, "name": device.name, "view_only": view_only, "projects": device.projects}
        note(loaded, connection, "device_add", details)
    return token


def add(loaded: LoadedSettings, name: str, *, view_only: bool, wanted: Sequence[str], bare: bool) -> None:
    """Add a device and print its token."""
    _show_token(name, make_device(loaded, name, view_only=view_only, wanted=wanted), bare=bare)


def show(loaded: LoadedSettings, *, as_json: bool, console: Console | None = None) -> None:
    """Print the devices and the open pairing codes: a table in a terminal, elsewhere a line each, with tabs.

    The JSON is `{"devices": [{"id", "name", "created_at", "last_seen", "last_address", "view_only", "projects",
    "paired_by", "credential", "bound"}], "pairings": [{"id", "name", "view_only", "projects", "made_by",
    "expires_at"}]}`.
    """
    console = console or Console()
    with open_database(loaded) as connection:
        names = {project.project_id: project.name for project in storage.projects(connection)}
        found = storage.devices(connection)
        codes = storage.open_pairings(connection, now())
    makers = {device.id: device.name for device in found}
    if as_json:
        print_json(
            {
                "devices": [_fields(device) for device in found],
                "pairings": [_code_fields(code, makers) for code in codes],
            }
        )
    elif not console.is_terminal:
        for device in found:
            added, seen = f"added {timestamp(device.created_at)}", f"last seen {_seen(device)}"
            typer.echo("\t".join([device.name, added, seen, _access(device, names)]))
        for code in codes:
            expires = f"expires {timestamp(code.expires_at)}"
            typer.echo("\t".join([f"open code {code.id}", _made_by(code, makers), expires, _access(code, names)]))
    elif found or codes:
        console.print(_render_table(found, names))
        for code in codes:
            left = max(0, code.expires_at - now()) // 1000
            console.print(
                Text(
                    f"Open pairing code {code.id}: {_made_by(code, makers)}, expires in {left} s, for a device that "
                    f"{_access(code, names)}. `pocket-agent devices cancel {code.id}` ends it."
                )
            )
    else:
        console.print("No device may connect yet. `pocket-agent pair` pairs a browser, `devices add NAME` a program.")


def _render_table(found: Sequence[Device], names: Mapping[ProjectId, str]) -> Table:
    table = Table()
    for heading in ("Device", "Added", "Last seen", "From", "Access"):
        table.add_column(heading, overflow="fold")
    for device in found:
        seen = "never" if device.last_seen is None else _local(device.last_seen)
        parts = [device.name, _local(device.created_at), seen, device.last_address or "", _access(device, names)]
        table.add_row(*map(Text, parts))
    return table


def rename(loaded: LoadedSettings, name: str, new_name: str) -> None:
    """Rename a device.

    Raises:
        ValidationError: there is no such device, or the new name is taken or not valid.
    """
    new_name = check_name(new_name)
    with open_database(loaded) as connection:
        device = _named(connection, name)
        storage.rename_device(connection, device.id, new_name)
        note(loaded, connection, "device_rename", {"device_id": device.id, "name": new_name})
    typer.echo(f"{name} is now called {new_name}.")


def rotate(loaded: LoadedSettings, name: str, *, bare: bool, kill: bool = False) -> None:
    """Replace a device's token and print the new one.

    A running server closes the device's connections, cancels its pairing codes and withdraws its queued prompts.
    Its running executions are listed on standard error, and killed with `kill`.

    Raises:
        ValidationError: there is no such device.
    """
    token = new_token()
    with open_database(loaded) as connection:
        device = _named(connection, name)
        storage.rotate_device(connection, device.id, hash_token(token))
        note(loaded, connection, "device_rotate", {"device_id": device.id, "name": device.name, "kill": kill})
        running = _running(connection, [device])
    _show_token(name, token, bare=bare)
    _end(running, kill=kill)


def revoke(loaded: LoadedSettings, name: str, *, kill: bool = False, paired: bool = False) -> None:
    """Remove a device; a running server cancels its pairing codes and withdraws its queued prompts.

    Args:
        kill: kill its running executions, which are listed otherwise.
        paired: also revoke the devices that it paired, and those that they paired; they are listed otherwise.

    Raises:
        ValidationError: there is no such device.
    """
    with open_database(loaded) as connection:
        device = _named(connection, name)
        others = storage.let_in_by(storage.devices(connection), device.id)
        with transaction(connection):
            ended = storage.remove_devices(connection, device.id, paired=paired)
        for each in ended:
            details: dict[str, object] = {"device_id": each.id, "name": each.name, "kill": kill}
            note(loaded, connection, "device_revoke", details)
        running = _running(connection, ended)
    for each in ended:
        typer.echo(f"{each.name} may no longer connect.")
    if others and not paired:
        listed = ", ".join(other.name for other in others)
        typer.echo(f"It paired: {listed}. They may still connect; `devices revoke NAME` ends each.", err=True)
    _end(running, kill=kill)


def cancel(loaded: LoadedSettings, code_id: str) -> None:
    """Cancel an open pairing code, by the id that `show` prints.

    Raises:
        ValidationError: there is no such code.
    """
    with open_database(loaded) as connection:
        if not storage.cancel_pairing(connection, code_id):
            raise ValidationError(f"There is no open pairing code {code_id!r}; `pocket-agent devices list` shows them.")
        note(loaded, connection, "pairing_cancel", {"pairing_id": code_id})
    typer.echo(f"The pairing code {code_id} is void.")


_Running = tuple[str, Execution, ProcessRecord | None]
"""The project's name, an execution, and the process that runs it."""


def _running(connection: sqlite3.Connection, ended: Sequence[Device]) -> list[_Running]:
    names = {project.project_id: project.name for project in storage.projects(connection)}
    found = [execution for device in ended for execution in storage.running_of(connection, device.id)]
    return [
        (names.get(project_of(key), key), one, storage.process_of(connection, key))
        for one, key in ((one, one.conversation_id) for one in found)
    ]


def _end(running: Sequence[_Running], *, kill: bool) -> None:
    """List executions, or kill their processes, whether a server runs or not."""
    for project, execution, process in running:
        where = f"{printable(project)} (execution {execution.id})"
        if not kill:
            typer.echo(f"Still running in {where}: {printable(execution.prompt[:80])}\n{_HINT}", err=True)
        elif process is None or asyncio.run(
            kill_leftovers(process.pid, process.start_time, process.boot_id, process.id)
        ):
            typer.echo(f"Killed in {where}.", err=True)
        else:
            typer.echo(f"Could not kill process {process.pid} in {where}.", err=True)


def _named(connection: sqlite3.Connection, name: str) -> Device:
    device = storage.device_named(connection, name)
    if device is None:
        alike = get_close_matches(
            name.casefold(), {other.name.casefold() for other in storage.devices(connection)}, n=1
        )
        meant = [repr(other.name) for other in storage.devices(connection) if other.name.casefold() in alike]
        hint = f"did you mean {' or '.join(meant)}?" if meant else "`pocket-agent devices list` shows them."
        raise ValidationError(f"There is no device named {name!r}; {hint}")
    return device


def _show_token(name: str, token: str, *, bare: bool) -> None:
    if bare:
        typer.echo(token)
        return
    typer.echo(f"Token of {name} (shown once): {token}")
    typer.echo("Programs send it as `Authorization: Bearer TOKEN`.")


def _made_by(code: Pairing, makers: Mapping[str, str]) -> str:
    if code.device_id is None:
        return "made on this machine"
    return f"made by {makers.get(code.device_id, 'a user of single sign-on')}"


def _code_fields(code: Pairing, makers: Mapping[str, str]) -> dict[str, object]:
    fields = {name: getattr(code, name) for name in ("id", "name", "view_only", "projects")}
    return fields | {"made_by": makers.get(code.device_id or ""), "expires_at": timestamp(code.expires_at)}


def _fields(device: Device) -> dict[str, object]:
    names = ("id", "name", "last_address", "view_only", "projects", "paired_by", "credential")
    return {name: getattr(device, name) for name in names} | {
        "created_at": timestamp(device.created_at),
        "last_seen": timestamp(device.last_seen) if device.last_seen is not None else None,
        "bound": device.public_key is not None,
    }


def _seen(device: Device) -> str:
    if device.last_seen is None:
        return "never"
    return f"{timestamp(device.last_seen)} from {device.last_address or 'an unknown address'}"


def _local(at: Milliseconds) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _access(device: Device | Pairing, names: Mapping[ProjectId, str]) -> str:
    """The permissions of a device in words; a deleted project is named by its id."""
    words = ["only watches"] if device.view_only else []
    if device.projects is not None:
        listed = ", ".join(printable(names.get(project, project)) for project in device.projects)
        words.append(f"sees only {listed or 'deleted projects'}")
    return "; ".join(words) or "may do everything"
