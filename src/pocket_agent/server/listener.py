"""Opens the sockets that the server is reached by, and says in a sentence why one cannot be."""

import asyncio
import contextlib
import errno
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import psutil
from aiohttp import web

from pocket_agent.config import LoadedSettings
from pocket_agent.errors import ConfigurationError
from pocket_agent.events import CertificateLoaded, Observer, SettingIgnored
from pocket_agent.server.address import in_url, page_urls
from pocket_agent.server.tls import Tls

_CLEANUP_SECONDS: Final = 2.0
"""How long requests that are under way when the server stops may take."""
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where clients reach the server.

    Attributes:
        url: the main address.
        plain_url: the plain address on loopback, if there is one.
        page_urls: as of `address.page_urls`.
        tls: the encryption of the main address, if there is any.
    """

    url: str
    plain_url: str | None
    page_urls: Sequence[str]
    tls: Tls | None


@contextlib.asynccontextmanager
async def listening(
    application: web.Application, loaded: LoadedSettings, observer: Observer
) -> AsyncIterator[Listeners]:
    """Open the main listener and, beside TLS, the plain one on loopback; both close at the end.

    Raises:
        ConfigurationError: the certificate or a port cannot be used; the message names the setting.
    """
    settings = loaded.settings
    server = settings.server
    tls: Tls | None = None
    if server.tls.enabled:
        tls = Tls(server.tls, settings.data.dir / "tls", [server.host])
        tell(tls, observer)
    async with _running(application) as runner:
        context = tls.context if tls is not None else None
        port = await _listen(runner, server.host, server.port, context, "server.port (PA_SERVER_PORT, --port)")
        url = f"{'https' if tls is not None else 'http'}://{in_url(server.host)}:{port}"
        plain_url = await _listen_plain(runner, loaded, observer) if tls is not None else None
        yield Listeners(url, plain_url, page_urls(settings, port, plain_url), tls)


@contextlib.asynccontextmanager
async def exporting(application: web.Application, loaded: LoadedSettings) -> AsyncIterator[str]:
    """Open the listener for Prometheus, until the block is left; gives its URL.

    Raises:
        ConfigurationError: the port cannot be used; the message names the setting.
    """
    metrics = loaded.settings.metrics
    async with _running(application) as runner:
        setting = "metrics.port (PA_METRICS_PORT, --metrics-port)"
        port = await _listen(runner, metrics.host, metrics.port, None, setting)
        yield f"http://{in_url(metrics.host)}:{port}"


def tell(tls: Tls, observer: Observer) -> None:
    """Say which certificate is in use from here on."""
    certificate = tls.certificate
    observer.emit(CertificateLoaded(certificate.not_after, certificate.self_signed))


@contextlib.asynccontextmanager
async def _running(application: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None, setting: str) -> int:
    """Open one listener; returns its port."""
    before = len(runner.addresses)
    try:
        await web.TCPSite(runner, host, port, ssl_context=context, backlog=_BACKLOG).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"it is taken by {await asyncio.to_thread(_holder, host, port)}"
        elif error.errno == errno.EACCES:
            reason = "this user may not use it"
        else:
            reason = error.strerror or str(error)
        raise ConfigurationError(
            f"Port {port} on {host} cannot be used: {reason}. Choose another: {setting}."
        ) from error
    return int(runner.addresses[before][1])


async def _listen_plain(runner: web.AppRunner, loaded: LoadedSettings, observer: Observer) -> str | None:
    """The plain listener, so that a first look in a local browser meets no certificate warning.

    One that nobody asked for is done without when its port is taken.
    """
    port = loaded.settings.server.plain_port
    if port is None:
        return None
    setting = "server.plain_port (PA_SERVER_PLAIN_PORT; off switches it off)"
    try:
        return f"http://127.0.0.1:{await _listen(runner, '127.0.0.1', port, None, setting)}"
    except ConfigurationError as error:
        if loaded.sources["server.plain_port"] != "default":
            raise
        observer.emit(SettingIgnored("server.plain_port", error.message))
        return None


def _holder(host: str, port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        found = [
            socket
            for socket in psutil.net_connections(kind="tcp")
            if socket.status == psutil.CONN_LISTEN and socket.laddr and _takes(socket.laddr, host, port)
        ]
    except psutil.AccessDenied:  # macOS tells only root whose sockets there are
        return "another program"
    for pid in {socket.pid for socket in found if socket.pid is not None}:
        with contextlib.suppress(psutil.NoSuchProcess):
            name = "".join(char if char.isprintable() else "?" for char in psutil.Process(pid).name())
            return f"{name} (process {pid})"
    return "a process of another user" if found else "another program"


def _takes(address: tuple[str, int], host: str, port: int) -> bool:
    """Whether who listens on an address keeps others from a port; a name may stand for any address."""
    if address[1] != port:
        return False
    try:
        addresses = {ipaddress.ip_address(host), ipaddress.ip_address(address[0])}
    except ValueError:
        return True
    return len(addresses) == 1 or any(found.is_unspecified for found in addresses)
