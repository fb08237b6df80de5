"""`pocket-agent backup`: a consistent copy of the database."""

from pathlib import Path

import typer

from pocket_agent.config import LoadedSettings
from pocket_agent.storage import backup
from pocket_agent.storage.location import database_path


def write_backup(loaded: LoadedSettings, target: Path) -> None:
    """Copy the database of the configured data directory to `target`."""
    backup(database_path(loaded.settings.data.dir), target)
    typer.echo(f"Wrote {target} ({target.stat().st_size / 2**20:.1f} MiB). Restore it by putting it in the place of")
    typer.echo(f"{database_path(loaded.settings.data.dir)} while the server is stopped.")
