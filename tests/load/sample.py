"""Reports of load tests, made of counts."""

from collections.abc import Sequence
from typing import Final

from pocket_agent.client import UnreachableError
from pocket_agent.errors import RateLimitedError
from pocket_agent.load.histogram import Histogram
from pocket_agent.load.plan import Kind, Limits, Plan
from pocket_agent.load.report import Report, Run, ServerSide, make_report
from pocket_agent.load.tally import Tally
from pocket_agent.protocol.push import (
    ConnectionFigures,
    CostFigures,
    ExecutionFigures,
    MessageFigures,
    ProjectFigures,
    ServerStatsData,
)

STATS: Final = ServerStatsData(
    connections=ConnectionFigures(active=1, limit=100),
    projects=ProjectFigures(count=0, limit=100, executing=0),
    executions=ExecutionFigures(active=0, total=0, success=0, failed=0, avg_duration_ms=0),
    messages=MessageFigures(sent=1, received=1, rate_per_sec=0),
    uptime=10,
    cost=CostFigures(today_usd=0, limit_usd=0),
)
SERVER: Final = ServerSide(STATS, STATS, False, {"up": (0.0, 1.0)}, ())


def tally_of(latencies: Sequence[float], *, failed: int = 0, unopened: int = 0, late: float = 0.0001) -> Tally:
    """A tally of requests with these latencies in seconds, the first of which failed."""
    tally = Tally()
    tally.connected(0.001)
    for number, seconds in enumerate(latencies):
        tally.scheduled += 1
        tally.sent_late.record(late)
        tally.latency[Kind.LIST].record(seconds)
        if number < failed:
            tally.fault(Kind.LIST, RateLimitedError("slower"))
        else:
            tally.answered[Kind.LIST] += 1
    for _ in range(unopened):
        tally.unconnected(UnreachableError("nobody"))
    return tally


def report_of(tally: Tally, limits: Limits | None = None, *, lag: float = 0.0001, cpu_ratio: float = 0.1) -> Report:
    """The report of a test that came to this, without an end before its time."""
    lags = Histogram()
    lags.record(lag)
    plan = Plan(connections=5, limits=limits or Limits())
    return make_report(plan, tally, Run("ws://x", "now", 2.0, cpu_ratio, lags, False, {Kind.LIST: 1}, 0, SERVER))
