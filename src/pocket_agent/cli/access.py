"""The server that a client command talks to: its address, the certificate to trust, and a token for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pocket_agent.cli.chat.local import find_local, listener_check, local_token
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, is_loopback
from pocket_agent.storage.location import database_path


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
