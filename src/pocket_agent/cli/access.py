"""The server that `chat` connects to: its address, the certificate to trust, and a token."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from pocket_agent.cli.device import make_device
from pocket_agent.cli.storage import open_database
from pocket_agent.client.client_errors import UnreachableError
from pocket_agent.errors import ConfigurationError, FileOperationError, ValidationError
from pocket_agent.server.auth import hash_token
from pocket_agent.settings import LoadedSettings, is_loopback
from pocket_agent.storage import devices
from pocket_agent.storage.database import database_path, lock_owner

_TOKEN_FILE: Final = "chat.token"  # noqa: S105 - a file name
_DEVICE: Final = "terminal"
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with


@dataclass(frozen=True)
class Access:
    """A server, and how to connect to it.

    Attributes:
        url: its WebSocket.
        token: the token to send, if there is one.
        ca: the certificate to trust; None trusts the system's authorities.
        check: to be called before each attempt to connect with `token`; see `listener_check`.
    """

    url: str
    token: str | None = None
    ca: Path | None = None
    check: Callable[[], None] | None = None


def find_local(loaded: LoadedSettings) -> Access:
    """The address of the server with these settings, for a program on the same machine.

    TLS with the server's own certificate is preferred to the plain port, on which any user could listen.
    """
    server = loaded.settings.server
    host = "127.0.0.1" if server.host in _EVERYWHERE else server.host
    host = f"[{host}]" if ":" in host else host
    if server.tls.enabled and server.tls.cert and server.plain_port:
        return Access(f"ws://127.0.0.1:{server.plain_port}/ws")
    own = server.tls.enabled and server.tls.cert is None
    url = f"{'wss' if server.tls.enabled else 'ws'}://{host}:{server.port}/ws"
    return Access(url, ca=loaded.settings.data.dir / "tls" / "cert.pem" if own else None)


def listener_check(data_dir: Path, url: str) -> Callable[[], None]:
    """A function that raises UnreachableError unless the server of a data directory listens at an address.

    For an address without TLS: when the server is stopped, every user of the machine may listen on its port. The
    process that holds the lock of the database must listen on the port.
    """
    database = database_path(data_dir)
    port = urlsplit(url).port or 80

    def check() -> None:
        owner = lock_owner(database)
        if owner is not None:
            try:
                sockets = psutil.Process(owner).net_connections("tcp")
            except psutil.Error:
                sockets = []
            if any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in sockets):
                return
        raise UnreachableError(
            f"Cannot reach {url}: no server with the data directory {data_dir} listens there, so its token is not "
            "sent. Start it, or give a token with --token-file or PA_TOKEN."
        )

    return check


def local_token(loaded: LoadedSettings) -> str:
    """The token of the device `terminal`, kept in the data directory, readable by its owner only; made if missing.

    Raises:
        FileOperationError: the data directory cannot be used.
    """
    data_dir = loaded.settings.data.dir
    file = data_dir / _TOKEN_FILE
    try:
        kept = file.read_text("utf-8").strip() if file.exists() else ""
        with open_database(loaded) as connection:
            known = {device.token_hash for device in devices(connection)}
        if kept and hash_token(kept) in known:
            return kept
        try:
            token = make_device(loaded, _DEVICE)
        except ValidationError:  # the name belongs to a device whose token is elsewhere
            token = make_device(loaded, f"{_DEVICE} {secrets.token_hex(2)}")
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(token + "\n", "utf-8")
    except OSError as error:
        raise FileOperationError(
            f"{data_dir} cannot be used ({error.strerror}). Give a token with --token-file or PA_TOKEN."
        ) from error
    return token


def find_access(
    url: str | None,
    token_file: Path | None,
    ca: Path | None,
    settings: Callable[[], LoadedSettings],
    environ: Mapping[str, str],
) -> Access:
    """The address, the certificate and the token, each from the first source that has one.

    The token of this machine's data directory is sent to this machine only, and without TLS only to the server that
    uses this data directory.

    Args:
        url: None for PA_URL, or the server of the settings.
        token_file: None for PA_TOKEN, or this machine's own token.
        ca: the certificate to trust; None for that of the server of the settings.

    Raises:
        ConfigurationError: the token file cannot be read, or no server has run with the settings.
    """
    url = url or environ.get("PA_URL")
    local: LoadedSettings | None = None
    if url is None:
        local = settings()
        found = find_local(local)
        data_dir = local.settings.data.dir
        if ca is None and found.ca is not None and not found.ca.exists() and not database_path(data_dir).exists():
            raise ConfigurationError(
                f"No server has run with the data directory {data_dir} yet. Start one (pocket-agent serve), "
                "or choose one by its address, --config or --data-dir."
            )
        url, ca = found.url, ca or found.ca
    token = _given_token(token_file, environ)
    if token is None and is_loopback(urlsplit(url).hostname or ""):
        own = local or settings()
        token = local_token(own)
        if urlsplit(url).scheme == "ws":
            return Access(url, token, ca, listener_check(own.settings.data.dir, url))
    return Access(url, token, ca)


def _given_token(token_file: Path | None, environ: Mapping[str, str]) -> str | None:
    if token_file is None:
        return environ.get("PA_TOKEN") or None
    try:
        return token_file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"The token file {token_file} cannot be read: {error}.") from error
