"""Where files are when nobody says so: the home directory, the data, the settings file."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pocket_agent.errors import ConfigurationError

DEFAULT_DATA_DIR: Final = (
    "~/.local/share/pocket-agent; as a systemd service its StateDirectory, else /var/lib/pocket-agent"
)
"""What `default_data_dir` does, for the documentation."""
SERVICE_DATA_DIR: Final = Path("/var/lib/pocket-agent")
"""Where a system service keeps its data."""


def home_dir(environ: Mapping[str, str]) -> Path | None:
    """The user's home: HOME, else what the user database says, None without either."""
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def default_data_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Where the server keeps its data unless `data.dir` is set.

    As a systemd service that is the first directory of STATE_DIRECTORY (systemd.exec(5): set from
    `StateDirectory=`, colon-separated), or `SERVICE_DATA_DIR` when systemd started it (it sets
    INVOCATION_ID) as root. An INVOCATION_ID alone does not count: desktop terminals inherit one.

    Args:
        uid: the user id that the server runs as.

    Raises:
        ConfigurationError: none of these applies.
    """
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return Path(state)
    if uid == 0 and environ.get("INVOCATION_ID"):
        return SERVICE_DATA_DIR
    home = home_dir(environ)
    if home is None:
        raise ConfigurationError("there is no home directory; set HOME, or data.dir to an absolute path")
    return home / ".local" / "share" / "pocket-agent"


def default_file(environ: Mapping[str, str]) -> Path | None:
    """`~/.config/pocket-agent/config.yaml` when it exists, or when it cannot be told whether it does.

    Without HOME there is none.
    """
    home = environ.get("HOME")
    if not home:
        return None
    usual = Path(home) / ".config" / "pocket-agent" / "config.yaml"
    try:
        usual.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return usual
    return usual


def working_dir() -> Path | None:
    """The current directory; None when it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None
