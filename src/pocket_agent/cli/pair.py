"""`pocket-agent pair`: a link and a QR code that pair one device."""

import io
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import segno
import typer

from pocket_agent.cli.audit import note
from pocket_agent.errors import ValidationError
from pocket_agent.model import ProjectId
from pocket_agent.server.address import base_url, page_urls
from pocket_agent.server.pairing import PAIRING_SECONDS, new_pairing
from pocket_agent.settings import LoadedSettings, is_loopback
from pocket_agent.storage import add_pairing, connection_beside, projects
from pocket_agent.storage.database import database_path

LOOPBACK_HINT: Final = (
    "Only this machine can reach these addresses, since server.host is a loopback address. For other devices set it to "
    "0.0.0.0, or use a proxy or a tunnel and set server.public_url (docs/deployment/proxy.md)."
)


LIMITED_HINT: Final = (
    "The device sees only these projects, but may send any prompt there, and allowed tools run as the server's user "
    "(docs/devices.md). --view-only allows viewing only."
)


def pair(loaded: LoadedSettings, *, name: str | None, view_only: bool, wanted: Sequence[str]) -> None:
    """Print a link that pairs one device, whether or not a server is running on the same data.

    Args:
        loaded: the settings.
        name: the name of the device; None lets the device choose.
        view_only: whether it may only watch.
        wanted: the projects that it may see, by name, path or id; empty for all.

    Raises:
        ValidationError: the name is invalid, or there is no such project.
        ResourceLimitError: too many pairing codes are open.
    """
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        pairing, code = new_pairing(name, view_only=view_only, projects=find_projects(connection, wanted))
        add_pairing(connection, pairing)
        details = {"name": pairing.name, "view_only": view_only, "projects": pairing.projects}
        note(loaded, connection, "pairing_start", details)
    server = loaded.settings.server
    plain_url = base_url("http", "127.0.0.1", server.plain_port) if server.tls.enabled and server.plain_port else None
    urls = page_urls(loaded.settings, server.port, plain_url)
    typer.echo(f"{urls[0]}/pair#{code}")
    if not sys.stdout.isatty():
        return
    typer.echo(f"\n{qr_code(f'{urls[0]}/pair#{code}')}")
    for url in urls[1:]:
        typer.echo(f"or  {url}/pair#{code}")
    typer.echo(f"Open a link on the device, or scan the code. It works once, within {PAIRING_SECONDS // 60} minutes.")
    if wanted and not view_only:
        typer.echo(LIMITED_HINT)
    if server.public_url is None and is_loopback(server.host):
        typer.echo(LOOPBACK_HINT)


def find_projects(connection: sqlite3.Connection, wanted: Sequence[str]) -> tuple[ProjectId, ...] | None:
    """The ids of projects given by name, path or id; None for an empty list.

    Raises:
        ValidationError: there is no such project, or several have the name.
    """
    known = projects(connection)
    found: list[ProjectId] = []
    for word in wanted:
        path = str(Path(word).expanduser().resolve())
        matching = [project.id for project in known if word in {project.id, project.name} or path == project.real_path]
        if len(matching) != 1:
            problem = "several projects are" if matching else "no project is"
            raise ValidationError(f"{problem.capitalize()} called {word!r}; give the path of one.")
        found.append(matching[0])
    return tuple(dict.fromkeys(found)) if wanted else None


def qr_code(text: str) -> str:
    """A QR code for a terminal, light on dark regardless of its colours."""
    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, border=2, compact=True)
    return "\n".join(f"\x1b[97;40m{line}\x1b[0m" for line in drawn.getvalue().splitlines()) + "\n"
