"""From flags and environment to a load test, and from its report to an exit status."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop
from rich.console import Console

from pocket_agent.cli.access import Access, find_access
from pocket_agent.cli.loadtest.progress import Progress
from pocket_agent.cli.loadtest.summary import render
from pocket_agent.client import Client
from pocket_agent.config import LoadedSettings, is_loopback
from pocket_agent.errors import ConfigurationError, FileOperationError
from pocket_agent.load.driver import Driver
from pocket_agent.load.plan import Plan
from pocket_agent.load.report import Report, render_json
from pocket_agent.load.scrape import Exporter
from pocket_agent.monitoring.target import target_of

_PASSED: Final = 0
_LIMIT_EXCEEDED: Final = 1
_NOT_RUN: Final = 2
_INTERRUPTED: Final = 128 + signal.SIGINT


@dataclass(frozen=True)
class Choices:
    """What was asked for on the command line.

    Attributes:
        plan: what to do.
        url: the server's WebSocket; None for PA_URL, or the server of the settings.
        token_file: where the token stands; None for PA_TOKEN, or this machine's own token.
        ca: the certificate to trust.
        metrics_url: the server's /metrics; None for that of the settings, if the server is theirs.
        remote: whether the server may be on another machine.
        json_file: where the report goes as JSON; `-` is standard output.
    """

    plan: Plan
    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    metrics_url: str | None = None
    remote: bool = False
    json_file: Path | None = None


def run_loadtest(choices: Choices, settings: Callable[[], LoadedSettings], environ: Mapping[str, str]) -> int:
    """Run the test and print the report.

    Returns:
        The exit status: 0, 1 when a limit was exceeded, 2 when nothing was sent, 130 after Ctrl-C.

    Raises:
        PocketAgentError: the test cannot be run as asked, or the server cannot be reached.
        TimeoutError: the server does not answer.
    """
    access = find_access(choices.url, choices.token_file, choices.ca, settings, environ)
    exporter = _exporter(choices, access)
    for url in (access.url, exporter.url if exporter is not None else None):
        if url is not None and not choices.remote and not is_loopback(urlsplit(url).hostname or ""):
            raise ConfigurationError(
                f"{url} is not on this machine. Give --remote if you may put a load on that server."
            )
    report = uvloop.run(_run(choices.plan, access, exporter))
    as_json = choices.json_file == Path("-")
    Console(stderr=as_json).print(render(report))
    if choices.json_file is not None:
        _write(render_json(report), None if as_json else choices.json_file)
    return exit_status(report)


def exit_status(report: Report) -> int:
    """What a script is told."""
    if report.interrupted:
        return _INTERRUPTED
    if report.requests.scheduled == 0:
        return _NOT_RUN
    return _PASSED if report.passed else _LIMIT_EXCEEDED


async def _run(plan: Plan, access: Access, exporter: Exporter | None) -> Report:
    connect = partial(Client, access.url, token=access.token, ssl=access.ca, name="loadtest")
    driver = Driver(plan, access.url, connect, exporter)
    with _stopped_by_interrupt(driver):
        progress = asyncio.create_task(Progress(driver, plan, Console(stderr=True)).run())
        try:
            return await driver.run()
        finally:
            progress.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await progress


@contextlib.contextmanager
def _stopped_by_interrupt(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C ends the test with a report, the second ends the program."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        driver.stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _exporter(choices: Choices, access: Access) -> Exporter | None:
    """Where the metrics are; those of the settings only belong to the server of the settings."""
    if choices.metrics_url is not None:
        return Exporter(choices.metrics_url)
    if access.local is None or not access.local.settings.metrics.enabled:
        return None
    watched = target_of(access.local.settings)
    token: str | None = None
    if watched.token_file is not None:
        with contextlib.suppress(OSError, UnicodeError):  # the report then says that the metrics refused
            token = watched.token_file.read_text("utf-8").strip()
    return Exporter(f"http://{watched.metrics}/metrics", token)


def _write(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text + "\n")
        return
    try:
        file.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise FileOperationError(f"The report cannot be written to {file}: {error.strerror}.") from error
