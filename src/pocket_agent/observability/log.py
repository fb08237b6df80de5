"""The server's own log: one line for each event worth telling, as JSON or for people.

Lines are made where something happens, in a few microseconds, and written by a thread of their own
(`sink`). Prompts, tokens and secrets never reach them: events carry ids, not contents (`line`), exceptions
tell no values (`fault`), libraries are not quoted (`library`), and what a client chose is escaped (`layout`).
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pocket_agent.config.settings import LoggingSettings
from pocket_agent.events import Event
from pocket_agent.observability.fault import error_name, told
from pocket_agent.observability.identity import Identify, untraced
from pocket_agent.observability.layout import JsonLayout, Layout, TextLayout
from pocket_agent.observability.library import captured
from pocket_agent.observability.line import describe
from pocket_agent.observability.loss import Losses
from pocket_agent.observability.output import is_terminal, open_output
from pocket_agent.observability.sink import Sink

_RANKS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FLUSH_SECONDS: Final = 2.0
"""How long lines that wait may take at the end."""


class _Target(NamedTuple):
    """Which lines are written, how, and where."""

    rank: int
    layout: Layout
    sink: Sink


class Log:
    """Writes lines; any thread may."""

    def __init__(self, settings: LoggingSettings, losses: Losses, environment: Mapping[str, str]) -> None:
        """Open it.

        Args:
            settings: level, form and output.
            losses: where dropped lines are counted.
            environment: the server's own, for NO_COLOR and TERM.

        Raises:
            ConfigurationError: the output cannot be written to; the message names the setting.
        """
        self._losses = losses
        self._environment = environment
        self._target = self._open(settings)

    def _open(self, settings: LoggingSettings) -> _Target:
        layout: Layout
        if settings.format == "json":
            layout = JsonLayout(settings.fields)
        else:
            # https://no-color.org: set and not empty, whatever its value.
            plain = bool(self._environment.get("NO_COLOR")) or self._environment.get("TERM") == "dumb"
            layout = TextLayout(settings.fields, colours=not plain and is_terminal(settings))

        def notice(count: int) -> bytes:
            return layout.line("warning", "log lines lost", {"lost": count})

        return _Target(_RANKS[settings.level], layout, Sink(open_output(settings), self._losses, notice))

    def takes(self, level: str) -> bool:
        """Whether lines of this level are written."""
        return _RANKS[level] >= self._target.rank

    def write(self, level: str, msg: str, fields: Mapping[str, object]) -> None:
        """Write a line, unless it is below the level.

        Args:
            level: debug, info, warning or error.
            msg: what happened.
            fields: see `layout.TOP`; None is left out; an exception as `exc_info` becomes its name and traceback.
        """
        rank, layout, sink = self._target
        if _RANKS[level] < rank:
            return
        error = fields.get("exc_info")
        if isinstance(error, BaseException):
            fields = {**fields, "exc_info": None, "error": error_name(error), "exception": told(error)}
        sink.write(layout.line(level, msg, fields))

    async def prepare(self, settings: LoggingSettings) -> "Prepared":
        """Open the output of other settings; nothing is written to it before `Prepared.use`.

        Raises:
            ConfigurationError: the new output cannot be written to.
        """
        return Prepared(self, await asyncio.to_thread(self._open, settings))

    def replace(self, target: _Target) -> _Target:
        """Write to another target from here on; returns the one before, which still holds lines."""
        old, self._target = self._target, target
        return old

    def close(self) -> None:
        """Write what waits, within a bound; lines that come later are lost."""
        self._target.sink.close(_FLUSH_SECONDS)


class Prepared:
    """An output that a log can go over to, in one step that cannot fail."""

    def __init__(self, log: Log, target: _Target) -> None:
        self._log = log
        self._unused = target

    def use(self) -> None:
        """Let the log write to it from here on."""
        self._unused = self._log.replace(self._unused)

    async def close(self) -> None:
        """Close the output that is not used: the one before `use`, once its lines are written, or else the new one."""
        await asyncio.to_thread(self._unused.sink.close, _FLUSH_SECONDS)


@contextlib.contextmanager
def open_log(settings: LoggingSettings, losses: Losses, environment: Mapping[str, str]) -> Iterator[Log]:
    """The log of a process, which takes in what libraries complain of; see `Log`."""
    log = Log(settings, losses, environment)
    try:
        with captured(log.write):
            yield log
    finally:
        log.close()


class LogObserver:
    """Writes events into the log. It is an `Observer` of the core."""

    def __init__(self, log: Log, *, identify: Identify = untraced) -> None:
        """Prepare.

        Args:
            log: where to.
            identify: gives the trace of an execution.
        """
        self._log = log
        self._identify = identify

    def emit(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        line = describe(event)
        if line is None or not self._log.takes(line.level):
            return
        context = line.context
        if context is None:
            self._log.write(line.level, line.msg, line.fields)
            return
        fields: dict[str, object] = {
            "correlation_id": context.correlation_id,
            "project_id": context.project_id,
            "execution_id": context.execution_id,
            **line.fields,
        }
        identity = self._identify(context)
        if identity is not None and identity.sampled:
            fields |= {"trace_id": identity.trace_id, "span_id": identity.span_id}
        self._log.write(line.level, line.msg, fields)
