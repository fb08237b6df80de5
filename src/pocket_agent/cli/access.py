"""The server that a client command talks to: its address, the certificate to trust, and a token for it."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from pocket_agent.cli.device import make_device
from pocket_agent.client.client_errors import UnreachableError
from pocket_agent.errors import ConfigurationError, FileOperationError, ValidationError
from pocket_agent.server.auth import hash_token
from pocket_agent.settings import LoadedSettings, is_loopback
from pocket_agent.storage import connection_beside, devices
from pocket_agent.storage.database import database_path, lock_owner

# ----------------------------------------------------------------------
# The server of this user on this machine: where it listens, and a token for it.

_TOKEN_FILE: Final = "chat.token"  # noqa: S105 - a file name
_DEVICE: Final = "terminal"
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True)
class Local:
    """How to reach the server that uses these settings.

    Attributes:
        url: its WebSocket.
        ca: the certificate to trust; None for plain connections and for certificates of known authorities.
    """

    url: str
    ca: Path | None


def find_local(loaded: LoadedSettings) -> Local:
    """The address of the server with these settings, for a program on the same machine.

    The TLS listener with the self-signed certificate is preferred to the plain port, where any user could listen.
    """
    server = loaded.settings.server
    host = "127.0.0.1" if server.host in _EVERYWHERE else server.host
    host = f"[{host}]" if ":" in host else host
    if not server.tls.enabled:
        return Local(f"ws://{host}:{server.port}/ws", None)
    if server.tls.cert is None:
        return Local(f"wss://{host}:{server.port}/ws", loaded.settings.data.dir / "tls" / "cert.pem")
    if server.plain_port:
        return Local(f"ws://127.0.0.1:{server.plain_port}/ws", None)
    return Local(f"wss://{host}:{server.port}/ws", None)


def listener_check(data_dir: Path, url: str) -> Callable[[], None]:
    """Checks that the program listening at an address without TLS is the server of a data directory.

    When the server is stopped, every user of the machine may listen on its port.

    Args:
        data_dir: the data directory, whose lock the server holds.
        url: the address to check.

    Returns:
        A function that raises UnreachableError unless the process that holds the lock listens on that port now.
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
    """The token of the device `terminal`, stored in the data directory for its owner only; created if missing.

    Raises:
        FileOperationError: the data directory is not accessible.
    """
    data_dir = loaded.settings.data.dir
    file = data_dir / _TOKEN_FILE
    try:
        kept = file.read_text("utf-8").strip() if file.exists() else ""
        with connection_beside(database_path(data_dir)) as connection:
            known = {device.token_hash for device in devices(connection)}
        if kept and hash_token(kept) in known:
            return kept
        token = _new_token(loaded)
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(token + "\n", "utf-8")
    except OSError as error:
        raise FileOperationError(
            f"{data_dir} is not accessible ({error.strerror}). Give a token with --token-file or PA_TOKEN."
        ) from error
    return token


def _new_token(loaded: LoadedSettings) -> str:
    try:
        return make_device(loaded, _DEVICE)
    except ValidationError:  # the name is taken by a device whose token is elsewhere
        return make_device(loaded, f"{_DEVICE} {secrets.token_hex(2)}")


# ----------------------------------------------------------------------
# The server that flags, environment or settings name.


@dataclass(frozen=True)
class Access:
    """A server, and the credentials for it.

    Attributes:
        url: its WebSocket.
        token: the token to show it, if there is one.
        ca: the certificate to trust; None trusts the system's authorities.
        local: the settings of this machine's server, when it is that one.
        check: to be called before each attempt to connect with `token`, as of `listener_check`.
    """

    url: str
    token: str | None
    ca: Path | None
    local: LoadedSettings | None
    check: Callable[[], None] | None = None


def find_access(
    url: str | None,
    token_file: Path | None,
    ca: Path | None,
    settings: Callable[[], LoadedSettings],
    environ: Mapping[str, str],
) -> Access:
    """The address, the certificate and the token, each from the first place that has one.

    The token of this machine's data directory is only ever sent to this machine, and without TLS only to the
    server that uses this data directory.

    Args:
        url: as given; None for PA_URL, or the server of the settings.
        token_file: file with the token; None for PA_TOKEN, or this machine's own token.
        ca: the certificate to trust, as given.
        settings: reads the settings.
        environ: the environment's variables.

    Raises:
        ConfigurationError: the token file cannot be read, or there never was a server of the settings.
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
                "or choose another one with its address, --config or --data-dir."
            )
        url, ca = found.url, ca or found.ca
    token = _given_token(token_file, environ)
    if token is None and is_loopback(urlsplit(url).hostname or ""):
        own = local or settings()
        token = local_token(own)
        if urlsplit(url).scheme == "ws":
            return Access(url, token, ca, local, listener_check(own.settings.data.dir, url))
    return Access(url, token, ca, local)


def _given_token(token_file: Path | None, environ: Mapping[str, str]) -> str | None:
    if token_file is None:
        return environ.get("PA_TOKEN") or None
    try:
        return token_file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"The token file {token_file} cannot be read: {error}.") from error
