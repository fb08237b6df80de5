"""The only place that constructs: puts the rooms together, starts them in order and stops them in order.

Start: settings, data directory, store, scripted model (demo), projects with their agents, listeners.
Stop: new work is refused, clients are told 1001, idle agents are ended, sessions let go of those that
work (which run on), the listeners close, the store is closed last. Each step has a bound.
"""

import asyncio
import contextlib
import errno
import secrets
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from pocket_agent import __version__
from pocket_agent.claude.command import build_environment
from pocket_agent.claude.installation import Installer
from pocket_agent.claude.spool import SpoolWatcher
from pocket_agent.config import LoadedSettings, Settings
from pocket_agent.demo.process import child_environment, ensure_running
from pocket_agent.errors import ConfigurationError, PocketAgentError
from pocket_agent.events import (
    CertificateLoaded,
    Observer,
    ServerStarted,
    ServerStopped,
    ServerStopping,
    SettingIgnored,
)
from pocket_agent.hub import Hub
from pocket_agent.model import Device
from pocket_agent.observability import log, metric
from pocket_agent.observability.metric import CoreCollector, MetricObserver
from pocket_agent.observability.report import Fanout, Report, Tally
from pocket_agent.projects import Projects
from pocket_agent.server.auth import Authenticator, hash_token, new_token
from pocket_agent.server.handlers import Handlers
from pocket_agent.server.http import Endpoint
from pocket_agent.server.tls import Tls
from pocket_agent.session.agent import AgentContext
from pocket_agent.session.log import now
from pocket_agent.storage import Store
from pocket_agent.storage.location import database_path

_DEMO_SECONDS: Final = 60.0
"""How often the scripted model is looked after."""
_CLEANUP_SECONDS: Final = 2.0
"""How long requests that are under way when the server stops may take."""
_FIRST_DEVICE: Final = "first"


@dataclass(frozen=True, slots=True)
class Started:
    """What a person wants to know of a server that is ready.

    Attributes:
        url: the main address.
        plain_url: the plain address on loopback, if there is one.
        token: the first device's token, at the first start only.
        demo: whether agents talk to the scripted model.
        auth: whether connections need a token.
    """

    url: str
    plain_url: str | None
    token: str | None
    demo: bool
    auth: bool


async def serve(
    loaded: LoadedSettings,
    environment: Mapping[str, str],
    *,
    candidates: tuple[Path, ...] = (),
    on_started: Callable[[Started], None],
    read_settings: Callable[[], LoadedSettings],
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Args:
        loaded: all settings and where they came from.
        environment: the server's own environment, from which the CLI's is made.
        candidates: where to look for `claude` when it is neither set nor on PATH.
        on_started: called when clients can connect.
        read_settings: reads the settings again, on SIGHUP.

    Raises:
        ConfigurationError: something configured cannot be used; the message names it.
        FileOperationError: the data directory cannot be used, or another server uses it.
    """
    settings = loaded.settings
    log.configure(settings.logging)
    tally = Tally()
    metrics = MetricObserver()
    observer = Fanout([log.LogObserver(), metrics, tally])
    _make_private(settings.data.dir)
    stop, reload = asyncio.Event(), asyncio.Event()
    _on_signals(stop, reload)
    store = Store.open(database_path(settings.data.dir), synchronous=settings.storage.synchronous)
    try:
        async with contextlib.AsyncExitStack() as stack:
            token = await _first_device(store, settings)
            child = await _child_environment(settings, environment)
            if settings.demo:
                await stack.enter_async_context(_background(_look_after_model(_demo_dir(settings), observer)))
            watcher = SpoolWatcher()
            stack.callback(watcher.close)
            installer = Installer(settings.claude.binary, candidates, build_environment(child, {}))
            context = AgentContext(settings.claude, installer, settings.data.dir / "spool", watcher, child, observer)
            hub = Hub()
            projects = Projects(store, hub, context, settings, observer)
            report = Report(hub, store, installer, settings, tally, projects)
            handlers = Handlers(projects, store, hub, settings, report)
            authenticator = Authenticator(
                store, required=settings.server.auth, allowed_origins=settings.server.allowed_origins
            )
            endpoint = Endpoint(handlers, authenticator, report, hub, settings, observer)
            await stack.enter_async_context(projects.running())
            metrics.registry.register(CoreCollector(hub, projects))
            await stack.enter_async_context(_exporting(metrics, settings))
            listeners = await stack.enter_async_context(_listening(endpoint, loaded, observer))
            started = Started(listeners.url, listeners.plain_url, token, settings.demo, settings.server.auth)
            await stack.enter_async_context(
                _background(
                    endpoint.keep_alive(),
                    endpoint.push_stats(),
                    endpoint.watch_devices(),
                    _reload(reload, listeners.tls, read_settings, observer),
                )
            )
            addresses = tuple(url for url in (started.url, started.plain_url) if url is not None)
            on_started(started)
            observer.emit(ServerStarted(__version__, addresses, len(projects)))
            await stop.wait()
            observer.emit(ServerStopping("signal"))
            endpoint.refuse_new_work()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.timeouts.shutdown):
                    await asyncio.gather(endpoint.close_all(), projects.close_idle())
            left = projects.capacity.executing
        observer.emit(ServerStopped(left))
    except BaseExceptionGroup as group:
        raise _only(group) from group
    finally:
        await store.close()


def _only(error: BaseException) -> BaseException:
    """The error in a group of one: a task group wraps what its block raises as well, such as a taken port."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {directory} (data.dir) cannot be made: {error.strerror}."
        ) from error


def _on_signals(stop: asyncio.Event, reload: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)


async def _first_device(store: Store, settings: Settings) -> str | None:
    """Make the first device's token, once; only its hash is kept."""
    if not settings.server.auth or await store.devices():
        return None
    token = new_token()
    await store.add_device(
        Device(id=secrets.token_hex(8), name=_FIRST_DEVICE, token_hash=hash_token(token), created_at=now())
    )
    return token


async def _child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the agents; for the demo, one that leads to the scripted model alone."""
    if not settings.demo:
        return dict(environment)
    directory = _demo_dir(settings)
    model = await ensure_running(directory)
    home = directory / "home"
    _make_private(home)
    kept = {name: environment[name] for name in ("PATH", "LANG", "LC_ALL", "TERM", "TMPDIR") if name in environment}
    return {**kept, **child_environment(model.base_url, home)}


def _demo_dir(settings: Settings) -> Path:
    return settings.data.dir / "demo"


@contextlib.asynccontextmanager
async def _background(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run loops that never end by themselves until the block is left."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@dataclass(frozen=True, slots=True)
class _Listeners:
    url: str
    plain_url: str | None
    tls: Tls | None


@contextlib.asynccontextmanager
async def _listening(endpoint: Endpoint, loaded: LoadedSettings, observer: Observer) -> AsyncIterator[_Listeners]:
    """Open the main listener and, on loopback, the plain one."""
    settings = loaded.settings
    server = settings.server
    tls: Tls | None = None
    if server.tls.enabled:
        tls = Tls(server.tls, settings.data.dir / "tls", [server.host])
        _tell(tls, observer)
    runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    try:
        context = tls.context if tls is not None else None
        port = await _listen(runner, server.host, server.port, context, "server.port (PA_SERVER_PORT, --port)")
        host = f"[{server.host}]" if ":" in server.host else server.host
        url = f"{'https' if tls is not None else 'http'}://{host}:{port}"
        plain_url = await _listen_plain(runner, loaded, observer) if tls is not None else None
        yield _Listeners(url, plain_url, tls)
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _exporting(metrics: MetricObserver, settings: Settings) -> AsyncIterator[None]:
    """Open the listener for Prometheus."""
    if not settings.metrics.enabled:
        yield
        return
    runner = web.AppRunner(metric.application(metrics.registry), access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    try:
        setting = "metrics.port (PA_METRICS_PORT, --metrics-port)"
        await _listen(runner, settings.metrics.host, settings.metrics.port, None, setting)
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None, setting: str) -> int:
    """Open one listener; returns its port."""
    before = len(runner.addresses)
    try:
        await web.TCPSite(runner, host, port, ssl_context=context, backlog=1024).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "it is taken by another program"
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


def _tell(tls: Tls, observer: Observer) -> None:
    certificate = tls.certificate
    observer.emit(CertificateLoaded(certificate.not_after, certificate.self_signed))


async def _reload(
    asked: asyncio.Event, tls: Tls | None, read_settings: Callable[[], LoadedSettings], observer: Observer
) -> None:
    """On SIGHUP: read the certificate and the log settings again."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            log.configure(read_settings().settings.logging)
            if tls is not None:
                tls.reload()
                _tell(tls, observer)
        except ConfigurationError as error:
            observer.emit(SettingIgnored("reload", error.message))


async def _look_after_model(directory: Path, observer: Observer) -> None:
    """Start the scripted model again when it has ended."""
    while True:
        await asyncio.sleep(_DEMO_SECONDS)
        try:
            await ensure_running(directory)
        except PocketAgentError as error:
            observer.emit(SettingIgnored("demo", error.message))
