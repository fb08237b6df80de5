"""Which server a command of this machine means."""

import asyncio
import socket
from pathlib import Path

import pytest

from pocket_agent.cli.access import find_access, listener_check
from pocket_agent.client import Client, UnreachableError
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, load_settings
from pocket_agent.storage.database import DataLock, database_path


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
    assert (found.url, found.token) == ("wss://agent.example/ws", "t")


def test_a_token_goes_to_the_server_of_this_data_directory_alone(tmp_path: Path) -> None:
    """Without TLS: while the server is stopped, another program may listen on its port."""
    database = database_path(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        check = listener_check(tmp_path, f"ws://127.0.0.1:{port}/ws")
        with pytest.raises(UnreachableError, match="not sent"):
            check()  # nobody holds the lock: this is another program
        lock = DataLock.acquire(database)
        check()
        with pytest.raises(UnreachableError, match="not sent"):
            listener_check(tmp_path, "ws://127.0.0.1:1/ws")()  # the server is there, and listens elsewhere
        lock.release()
        with pytest.raises(UnreachableError, match="not sent"):
            check()
    found = find_access("ws://127.0.0.1:1/ws", None, None, lambda: settings(tmp_path), {})
    assert found.token is not None
    assert found.check is not None
    assert find_access("ws://127.0.0.1:1/ws", None, None, lambda: settings(tmp_path), {"PA_TOKEN": "t"}).check is None


async def test_the_client_asks_before_each_attempt(tmp_path: Path) -> None:
    heard = bytearray()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(impostor, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        with pytest.raises(UnreachableError, match="not sent"):
            async with Client(url, token="pa_secret", check=listener_check(tmp_path, url)) as client:
                await client.projects()
    assert heard == b""
