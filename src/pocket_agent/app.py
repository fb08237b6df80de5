"""Constructs all packages, starts them in order and stops them in order.

Start: settings, data directory, store, scripted model (demo), projects with their agents, listeners.
Stop: new work is refused, connections are closed with 1001, idle agents are ended, sessions release busy ones (which
continue), the listeners close, spans are exported, the store is closed last. Each step has a limit.
"""

import asyncio
import contextlib
import gc
import os
import signal
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from pocket_agent import __version__
from pocket_agent.audit import AuditLog, AuditObserver, FileAuditLog, audit_path
from pocket_agent.claude.command_line import build_environment, select_environment
from pocket_agent.claude.confinement import Confinement, raise_open_files
from pocket_agent.claude.installation import Installer
from pocket_agent.claude.spool import SpoolWatcher
from pocket_agent.claude.transcripts import Transcripts, configuration_directory
from pocket_agent.conversation.agent import AgentContext
from pocket_agent.demo.demo_process import child_environment, ensure_running
from pocket_agent.errors import ConfigurationError, PocketAgentError
from pocket_agent.events import MetricsServed, Observer, ServerStarted, ServerStopped, ServerStopping, SettingIgnored
from pocket_agent.hub import Hub
from pocket_agent.ledger import audited, note_changes, note_first, remember_settings
from pocket_agent.notification import Notifier
from pocket_agent.observability import Log, Losses, Observability, open_log
from pocket_agent.observability.exposition import Exposition, ScrapeToken, application, scrape_token
from pocket_agent.policy import examine_confinement
from pocket_agent.projects import Projects
from pocket_agent.reload import Parts, Reloader
from pocket_agent.server.auth import new_device
from pocket_agent.server.guard import Guard, Hosts
from pocket_agent.server.http import Endpoint
from pocket_agent.server.limits import Admission
from pocket_agent.server.listener import Listeners, exporting, listening
from pocket_agent.server.pairing import new_pairing
from pocket_agent.settings import CurrentSettings, LiveSettings, LoadedSettings, Settings, connections_for
from pocket_agent.storage import Store
from pocket_agent.storage.database import database_path
from pocket_agent.supervision import supervise

_DEMO_SECONDS: Final = 60.0  # the interval of checks of the scripted model
_EXPORT_SECONDS: Final = 3.0  # the limit for exporting the last spans when the server stops


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready, for the user who started it."""

    listeners: Listeners
    settings: Settings
    token: str | None  # the first device's, at the first start only
    pairing_urls: tuple[str, ...]  # pair one device, at the first start only; the best for another device first


async def serve(
    loaded: LoadedSettings,
    environment: Mapping[str, str],
    *,
    candidates: tuple[Path, ...] = (),
    umask: int = -1,
    on_started: Callable[[Started], None],
    read_settings: Callable[[], LoadedSettings],
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Args:
        loaded: all settings and their sources.
        environment: the server's own environment, from which that of the CLI is selected.
        candidates: paths of `claude` to try when it is neither set nor on PATH.
        umask: of the files of agents; -1 for the server's own, which makes files private.
        on_started: called when clients can connect.
        read_settings: reads the settings again, on SIGHUP.

    Raises:
        ConfigurationError: a setting cannot be used; the message names it.
        FileOperationError: the data directory cannot be used, or another server uses it.
    """
    files = raise_open_files()
    start_worker_threads()
    losses = Losses()
    live = LiveSettings(loaded)
    with open_log(loaded.settings.logging, losses, environment) as log:
        notifier = Notifier(live, partial(losses.add, "notifications"))
        trail = FileAuditLog(audit_path(loaded.settings.data.dir)) if loaded.settings.audit.enabled else None
        others: list[Observer] = [notifier, *([AuditObserver(trail)] if trail is not None else [])]
        observed = Observability(live, environment, losses, log, others)
        most = connections_for(loaded.settings, files)
        if most < loaded.settings.limits.max_connections:
            reason = f"at most {files} files may be open (ulimit -n, LimitNOFILE), which leaves {most} connections"
            observed.observer.emit(SettingIgnored("limits.max_connections", reason))
        await _serve(live, environment, observed, log, notifier, trail, candidates, umask, on_started, read_settings)


async def _serve(
    live: LiveSettings,
    environment: Mapping[str, str],
    observed: Observability,
    log: Log,
    notifier: Notifier,
    trail: FileAuditLog | None,
    candidates: tuple[Path, ...],
    umask: int,
    on_started: Callable[[Started], None],
    read_settings: Callable[[], LoadedSettings],
) -> None:
    settings = live.current
    observer = observed.observer
    _make_private(settings.data.dir)
    stop, reload = asyncio.Event(), asyncio.Event()
    _on_signals(stop, reload)
    store = Store.open(
        database_path(settings.data.dir), synchronous=settings.storage.synchronous, durations=observed.commits
    )
    try:
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(observed.traces.exporting(observer, min(_EXPORT_SECONDS, settings.timeouts.shutdown)))
            await enter(audited(trail, store, live.loaded, observer))
            first = await _first_device(store, settings, trail or AuditLog())
            child = await _child_environment(settings, environment)
            if settings.demo:
                restart_model = partial(_restart_model, _demo_dir(settings), observer)
                await enter(_background(observer, {"demo model": restart_model}))
            watcher = stack.enter_context(contextlib.closing(SpoolWatcher()))
            installer = Installer(settings.claude.binary, candidates, build_environment(child, {}))
            transcripts = stack.enter_context(_transcripts(child, settings))
            context = AgentContext(
                live,
                installer,
                settings.data.dir / "spool",
                watcher,
                child,
                observer,
                observed.traces.propagator,
                umask,
                await _confinement(live.loaded, environment, observer),
                transcripts,
            )
            hub = Hub(observed.broadcasts)
            projects = Projects(store, hub, context, live, observer)
            observed.attach(hub, projects, store, installer, confined=not context.confinement.reason)
            endpoint = Endpoint(store, hub, projects, observed.report, live, observer, trail or AuditLog(), transcripts)
            await enter(projects.running())
            renew_scraped = await enter(_exporting(observed.exposition, live, observer))
            listeners = await enter(
                listening(endpoint.application(), live, observer, endpoint.admission, endpoint.hosts)
            )
            parts = Parts(
                log,
                notifier,
                listeners.tls,
                endpoint.hosts,
                (endpoint.renew, projects.renew, renew_scraped),
                partial(note_changes, trail),
                partial(remember_settings, store, live),
            )
            notify = partial(notifier.run, projects, endpoint.is_watched, listeners.page_urls[0], observer)
            loops: dict[str, Callable[[], Awaitable[None]]] = {
                "keep-alive": endpoint.keep_alive,
                "push": endpoint.push_statistics,
                "devices": endpoint.watch_devices,
                "terminal approvals": partial(endpoint.terminal_approvals.listen, settings.data.dir),
                **observed.loops(),
                "notifier": notify,
                "reload": partial(Reloader(live, read_settings, parts, observer).run, reload),
            }
            await enter(_background(observer, loops))
            await observed.report.unready()  # the first health checks are complete when the log reports "server ready"
            gc.collect()
            gc.freeze()  # objects of the start mostly stay: later collections need not scan them
            on_started(_started(listeners, settings, first))
            observer.emit(ServerStarted(__version__, listeners.addresses, len(projects)))
            await stop.wait()
            observer.emit(ServerStopping("signal"))
            endpoint.refuse_new_work()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(live.current.timeouts.shutdown):
                    await asyncio.gather(endpoint.close_all(), projects.close_idle())
            left = projects.capacity.executing
        observer.emit(ServerStopped(left))
    except BaseExceptionGroup as group:
        raise _only(group) from group
    finally:
        await store.close()


def _started(listeners: Listeners, settings: Settings, first: "_First | None") -> Started:
    if first is None:
        return Started(listeners, settings, None, ())
    return Started(listeners, settings, first.token, tuple(f"{url}/pair#{first.code}" for url in listeners.page_urls))


@contextlib.contextmanager
def _transcripts(environment: Mapping[str, str], settings: Settings) -> Iterator[Transcripts]:
    """The sessions that a CLI with this environment keeps."""
    directory = configuration_directory({**environment, **settings.claude.environment})
    with contextlib.closing(Transcripts(directory, settings.claude.max_line)) as transcripts:
        yield transcripts


@contextlib.asynccontextmanager
async def _exporting(
    exposition: Exposition, live: LiveSettings, observer: Observer
) -> AsyncIterator[Callable[[], None]]:
    """Serve the metrics, if they are enabled, until the block is left; yields what applies changed settings."""
    if not live.current.metrics.enabled:
        yield lambda: None
        return
    token = scrape_token(live.current)
    served = application(exposition, token.text if token is not None else None)
    admission = Admission(live)
    guard = Guard(live, _scraped_hosts(live, token), admission, observer)
    guard.add_to(served)
    async with exporting(served, live, observer, admission) as url:
        observer.emit(MetricsServed(f"{url}/metrics", str(token.file) if token is not None else None))
        yield guard.renew


def _scraped_hosts(settings: CurrentSettings, token: ScrapeToken | None) -> Hosts | None:
    """The accepted hosts of the metrics: any with a token, which a page of DNS rebinding does not have."""
    return Hosts(settings, auth=False) if token is None else None


def start_worker_threads() -> None:
    """Give the running loop an executor whose threads have all started.

    `Thread.start` waits until the new thread runs, for ever when memory is exhausted, and `asyncio.to_thread` would
    start threads from the event loop.
    """
    workers = min(32, (os.cpu_count() or 1) + 4)  # as many as Python's own default executor
    executor = ThreadPoolExecutor(workers, "worker")
    started = threading.Barrier(workers + 1)
    for _ in range(workers):
        executor.submit(started.wait)
    started.wait()
    asyncio.get_running_loop().set_default_executor(executor)


def _only(error: BaseException) -> BaseException:
    """The error in a group of one: a task group also wraps exceptions of its block, such as a taken port."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode
        # A directory made by a user or a package: other users could read new files in it.
        if mode & 0o077 and directory.stat().st_uid == os.geteuid():
            directory.chmod(stat.S_IMODE(mode) & 0o700)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {directory} (data.dir) cannot be used: {error.strerror}."
        ) from error


def _on_signals(stop: asyncio.Event, reload: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)


class _First(NamedTuple):
    token: str
    code: str


async def _first_device(store: Store, settings: Settings, trail: AuditLog) -> _First | None:
    """Make the first device's token and a pairing code, once; the store has only their hashes."""
    if not settings.server.auth or await store.devices():
        return None
    device, token = new_device("first")
    pairing, code = new_pairing()
    await store.add_device(device)
    await store.add_pairing(pairing)
    note_first(trail, device)
    return _First(token, code)


async def _child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the agents; for the demo, one with only the scripted model."""
    if not settings.demo:
        return select_environment(environment, settings.claude.inherit)
    directory = _demo_dir(settings)
    model = await ensure_running(directory)
    home = directory / "home"
    _make_private(home)
    kept = {name: environment[name] for name in ("PATH", "LANG", "LC_ALL", "TERM", "TMPDIR") if name in environment}
    return {**kept, **child_environment(model.base_url, home)}


async def _confinement(loaded: LoadedSettings, environment: Mapping[str, str], observer: Observer) -> Confinement:
    """Check once how agents are confined; raises ConfigurationError when the configured way does not work here."""
    settings = loaded.settings
    found = await asyncio.to_thread(examine_confinement, loaded, environment)
    if found.reason and settings.claude.confinement is not None:
        raise ConfigurationError(f"claude.confinement: {settings.claude.confinement} is not possible: {found.reason}")
    if found.reason:
        observer.emit(SettingIgnored("claude.confinement", f"Agents are not confined: {found.reason}"))
    return found


def _demo_dir(settings: Settings) -> Path:
    return settings.data.dir / "demo"


@contextlib.asynccontextmanager
async def _background(observer: Observer, loops: Mapping[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Run supervised loops until the block is left; the keys are their names in the log."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(supervise(name, loop, observer)) for name, loop in loops.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _restart_model(directory: Path, observer: Observer) -> None:
    while True:
        await asyncio.sleep(_DEMO_SECONDS)
        try:
            await ensure_running(directory)
        except PocketAgentError as error:
            observer.emit(SettingIgnored("demo", error.message))
