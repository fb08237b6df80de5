"""`pocket-agent pair`: a link and a QR code that pair one device."""

import io
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from pocket_agent.cli.audit import note
from pocket_agent.cli.storage import open_database
from pocket_agent.errors import ValidationError
from pocket_agent.model import ProjectId
from pocket_agent.server.address import base_url, page_urls
from pocket_agent.server.pairing import PAIRING_SECONDS, new_pairing
from pocket_agent.settings import LoadedSettings, is_loopback
from pocket_agent.storage import add_pairing, projects

LOOPBACK_HINT: Final = (
    "Only this machine reaches these addresses, since server.host is a loopback address. For other devices set it to "
    "0.0.0.0, or put a proxy or a tunnel in front and set server.public_url (docs/deployment/proxy.md)."
)

LIMITED_HINT: Final = (
    "It sees no other project, but it can ask the agent for anything in these, and what is allowed there runs as "
    "the server's user (docs/devices.md). --view-only lets it only watch."
)


def pair(loaded: LoadedSettings, *, name: str | None, view_only: bool, wanted: Sequence[str]) -> None:
    """Print a link that pairs one device; the server may be running.

    Args:
        name: of the device; None lets the device choose it.
        view_only: whether it may only watch.
        wanted: the projects that it may see, by name, path or id; empty for all.

    Raises:
        ValidationError: the name is not valid, or there is no such project.
        ResourceLimitError: too many pairing codes are open.
    """
    with open_database(loaded) as connection:
        pairing, code = new_pairing(name, view_only=view_only, projects=find_projects(connection, wanted))
        add_pairing(connection, pairing)
        details = {"name": pairing.name, "view_only": view_only, "projects": pairing.projects}
        note(loaded, connection, "pairing_start", details)
    server = loaded.settings.server
    plain_url = base_url("http", "127.0.0.1", server.plain_port) if server.tls.enabled and server.plain_port else None
    urls = page_urls(loaded.settings, server.port, plain_url)
    link, *others = (f"{url}/pair#{code}" for url in urls)
    typer.echo(link)
    if not sys.stdout.isatty():
        return
    typer.echo(f"\n{qr_code(link)}")
    for other in others:
        typer.echo(f"or  {other}")
    typer.echo(
        f"Open one of them on the device, or scan the code. It works once, within {PAIRING_SECONDS // 60} minutes."
    )
    if wanted and not view_only:
        typer.echo(LIMITED_HINT)
    if server.public_url is None and is_loopback(server.host):
        typer.echo(LOOPBACK_HINT)


def find_projects(connection: sqlite3.Connection, wanted: Sequence[str]) -> tuple[ProjectId, ...] | None:
    """The ids of projects that are given by name, path or id; None when none is given.

    Raises:
        ValidationError: no project matches, or several do.
    """
    known = projects(connection)
    found: list[ProjectId] = []
    for word in wanted:
        path = str(Path(word).expanduser().resolve())
        matching = [
            project.project_id for project in known if word in {project.id, project.name} or path == project.real_path
        ]
        if len(matching) != 1:
            problem = "several projects are" if matching else "no project is"
            raise ValidationError(f"{problem.capitalize()} called {word!r}; give the path of one.")
        found.append(matching[0])
    return tuple(dict.fromkeys(found)) if wanted else None


def qr_code(text: str) -> str:
    """A QR code for a terminal, light on dark whatever the terminal's colours."""
    import segno

    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, border=2, compact=True)
    return "\n".join(f"\x1b[97;40m{line}\x1b[0m" for line in drawn.getvalue().splitlines()) + "\n"
