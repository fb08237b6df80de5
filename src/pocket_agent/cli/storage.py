"""`pocket-agent storage`: the size of the database."""

import typer

from pocket_agent.settings import LoadedSettings
from pocket_agent.storage.compaction import compact
from pocket_agent.storage.location import database_path
from pocket_agent.storage.space import Space, read_space


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
