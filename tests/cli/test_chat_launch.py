"""pocket_agent.cli.chat: where the server, its certificate and the token come from."""

import io
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.cli.access import Access, find_local, local_token
from pocket_agent.cli.chat.launch import ChatOptions, connector, run_chat
from pocket_agent.cli.device import make_device
from pocket_agent.client import Client, UnreachableError
from pocket_agent.errors import ConfigurationError
from pocket_agent.server.auth import hash_token
from pocket_agent.settings import LoadedSettings, load_settings
from pocket_agent.storage import connection_beside, devices, remove_device
from pocket_agent.storage.database import database_path


def settings(data_dir: Path, **flags: object) -> LoadedSettings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(config=None, environ={}, flags={"data.dir": data_dir, **named})


def made_by(options: ChatOptions, loaded: LoadedSettings, environ: dict[str, str]) -> Any:
    client = connector(options, lambda: loaded, environ)(lambda _: None)
    assert isinstance(client, Client)
    return client._address


def known_hashes(data_dir: Path) -> set[str]:
    with connection_beside(database_path(data_dir)) as connection:
        return {device.token_hash for device in devices(connection)}


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({}, ("wss://127.0.0.1:8443/ws", "tls/cert.pem")),
        ({"server__host": "0.0.0.0", "server__port": 1234}, ("wss://127.0.0.1:1234/ws", "tls/cert.pem")),
        ({"server__host": "::1"}, ("wss://[::1]:8443/ws", "tls/cert.pem")),
        ({"server__tls__enabled": False}, ("ws://127.0.0.1:8443/ws", None)),
        ({"server__tls__cert": "/c.pem", "server__tls__key": "/k.pem"}, ("ws://127.0.0.1:8080/ws", None)),
        (
            {"server__tls__cert": "/c.pem", "server__tls__key": "/k.pem", "server__plain_port": "off"},
            ("wss://127.0.0.1:8443/ws", None),
        ),
    ],
)
def test_the_server_of_the_settings(tmp_path: Path, flags: dict[str, object], found: tuple[str, str | None]) -> None:
    url, ca = found
    assert find_local(settings(tmp_path, **flags)) == Access(url, ca=tmp_path / ca if ca else None)


def test_the_local_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    loaded = settings(tmp_path / "data")
    token = local_token(loaded)
    assert local_token(loaded) == token
    assert known_hashes(tmp_path / "data") == {hash_token(token)}
    assert stat.S_IMODE((tmp_path / "data" / "chat.token").stat().st_mode) == 0o600


def test_a_revoked_local_token_is_made_again(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    token = local_token(loaded)
    with connection_beside(database_path(tmp_path)) as connection:
        (terminal,) = devices(connection)
        remove_device(connection, terminal.id)
    assert local_token(loaded) != token


def test_a_device_that_has_the_name_already_keeps_it(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    other = make_device(loaded, "terminal")
    token = local_token(loaded)
    assert known_hashes(tmp_path) == {hash_token(token), hash_token(other)}


def test_the_order_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    loaded, data = settings(tmp_path / "data"), tmp_path / "data"
    local = "ws://127.0.0.1:1/ws"
    assert made_by(ChatOptions(url=local, token_file=file), loaded, {"PA_TOKEN": "from-env"}).token == "from-file"
    assert made_by(ChatOptions(url=local), loaded, {"PA_TOKEN": "from-env"}).token == "from-env"
    assert not data.exists()
    assert hash_token(made_by(ChatOptions(url=local), loaded, {}).token) in known_hashes(data)


def test_the_local_token_goes_nowhere_else(tmp_path: Path) -> None:
    loaded = settings(tmp_path / "data")
    assert made_by(ChatOptions(url="wss://example.com/ws"), loaded, {}).token is None
    assert not (tmp_path / "data").exists()


def test_the_order_of_addresses(tmp_path: Path) -> None:
    loaded = settings(tmp_path, server__tls__enabled=False)
    environ = {"PA_URL": "ws://127.0.0.1:2/ws", "PA_TOKEN": "t"}
    assert made_by(ChatOptions(url="ws://127.0.0.1:1/ws"), loaded, environ).url == "ws://127.0.0.1:1/ws"
    assert made_by(ChatOptions(), loaded, environ).url == "ws://127.0.0.1:2/ws"
    assert made_by(ChatOptions(), loaded, {}).url == "ws://127.0.0.1:8443/ws"


def test_a_missing_certificate_and_a_missing_token_file_are_named(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    with pytest.raises(ConfigurationError, match="No server has run with the data directory"):
        made_by(ChatOptions(), loaded, {"PA_TOKEN": "t"})
    local_token(loaded)  # there is a database now
    with pytest.raises(UnreachableError, match=r"cert\.pem"):
        made_by(ChatOptions(), loaded, {"PA_TOKEN": "t"})
    with pytest.raises(ConfigurationError, match="none cannot be read"):
        made_by(ChatOptions(url="ws://127.0.0.1:1/ws", token_file=tmp_path / "none"), loaded, {})


def test_flags_that_need_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(ConfigurationError, match="--prompt"):
        run_chat(ChatOptions(approve=True), lambda: settings(tmp_path), {})


@pytest.mark.parametrize(
    ("given", "said"), [(b"", "empty"), (b" \n", "empty"), (b"not \xff text", "not UTF-8 text: invalid start byte")]
)
def test_standard_input_without_a_prompt_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bytes, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=said):
        run_chat(ChatOptions(), lambda: settings(tmp_path), {})


def test_the_flags_cost_other_commands_nothing() -> None:
    program = (
        "import sys; import pocket_agent.cli.main; "
        "print([name for name in ('prompt_toolkit', 'aiohttp', 'rich', 'msgspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_typed_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are in it; an older version made it with the umask."""
    history = tmp_path / "chat.history"
    history.touch(mode=0o644)
    history.chmod(0o644)

    async def talk(*_: object, history_file: Path, **__: object) -> int:
        return stat.S_IMODE(history_file.stat().st_mode)

    monkeypatch.setattr("pocket_agent.cli.chat.launch.run_terminal", talk)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    loaded = load_settings(config=None, environ={}, flags={"data.dir": tmp_path})
    options = ChatOptions(url="ws://127.0.0.1:1/ws")
    assert run_chat(options, lambda: loaded, {"PA_TOKEN": "t"}) == 0o600
    history.unlink()
    assert run_chat(options, lambda: loaded, {"PA_TOKEN": "t"}) == 0o600
