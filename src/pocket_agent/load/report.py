"""What a load test found, as values that people and programs can be shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from pocket_agent.load.histogram import Histogram
from pocket_agent.load.plan import Kind, Limits, Mix, Plan
from pocket_agent.load.tally import Tally
from pocket_agent.protocol.push import ServerStatsData

_BUSY_CPU_RATIO: Final = 0.9
_LATE_SECONDS: Final = 0.01
_LATE_SHARE: Final = 0.25
"""The generator is the bottleneck when it was as late as this, and that is so much of the latency."""


@dataclass(frozen=True)
class Times:
    """A distribution of times, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Connections:
    """What became of the connections; `failures` counts those that could not be opened, by code."""

    wanted: int
    opened: int
    failed: int
    failures: Mapping[str, int]
    reconnects: int
    connecting: Times | None


@dataclass(frozen=True)
class KindFigures:
    """The requests of one kind; a failed one has a latency too, the time until it failed."""

    requests: int
    failed: int
    latency: Times | None


@dataclass(frozen=True)
class Requests:
    """What became of the requests.

    Attributes:
        scheduled: how many were due.
        answered: how many had an answer that is no error.
        failed: how many had an error, or no answer, or could not be sent; `errors` counts them by code.
        unfinished: how many were under way when the test was interrupted.
        error_ratio: failed of those that came to an end.
        latency: from when a request was due to its end, of all kinds.
    """

    scheduled: int
    answered: int
    failed: int
    unfinished: int
    error_ratio: float
    per_second: float
    latency: Times | None
    kinds: Mapping[Kind, KindFigures]
    errors: Mapping[str, int]


@dataclass(frozen=True)
class Messages:
    """What the server sent, errors left out: replies, and pushes that came besides."""

    received: int
    replies: int
    pushes: int
    per_second: float
    bytes: int


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did: how late it sent, how late its event loop was, the cores that it used."""

    sent_late: Times | None
    lag: Times | None
    cpu_ratio: float
    bottleneck: bool


@dataclass(frozen=True)
class ServerSide:
    """The server's own figures before and after.

    Attributes:
        stats_before, stats_after: `server_stats`; None when it could not be had any more.
        restarted: whether the server was started again meanwhile, so that its counters began anew.
        metrics: each series of /metrics that changed, with its value before and after; None without /metrics.
        notes: what could not be read, and why.
    """

    stats_before: ServerStatsData
    stats_after: ServerStatsData | None
    restarted: bool
    metrics: Mapping[str, tuple[float, float]] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """One limit, and what was measured."""

    name: str
    limit: float
    measured: float
    passed: bool


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        duration_seconds: how long requests were sent.
        mix: what was sent, as weights.
        withdrawn: prompts that still waited in a queue at the end and were withdrawn.
        said: what the first error of each code said.
        interrupted: whether somebody ended the test before its time.
        passed: whether every limit was kept.
    """

    url: str
    started: str
    duration_seconds: float
    interrupted: bool
    mix: Mix
    connections: Connections
    requests: Requests
    messages: Messages
    withdrawn: int
    said: Mapping[str, str]
    generator: Generator
    server: ServerSide
    verdicts: tuple[Verdict, ...]
    passed: bool


@dataclass(frozen=True)
class Run:
    """What is known besides the tally when a test is over."""

    url: str
    started: str
    seconds: float
    cpu_ratio: float
    lag: Histogram
    interrupted: bool
    mix: Mix
    withdrawn: int
    server: ServerSide


def times(histogram: Histogram) -> Times | None:
    """The distribution; None when nothing was recorded."""
    if histogram.count == 0:
        return None
    p50, p95, p99 = (_ms(histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return Times(histogram.count, p50, p95, p99, _ms(histogram.max))


def make_report(plan: Plan, tally: Tally, run: Run) -> Report:
    """The report of a test that is over."""
    connections, requests = _connections(plan, tally), _requests(tally, run)
    received = requests.answered + tally.pushes
    messages = Messages(received, requests.answered, tally.pushes, _rate(received, run.seconds), tally.received_bytes)
    verdicts = judge(plan.limits, connections, requests)
    return Report(
        run.url,
        run.started,
        round(run.seconds, 3),
        run.interrupted,
        run.mix,
        connections,
        requests,
        messages,
        run.withdrawn,
        tally.said,
        _generator(tally, run),
        run.server,
        verdicts,
        all(verdict.passed for verdict in verdicts),
    )


def judge(limits: Limits, connections: Connections, requests: Requests) -> tuple[Verdict, ...]:
    """What was measured against each limit; without requests there is no latency to judge."""
    measured: list[tuple[str, float | None, float]] = [
        ("error_ratio", limits.error_ratio, requests.error_ratio),
        ("connection_failure_ratio", limits.error_ratio, _ratio(connections.failed, connections.opened)),
    ]
    if requests.latency is not None:
        measured.append(("p95_ms", limits.p95_ms, requests.latency.p95_ms))
        measured.append(("p99_ms", limits.p99_ms, requests.latency.p99_ms))
    return tuple(Verdict(name, limit, value, value <= limit) for name, limit, value in measured if limit is not None)


def render_json(report: Report) -> str:
    """The report for programs."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def _connections(plan: Plan, tally: Tally) -> Connections:
    failed = tally.unopened.total()
    return Connections(
        plan.connections, tally.opened, failed, tally.unopened, tally.reconnects, times(tally.connecting)
    )


def _requests(tally: Tally, run: Run) -> Requests:
    whole = Histogram.merged(tally.latency.values())
    failed, answered = tally.failed.total(), tally.answered.total()
    kinds = {
        kind: KindFigures(tally.answered[kind] + tally.failed[kind], tally.failed[kind], times(tally.latency[kind]))
        for kind in run.mix
    }
    return Requests(
        tally.scheduled,
        answered,
        failed,
        tally.scheduled - answered - failed,
        _ratio(failed, answered),
        _rate(answered, run.seconds),
        times(whole),
        kinds,
        tally.errors,
    )


def _generator(tally: Tally, run: Run) -> Generator:
    late = max(run.lag.quantile(0.95), tally.sent_late.quantile(0.95))
    latency = Histogram.merged(tally.latency.values()).quantile(0.95)
    bottleneck = run.cpu_ratio > _BUSY_CPU_RATIO or (late > _LATE_SECONDS and late > _LATE_SHARE * latency)
    return Generator(times(tally.sent_late), times(run.lag), run.cpu_ratio, bottleneck)


def _ratio(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0


def _rate(amount: float, seconds: float) -> float:
    return round(amount / seconds, 3) if seconds > 0 else 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
