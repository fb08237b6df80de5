"""Opens the listening sockets, and explains in one sentence why one cannot be opened."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import psutil
from aiohttp import web

from pocket_agent.errors import ConfigurationError
from pocket_agent.events import CertificateLoaded, ListenersOpened, Observer, SettingIgnored
from pocket_agent.server.acceptor import Acceptor, bind
from pocket_agent.server.address import in_url, page_urls
from pocket_agent.server.guard import Hosts
from pocket_agent.server.limits import Admission
from pocket_agent.server.tls import Tls
from pocket_agent.settings import CurrentSettings, LiveSettings, LoadedSettings, ServerSettings, is_loopback

_CLEANUP_SECONDS: Final = 2.0  # the limit for running requests when the server stops
_PATIENCE_SECONDS: Final = 60.0
"""The time that the system waits longer than the server for a client that acknowledges nothing."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The addresses of the server."""

    url: str  # the main address
    plain_url: str | None  # the plain address on loopback, if there is one
    page_urls: Sequence[str]  # see `address.page_urls`
    exposed_urls: Sequence[str]  # those for other machines
    tls: Tls | None  # of the main address, if it is on

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all listeners."""
        return (self.url,) if self.plain_url is None else (self.url, self.plain_url)


@contextlib.asynccontextmanager
async def listening(
    application: web.Application, live: LiveSettings, observer: Observer, admission: Admission, hosts: Hosts
) -> AsyncIterator[Listeners]:
    """Open the main listener and, with TLS, the plain one on loopback; both close at the end.

    `hosts` accepts the names of the certificate.

    Raises:
        ConfigurationError: the certificate, an address or a port cannot be used; the message names the setting.
    """
    loaded = live.loaded
    settings = loaded.settings
    server = settings.server
    tls: Tls | None = None
    if server.tls.enabled:
        tls = await asyncio.to_thread(Tls, server.tls, settings.data.dir / "tls", certified_hosts(server))
        adopt(tls, hosts, observer)
    async with _running(application, live, admission, observer) as listeners:
        context = tls.context if tls is not None else None
        port = await listeners.open(server.host, server.port, context, _MAIN)
        url = f"{'https' if tls is not None else 'http'}://{in_url(server.host)}:{port}"
        plain_url = await _open_plain(listeners, loaded, observer) if tls is not None else None
        urls = page_urls(settings, port, plain_url)
        names = [(found, urlsplit(found).hostname or "") for found in urls]
        exposed = [found for found, name in names if not (is_loopback(name) or name.endswith(".localhost"))]
        observer.emit(ListenersOpened(tuple(urls), tuple(exposed), server.auth))
        yield Listeners(url, plain_url, urls, exposed, tls)


@contextlib.asynccontextmanager
async def exporting(
    application: web.Application, live: LiveSettings, observer: Observer, admission: Admission
) -> AsyncIterator[str]:
    """Open the listener for Prometheus, until the block is left; gives its URL.

    Raises:
        ConfigurationError: the port cannot be used; the message names the setting.
    """
    metrics = live.current.metrics
    async with _running(application, live, admission, observer) as listeners:
        port = await listeners.open(metrics.host, metrics.port, None, _METRICS)
        yield f"http://{in_url(metrics.host)}:{port}"


def certified_hosts(server: ServerSettings) -> list[str]:
    """The names in the certificate, besides those of this machine: addresses and accepted hosts."""
    public = urlsplit(server.public_url).hostname if server.public_url is not None else None
    return [server.host, *((public,) if public else ()), *server.allowed_hosts]


def adopt(tls: Tls, hosts: Hosts, observer: Observer) -> None:
    """Accept the host names of the certificate in use, and report it."""
    certificate = tls.certificate
    observer.emit(CertificateLoaded(certificate.not_after, certificate.self_signed))
    # A self-signed one may be older than the settings, with names that they no longer have.
    for name in hosts.certify(() if certificate.self_signed else certificate.names):
        reason = f"the certificate's {name} is a wildcard; add yours to server.allowed_hosts or server.public_url"
        observer.emit(SettingIgnored("server.tls.cert", reason))


class _Setting(NamedTuple):
    """The settings of an address and a port, for error messages."""

    host: str
    port: str


_MAIN: Final = _Setting("server.host (PA_SERVER_HOST, --host)", "server.port (PA_SERVER_PORT, --port)")
_PLAIN: Final = _Setting("", "server.plain_port (PA_SERVER_PLAIN_PORT; off switches it off)")
_METRICS: Final = _Setting("metrics.host (PA_METRICS_HOST)", "metrics.port (PA_METRICS_PORT, --metrics-port)")


@dataclass(frozen=True)
class _OpenListeners:
    server: web.Server
    settings: CurrentSettings
    admission: Admission
    observer: Observer
    stack: AsyncExitStack

    async def open(self, host: str, port: int, context: ssl.SSLContext | None, setting: _Setting) -> int:
        """Open one listener; returns its port.

        Raises:
            ConfigurationError: the address or the port cannot be used; the message names the setting.
        """
        try:
            sockets = await bind(host, port)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                raise ConfigurationError(
                    f"{host} is not an address of this machine. Choose another: {setting.host}."
                ) from error
            if error.errno == errno.EADDRINUSE:
                reason = f"it is taken by {await asyncio.to_thread(_holder, host, port)}"
            elif error.errno == errno.EACCES:
                reason = "this user may not use it"
            else:
                reason = error.strerror or str(error)
            raise ConfigurationError(
                f"Port {port} on {host} cannot be used: {reason}. Choose another: {setting.port}."
            ) from error
        acceptor = Acceptor(
            self.server,
            context,
            self.admission,
            lambda: self.settings.current.websocket.write_timeout + _PATIENCE_SECONDS,
            self.observer,
        )
        await self.stack.enter_async_context(acceptor.serving(sockets))
        return int(sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def _running(
    application: web.Application, settings: CurrentSettings, admission: Admission, observer: Observer
) -> AsyncIterator[_OpenListeners]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    assert runner.server is not None
    try:
        async with AsyncExitStack() as stack:
            yield _OpenListeners(runner.server, settings, admission, observer, stack)
    finally:
        await runner.cleanup()


async def _open_plain(listeners: _OpenListeners, loaded: LoadedSettings, observer: Observer) -> str | None:
    """The plain listener, for a local browser without certificate warnings.

    When its port is taken and was not configured, the server runs without it.
    """
    port = loaded.settings.server.plain_port
    if port is None:
        return None
    try:
        return f"http://127.0.0.1:{await listeners.open('127.0.0.1', port, None, _PLAIN)}"
    except ConfigurationError as error:
        if loaded.sources["server.plain_port"] != "default":
            raise
        observer.emit(SettingIgnored("server.plain_port", error.message))
        return None


def _holder(host: str, port: int) -> str:
    """Name the process that listens on a port, as far as this user may see it."""
    try:
        found = [
            one
            for one in psutil.net_connections(kind="tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and _takes(one.laddr, host, port)
        ]
    except psutil.AccessDenied:  # macOS shows the sockets only to root
        return "another program"
    for pid in {one.pid for one in found if one.pid is not None}:
        with contextlib.suppress(psutil.NoSuchProcess):
            name = "".join(char if char.isprintable() else "?" for char in psutil.Process(pid).name())
            return f"{name} (process {pid})"
    return "a process of another user" if found else "another program"


def _takes(address: tuple[str, int], host: str, port: int) -> bool:
    """Whether a socket at an address blocks a port; a host name may have any address."""
    if address[1] != port:
        return False
    try:
        addresses = {ipaddress.ip_address(host), ipaddress.ip_address(address[0])}
    except ValueError:
        return True
    return len(addresses) == 1 or any(found.is_unspecified for found in addresses)
