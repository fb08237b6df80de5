"""`pocket-agent backup`: a consistent copy of the database."""

from pathlib import Path

import typer

from pocket_agent.settings import LoadedSettings
from pocket_agent.storage import backup
from pocket_agent.storage.location import database_path


def write_backup(loaded: LoadedSettings, target: Path) -> None:
    """Copy the database of the configured data directory to `target`."""
    database = database_path(loaded.settings.data.dir)
    backup(database, target)
    typer.echo(f"Wrote {target} ({target.stat().st_size / 2**20:.1f} MiB).")
    # An old write-ahead log belongs to the replaced database.
    typer.echo(f"To restore it: stop the server, delete {database}-wal and {database}-shm if they exist,")
    typer.echo(f"and copy it to {database}.")
