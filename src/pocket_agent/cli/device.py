"""`pocket-agent devices`: the devices that may connect."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.claude.process import kill_leftovers
from pocket_agent.cli.audit import note
from pocket_agent.cli.pair import find_projects
from pocket_agent.errors import ValidationError
from pocket_agent.model import Device, Execution, Milliseconds, Pairing, ProcessRecord, ProjectId
from pocket_agent.protocol.frame import timestamp
from pocket_agent.server.auth import hash_token, new_device, new_token
from pocket_agent.server.pairing import check_name
from pocket_agent.session.project_log import now
from pocket_agent.settings import LoadedSettings, printable
from pocket_agent.storage import (
    add_device,
    cancel_pairing,
    connection_beside,
    device_named,
    devices,
    let_in_by,
    open_pairings,
    process_of,
    projects,
    remove_device,
    rename_device,
    rotate_device,
    running_of,
)
from pocket_agent.storage.database import database_path

_HINT: Final = "--kill would have ended it; another device can still kill it (web client, `pocket-agent chat`)."


def make_device(loaded: LoadedSettings, name: str, *, view_only: bool = False, wanted: Sequence[str] = ()) -> str:
    """Store a new device and return its token, of which only a hash is stored.

    Args:
        loaded: the settings.
        name: its name.
        view_only: whether it may only watch.
        wanted: the projects that it may see, by name, path or id; empty for all.

    Raises:
        ValidationError: the name is taken or invalid, or there is no such project.
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
    """Print all devices: a table in a terminal, otherwise a line for each, with tabs between the fields.

    As JSON it is `{"devices": [{"id", "name", "created_at", "last_seen", "last_address", "view_only", "projects",
    "paired_by", "credential", "bound"}], "pairings": [{"id", "name", "view_only", "projects", "made_by",
    "expires_at"}]}`. `pairings` are the open pairing codes.
    """
    with _database(loaded) as connection:
        names = {project.id: project.name for project in projects(connection)}
        found = devices(connection)
        codes = open_pairings(connection, now())
    makers = {device.id: device.name for device in found}
    if as_json:
        listed = {
            "devices": [_fields(device) for device in found],
            "pairings": [_code_fields(code, makers) for code in codes],
        }
        typer.echo(json.dumps(listed, indent=2))
    elif not console.is_terminal:
        for device in found:
            added, seen = f"added {timestamp(device.created_at)}", f"last seen {_seen(device)}"
            typer.echo("\t".join([device.name, added, seen, _access(device, names)]))
        for code in codes:
            expires = f"expires {timestamp(code.expires_at)}"
            typer.echo("\t".join([f"open code {code.id}", _made_by(code, makers), expires, _access(code, names)]))
    elif found or codes:
        console.print(render_table(found, names))
        for code in codes:
            left = max(0, code.expires_at - now()) // 1000
            console.print(
                Text(
                    f"Open pairing code {code.id}: {_made_by(code, makers)}, expires in {left} s, for a device that "
                    f"{_access(code, names)}. `pocket-agent devices cancel {code.id}` cancels it."
                )
            )
    else:
        console.print(
            "No device may connect yet. `pocket-agent pair` pairs a browser, `devices add NAME` adds a program."
        )


def render_table(found: Sequence[Device], names: Mapping[ProjectId, str]) -> Table:
    """The devices as a table; times are local."""
    table = Table()
    for heading in ("Device", "Added", "Last seen", "From", "May do"):
        table.add_column(heading, overflow="fold")
    for device in found:
        seen = "never" if device.last_seen is None else _local(device.last_seen)
        parts = [device.name, _local(device.created_at), seen, device.last_address or "", _access(device, names)]
        table.add_row(*map(Text, parts))
    return table


def rename(loaded: LoadedSettings, name: str, new_name: str) -> None:
    """Rename a device.

    Raises:
        ValidationError: there is no device of that name, or the new name is taken or invalid.
    """
    with _database(loaded) as connection:
        device = _named(connection, name)
        rename_device(connection, device.id, check_name(new_name))
        note(loaded, connection, "device_rename", {"device_id": device.id, "name": check_name(new_name)})
    typer.echo(f"{name} is now called {check_name(new_name)}.")


def rotate(loaded: LoadedSettings, name: str, *, bare: bool, kill: bool = False) -> None:
    """Replace a device's token and print the new one.

    Its connections are closed, its pairing codes end, its queued prompts are withdrawn. Its executions are listed on
    standard error, and ended with `kill`.

    Raises:
        ValidationError: there is no device of that name.
    """
    token = new_token()
    with _database(loaded) as connection:
        device = _named(connection, name)
        rotate_device(connection, device.id, hash_token(token))
        running = _running(connection, [device])
        note(loaded, connection, "device_rotate", {"device_id": device.id, "name": device.name, "kill": kill})
    _show_token(name, token, bare=bare)
    _end(running, kill=kill, hint=_HINT)


def revoke(loaded: LoadedSettings, name: str, *, kill: bool = False, paired: bool = False) -> None:
    """Remove a device; its pairing codes end, and a running server withdraws its queued prompts.

    Args:
        loaded: the settings.
        name: of the device.
        kill: also end its executions, which are otherwise listed.
        paired: also revoke the devices that it has paired, and those that they have paired; otherwise they are
            listed.

    Raises:
        ValidationError: there is no device of that name.
    """
    with _database(loaded) as connection:
        device = _named(connection, name)
        descendants = let_in_by(devices(connection), device.id)
        ended = [device, *(descendants if paired else [])]
        for each in ended:
            remove_device(connection, each.id)
            details: dict[str, object] = {"device_id": each.id, "name": each.name, "kill": kill}
            note(loaded, connection, "device_revoke", details)
        running = _running(connection, ended)
    for each in ended:
        typer.echo(f"{each.name} may no longer connect.")
    if descendants and not paired:
        listed = ", ".join(each.name for each in descendants)
        typer.echo(f"It has paired: {listed}. They may still connect; `devices revoke NAME` revokes them.", err=True)
    _end(running, kill=kill, hint=_HINT)


def cancel(loaded: LoadedSettings, code_id: str) -> None:
    """Cancel an open pairing code, by the id that `show` prints.

    Raises:
        ValidationError: there is no open code of this id.
    """
    with _database(loaded) as connection:
        if not cancel_pairing(connection, code_id):
            raise ValidationError(f"There is no open pairing code {code_id!r}; `pocket-agent devices list` shows them.")
        note(loaded, connection, "pairing_cancel", {"pairing_id": code_id})
    typer.echo(f"The pairing code {code_id} was cancelled.")


@dataclass(frozen=True, slots=True)
class _Running:
    """A running execution of a device without access, and its process."""

    project: str
    execution: Execution
    process: ProcessRecord | None


def _running(connection: sqlite3.Connection, ended: Sequence[Device]) -> list[_Running]:
    names = {project.id: project.name for project in projects(connection)}
    return [
        _Running(
            printable(names.get(execution.project_id, execution.project_id)),
            execution,
            process_of(connection, execution.project_id),
        )
        for device in ended
        for execution in running_of(connection, device.id)
    ]


def _end(running: Sequence[_Running], *, kill: bool, hint: str) -> None:
    """List the executions, or kill their processes, whether a server runs or not."""
    for found in running:
        where = f"{found.project} (execution {found.execution.id})"
        process = found.process
        if not kill:
            typer.echo(f"Still running in {where}: {printable(found.execution.prompt[:80])}\n{hint}", err=True)
        elif process is None or asyncio.run(
            kill_leftovers(process.pid, process.start_time, process.boot_id, process.id)
        ):
            typer.echo(f"Killed in {where}.", err=True)
        else:
            typer.echo(f"The execution in {where} could not be killed; its process is {process.pid}.", err=True)


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


def _made_by(code: Pairing, makers: Mapping[str, str]) -> str:
    if code.device_id is None:
        return "made on this machine"
    return f"made by {makers.get(code.device_id, 'a user of single sign-on')}"


def _code_fields(code: Pairing, makers: Mapping[str, str]) -> dict[str, object]:
    maker = makers.get(code.device_id or "")
    access = {"view_only": code.view_only, "projects": code.projects}
    return {"id": code.id, "name": code.name, **access, "made_by": maker, "expires_at": timestamp(code.expires_at)}


def _fields(device: Device) -> dict[str, object]:
    seen = timestamp(device.last_seen) if device.last_seen is not None else None
    times = {"created_at": timestamp(device.created_at), "last_seen": seen, "last_address": device.last_address}
    access = {"view_only": device.view_only, "projects": device.projects}
    secret = {"credential": device.credential, "bound": device.public_key is not None}
    return {"id": device.id, "name": device.name, **times, **access, "paired_by": device.paired_by, **secret}


def _seen(device: Device) -> str:
    if device.last_seen is None:
        return "never"
    return f"{timestamp(device.last_seen)} from {device.last_address or 'an unknown address'}"


def _local(at: Milliseconds) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _access(device: Device | Pairing, names: Mapping[ProjectId, str]) -> str:
    """The permissions of a device; a deleted project is named by its id."""
    words = ["only watches"] if device.view_only else []
    if device.projects is not None:
        listed = ", ".join(printable(names.get(project, project)) for project in device.projects)
        words.append(f"sees only {listed or 'deleted projects'}")
    return "; ".join(words) or "may do everything"
