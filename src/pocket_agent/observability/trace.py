"""Traces: a span `claude.execute` for each execution, with what it spent its time on below it.

Nothing is kept of an execution that another server could miss: ids come from the execution's id, times
from the events. When tracing is off, none of this exists.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pocket_agent.config import Settings
from pocket_agent.events import Event, NoPropagator, Observer, Propagator, SettingIgnored
from pocket_agent.model import ExecutionContext
from pocket_agent.observability import sampling
from pocket_agent.observability.identity import Identify, TraceIdentity, untraced
from pocket_agent.observability.loss import Losses
from pocket_agent.observability.propagation import AgentTelemetry
from pocket_agent.observability.sampling import Sampler, remote_span, span_id
from pocket_agent.observability.span import COMMIT, ROOT, SPANS, Span
from pocket_agent.observability.telemetry import read_telemetry

if TYPE_CHECKING:
    from pocket_agent.observability.export import SpanExport

MAX_COMMITS: Final = 64
"""Commits of one execution that get a span each; all of them count in the figures of the execution's span."""
_REMEMBERED: Final = 4096
"""Executions whose ids and figures are kept at hand; without them, only figures are missing."""


@dataclass(slots=True)
class _Tally:
    """What the children of an execution's span add up to, as far as this server has seen them.

    Attributes:
        commits, commit_ns: how many there were, and how long they took together.
        first, last: the earliest start and the latest end of a child, in nanoseconds since the Unix epoch.
    """

    commits: int = 0
    commit_ns: int = 0
    first: int | None = None
    last: int | None = None

    def cover(self, span: Span) -> None:
        """Take note of a child."""
        self.first = span.start if self.first is None else min(self.first, span.start)
        self.last = span.end if self.last is None else max(self.last, span.end)

    def complete(self, span: Span) -> Span:
        """The execution's span around its children: its own times are whole milliseconds, and older than its end."""
        start = span.start if self.first is None else min(span.start, self.first)
        end = span.end if self.last is None else max(span.end, self.last)
        figures = {"storage.commits": self.commits, "storage.commit_seconds": self.commit_ns / 1e9}
        return span._replace(start=start, end=end, attributes={**span.attributes, **figures})


class Tracing:
    """Makes spans of events. It is an `Observer` of the core."""

    def __init__(self, sampler: Sampler, export: "SpanExport") -> None:
        self._export = export
        self._tallies: dict[str, _Tally] = {}

        @lru_cache(maxsize=_REMEMBERED)
        def identify(context: ExecutionContext) -> TraceIdentity:
            return sampling.identify(context, sampler)

        self._identify = identify

    def identify(self, context: ExecutionContext) -> TraceIdentity:
        """The span of an execution, the same one at each call and in each run of the server."""
        return self._identify(context)

    def emit(self, event: Event) -> None:
        """Export the event's spans, if it has some and its execution is sampled."""
        make = SPANS.get(type(event))
        context: ExecutionContext | None = getattr(event, "context", None)
        if make is None or context is None:
            return
        identity = self._identify(context)
        if not identity.sampled:
            return
        for span in make(event, time.time_ns()):
            self._take(context, identity, span)

    def _take(self, context: ExecutionContext, identity: TraceIdentity, span: Span) -> None:
        if span.name == ROOT:
            tally = self._tallies.pop(context.execution_id, None) or _Tally()
            parent = remote_span(context.traceparent)
            self._export.add(
                tally.complete(span),
                identity.trace_id,
                identity.span_id,
                parent.span_id if parent is not None else None,
                remote=True,
            )
            return
        tally = self._tally(context)
        tally.cover(span)
        if span.name == COMMIT:
            tally.commits += 1
            tally.commit_ns += span.end - span.start
            if tally.commits > MAX_COMMITS:
                return
        self._export.add(span, identity.trace_id, span_id(context, span.key), identity.span_id)

    def _tally(self, context: ExecutionContext) -> _Tally:
        tally = self._tallies.get(context.execution_id)
        if tally is None:
            if len(self._tallies) >= _REMEMBERED:
                del self._tallies[next(iter(self._tallies))]
            tally = self._tallies[context.execution_id] = _Tally()
        return tally

    def close(self, seconds: float) -> None:
        """Export what is left, for at most so many seconds."""
        self._export.close(seconds)


@dataclass(frozen=True, slots=True)
class Traces:
    """Tracing as the server uses it; on or off.

    Attributes:
        observers: who makes the spans; none when tracing is off.
        identify: the span of an execution.
        propagator: hands traces on to the agents.
        ignored: what was asked for and is not possible.
    """

    observers: tuple[Tracing, ...]
    identify: Identify
    propagator: Propagator
    ignored: tuple[SettingIgnored, ...]

    @contextlib.asynccontextmanager
    async def exporting(self, observer: Observer, seconds: float) -> AsyncIterator[None]:
        """Export until the block is left, and then what is left for at most so many seconds.

        Args:
            observer: is told what was ignored.
            seconds: the bound of the end.
        """
        for ignored in self.ignored:
            observer.emit(ignored)
        try:
            yield
        finally:
            for tracing in self.observers:
                await asyncio.to_thread(tracing.close, seconds)


def open_traces(settings: Settings, environment: Mapping[str, str], losses: Losses) -> Traces:
    """Begin to trace, if that is asked for.

    Args:
        settings: where `traces` and `claude.environment` count.
        environment: the server's own, with the standard `OTEL_*` variables.
        losses: where lost spans are counted.
    """
    telemetry = read_telemetry(settings, environment)
    options, ignored = telemetry.traces, telemetry.ignored
    if options is None:
        return Traces((), untraced, NoPropagator(), ignored)
    try:
        from pocket_agent.observability.export import SpanExport  # noqa: PLC0415 - who does not trace need not load it
    except ValueError as error:  # the SDK reads some of its variables as it is loaded
        return Traces((), untraced, NoPropagator(), (*ignored, SettingIgnored("traces", f"Tracing is off: {error}.")))
    tracing = Tracing(options.sampler, SpanExport(options, losses))
    if not options.agents:
        return Traces((tracing,), tracing.identify, NoPropagator(), ignored)
    agents = AgentTelemetry(options, environment, settings.claude.environment)
    return Traces((tracing,), tracing.identify, agents, (*ignored, *agents.ignored()))
