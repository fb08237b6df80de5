"""Which server a command of this machine means."""

from pathlib import Path

import pytest

from pocket_agent.cli.access import find_access
from pocket_agent.config import LoadedSettings, load_settings
from pocket_agent.errors import ConfigurationError


def settings(data: Path) -> LoadedSettings:
    """The settings of a server with this data directory."""
    return load_settings(config=None, environ={}, flags={"data.dir": data})


def test_a_server_that_was_never_started_is_no_riddle_and_gets_no_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(ConfigurationError, match=r"No server has run with the data directory .*/data yet\. Start one"):
        find_access(None, None, None, lambda: settings(data), {})
    assert not data.exists()


def test_one_that_is_named_need_not_be_ours(tmp_path: Path) -> None:
    found = find_access("wss://agent.example/ws", None, None, lambda: settings(tmp_path / "data"), {"PA_TOKEN": "t"})
    assert (found.url, found.token, found.local) == ("wss://agent.example/ws", "t", None)
