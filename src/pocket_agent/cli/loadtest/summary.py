"""The report of a load test for people."""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pocket_agent.cli.chat.plain import one_line
from pocket_agent.load.report import Generator, Report, ServerSide, Times, Verdict
from pocket_agent.observability import catalogue

_SHOWN: Final = (
    catalogue.REQUESTS_TOTAL,
    catalogue.ERRORS_TOTAL,
    catalogue.CONNECTIONS_REJECTED,
    catalogue.DISCONNECTS,
    catalogue.SLOW_CONSUMER,
)
"""The metrics whose changes people are shown; the JSON has all."""
_SHOWN_NAMES: Final = (
    *(metric.name for metric in _SHOWN),
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
)
_LINE: Final = 160
_VERDICTS: Final = {
    "error_ratio": ("failed requests", 100.0, "%"),
    "connection_failure_ratio": ("failed connections", 100.0, "%"),
    "p95_ms": ("p95", 1.0, "ms"),
    "p99_ms": ("p99", 1.0, "ms"),
}
"""What each verdict is about, and the factor and the unit in which it is told."""


def render(report: Report) -> RenderableType:
    """The whole report."""
    cut = ", interrupted" if report.interrupted else ""
    parts: list[RenderableType] = [
        Text(f"\nLoad test of {one_line(report.url, _LINE)}, {report.duration_seconds:.1f} s{cut}", style="bold"),
        _connections(report),
        _requests(report),
    ]
    if report.requests.failed or report.connections.failed:
        parts.append(_faults(report))
    parts += [_messages(report), _generator(report.generator), _server(report.server)]
    parts += [_verdict(verdict) for verdict in report.verdicts]
    return Group(*parts)


def _connections(report: Report) -> Text:
    found = report.connections
    took = f", opened within {found.connecting.p95_ms:.1f} ms (p95)" if found.connecting is not None else ""
    return Text(
        f"Connections: {found.opened} of {found.wanted} opened, {found.failed} failed, "
        f"{found.reconnects} reconnects{took}"
    )


def _requests(report: Report) -> RenderableType:
    found = report.requests
    table = _table("Requests", "number", "failed", "p50 ms", "p95 ms", "p99 ms", "max ms")
    for kind, figures in found.kinds.items():
        table.add_row(kind, f"{figures.requests:,}", f"{figures.failed:,}", *_times(figures.latency))
    if len(found.kinds) > 1:
        number = found.answered + found.failed
        table.add_row("all", f"{number:,}", f"{found.failed:,}", *_times(found.latency), style="bold")
    lines = [f"Answered: {found.per_second:,.1f} a second"]
    if found.unfinished:
        lines.append(f"Under way when it was interrupted: {found.unfinished}")
    if report.withdrawn:
        lines.append(f"Prompts that still waited were withdrawn: {report.withdrawn}")
    return Group(table, *(Text(line) for line in lines))


def _faults(report: Report) -> Table:
    table = _table("Errors", "requests", "connections")
    table.add_column("the first said", overflow="fold")
    for code in sorted(report.said):
        requests, connections = report.requests.errors.get(code, 0), report.connections.failures.get(code, 0)
        table.add_row(code, f"{requests:,}", f"{connections:,}", Text(one_line(report.said[code], _LINE)))
    return table


def _messages(report: Report) -> Text:
    found = report.messages
    return Text(
        f"Messages: {found.received:,} received ({found.per_second:,.1f} a second, {found.bytes / 1000:,.0f} kB), "
        f"{found.pushes:,} of them pushes"
    )


def _generator(found: Generator) -> Text:
    late = f"sent {found.sent_late.p95_ms:.1f} ms late (p95), " if found.sent_late is not None else ""
    lag = f"event loop {found.lag.p95_ms:.1f} ms late (p95), " if found.lag is not None else ""
    text = f"Load generator: {late}{lag}{found.cpu_ratio:.0%} of a core"
    if not found.bottleneck:
        return Text(text)
    warning = "It was the bottleneck: the latencies are its own in part. Use a lower rate, or several processes."
    return Text(f"{text}\n{warning}", style="yellow")


def _server(found: ServerSide) -> RenderableType:
    notes = [*found.notes]
    if found.restarted:
        notes.append("The server was started again during the test, so its counters began anew.")
    table = _table("The server itself", "before", "after", "change")
    before, after = found.stats_before, found.stats_after
    if after is not None and not found.restarted:
        _add(table, "messages received", before.messages.received, after.messages.received)
        _add(table, "messages sent", before.messages.sent, after.messages.sent)
        _add(table, "executions", before.executions.total, after.executions.total)
        _add(table, "executions that failed", before.executions.failed, after.executions.failed)
        _add(table, "cost of today (USD)", before.cost.today_usd, after.cost.today_usd)
    for series, (first, last) in sorted((found.metrics or {}).items()):
        if series.partition("{")[0] in _SHOWN_NAMES:
            _add(table, one_line(series.removeprefix(catalogue.PREFIX), _LINE), first, last)
    return Group(table, *(Text(one_line(note, _LINE), style="yellow") for note in notes))


def _verdict(verdict: Verdict) -> Text:
    name, factor, unit = _VERDICTS[verdict.name]
    text = f"{name} {verdict.measured * factor:.4g} {unit}, at most {verdict.limit * factor:.4g} {unit}"
    return Text(f"ok      {text}", style="green") if verdict.passed else Text(f"FAILED  {text}", style="bold red")


def _add(table: Table, name: str, before: float, after: float) -> None:
    table.add_row(Text(name), _number(before), _number(after), _number(after - before))


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"


def _table(title: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _times(found: Times | None) -> tuple[str, str, str, str]:
    if found is None:
        return "-", "-", "-", "-"
    return f"{found.p50_ms:.1f}", f"{found.p95_ms:.1f}", f"{found.p99_ms:.1f}", f"{found.max_ms:.1f}"
