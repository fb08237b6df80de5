"""Where the store of a data directory is."""

from pathlib import Path


def database_path(data_dir: Path) -> Path:
    """The database's file."""
    return data_dir / "pocket-agent.db"
