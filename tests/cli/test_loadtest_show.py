"""pocket_agent.cli.loadtest: what people see while a load test runs and when it is over."""

import asyncio
import dataclasses
import io
import signal

from rich.console import Console

from pocket_agent.cli.loadtest.launch import exit_status
from pocket_agent.cli.loadtest.progress import Progress
from pocket_agent.cli.loadtest.summary import render
from pocket_agent.client import Client
from pocket_agent.errors import RateLimitedError
from pocket_agent.load.driver import Driver
from pocket_agent.load.plan import Kind, Limits, Plan
from pocket_agent.load.report import Report
from tests.harness.follow import eventually
from tests.load.sample import SERVER, report_of, tally_of


def shown(report: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(render(report))
    return out.getvalue()


def test_a_report_for_people() -> None:
    text = shown(report_of(tally_of([0.01] * 200, failed=10, unopened=1), Limits(p95_ms=20)))
    assert "1 of 5 opened, 1 failed" in text
    assert "RATE_LIMITED" in text
    assert "FAILED  failed requests 5 %, at most 1 %" in text
    assert "ok      p95" in text
    assert "bottleneck" not in text


def test_a_generator_that_was_the_bottleneck_says_so() -> None:
    assert "It was the bottleneck" in shown(report_of(tally_of([0.01] * 20), cpu_ratio=0.99))


def test_what_a_server_says_does_not_reach_the_terminal_raw() -> None:
    tally = tally_of([0.01])
    tally.fault(Kind.LIST, RateLimitedError("\x1b[2Jgone [red]markup[/red]"))
    text = shown(report_of(tally))
    assert "\x1b" not in text
    assert "[red]markup[/red]" in text


def test_a_server_that_was_started_again_is_told() -> None:
    report = report_of(tally_of([0.01]))
    again = dataclasses.replace(report, server=dataclasses.replace(SERVER, restarted=True))
    assert "started again" in shown(again)
    assert "started again" not in shown(report)


def test_exit_statuses() -> None:
    report = report_of(tally_of([0.01]))
    assert exit_status(report) == 0
    assert exit_status(report_of(tally_of([0.01], failed=1))) == 1
    assert exit_status(report_of(tally_of([]))) == 2
    assert exit_status(dataclasses.replace(report, interrupted=True)) == 128 + signal.SIGINT


async def progress_of(console: Console, out: io.StringIO) -> str:
    driver = Driver(Plan(), "ws://x", lambda **options: Client("ws://x", **options), None)
    driver.tally.scheduled = 42
    task = asyncio.create_task(Progress(driver, Plan(), console).run())
    await eventually(lambda: "42 requests" in out.getvalue(), "the progress is shown")
    task.cancel()
    await asyncio.wait({task})
    return out.getvalue()


async def test_progress_on_a_terminal_stays_on_one_line() -> None:
    out = io.StringIO()
    assert "\x1b[" in await progress_of(Console(file=out, force_terminal=True, width=150), out)


async def test_progress_elsewhere_is_plain_text() -> None:
    out = io.StringIO()
    text = await progress_of(Console(file=out), out)
    assert "\x1b" not in text
    assert text.startswith("0 of 30 s · 0 of 10 connections · 42 requests")
