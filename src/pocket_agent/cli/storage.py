"""`pocket-agent backup` and `pocket-agent storage`: a copy of the database, and its size."""

from pathlib import Path

import typer

from pocket_agent.settings import LoadedSettings
from pocket_agent.storage import backup
from pocket_agent.storage.database import database_path
from pocket_agent.storage.maintenance import Space, compact, read_space

# ----------------------------------------------------------------------
# `pocket-agent backup`: a consistent copy of the database.


def write_backup(loaded: LoadedSettings, target: Path) -> None:
    """Copy the database of the configured data directory to `target`."""
    database = database_path(loaded.settings.data.dir)
    backup(database, target)
    typer.echo(f"Wrote {target} ({target.stat().st_size / 2**20:.1f} MiB).")
    # An old write-ahead log belongs to the replaced database.
    typer.echo(f"To restore it: stop the server, delete {database}-wal and {database}-shm if they exist,")
    typer.echo(f"and copy it to {database}.")


# ----------------------------------------------------------------------
# `pocket-agent storage`: what the database takes on the disk.


def show_space(loaded: LoadedSettings) -> None:
    """Print the size of the database and of its unused part."""
    database = database_path(loaded.settings.data.dir)
    typer.echo(f"{database}: {_size(read_space(database))}.")


def compact_database(loaded: LoadedSettings) -> None:
    """Compact the database, and print its size before and after."""
    database = database_path(loaded.settings.data.dir)
    typer.echo(f"Compacting {database}: {_size(read_space(database))} ...", err=True)
    before, after = compact(database)
    typer.echo(f"Before: {_size(before)}.")
    typer.echo(f"After:  {_size(after)}.")


def _size(space: Space) -> str:
    share = space.unused_bytes / space.size_bytes if space.size_bytes else 0.0
    return f"{space.size_bytes / 2**20:.1f} MiB, of which {space.unused_bytes / 2**20:.1f} MiB ({share:.0%}) are unused"
