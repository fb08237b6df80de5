"""`pocket-agent backup` and `pocket-agent storage`: a copy of the database, and its size."""

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

import typer

from pocket_agent.settings import LoadedSettings
from pocket_agent.storage import backup, connection_beside
from pocket_agent.storage.database import database_path
from pocket_agent.storage.maintenance import Space, compact, read_space


def open_database(loaded: LoadedSettings) -> AbstractContextManager[sqlite3.Connection]:
    """A connection to the database of the settings, whether or not a server uses it too."""
    return connection_beside(database_path(loaded.settings.data.dir))


def write_backup(loaded: LoadedSettings, target: Path) -> None:
    """Copy the database of the configured data directory to `target`."""
    database = database_path(loaded.settings.data.dir)
    backup(database, target)
    typer.echo(f"Wrote {target} ({target.stat().st_size / 2**20:.1f} MiB).")
    # A write-ahead log that is left over belongs to the database that was there before.
    typer.echo(f"To restore it: stop the server, delete {database}-wal and {database}-shm if they are there,")
    typer.echo(f"and copy it to {database}.")


def show_space(loaded: LoadedSettings) -> None:
    """Print the size of the database and of its unused part."""
    database = database_path(loaded.settings.data.dir)
    typer.echo(f"{database}: {_size(read_space(database))}.")


def compact_database(loaded: LoadedSettings) -> None:
    """Return the unused part to the disk, and print the sizes before and after."""
    database = database_path(loaded.settings.data.dir)
    typer.echo(f"Compacting {database}: {_size(read_space(database))} ...", err=True)
    before, after = compact(database)
    typer.echo(f"Before: {_size(before)}.")
    typer.echo(f"After:  {_size(after)}.")


def _size(space: Space) -> str:
    share = space.unused_bytes / space.size_bytes if space.size_bytes else 0.0
    return f"{space.size_bytes / 2**20:.1f} MiB, of which {space.unused_bytes / 2**20:.1f} MiB ({share:.0%}) are unused"
