"""The server's own log: one line for each event, as JSON or as text.

Lines are formatted where the event is emitted and written by a separate thread. Prompts, tokens and secrets
never reach the log: events carry ids and numbers, not contents; messages of exceptions and libraries are
redacted (`redaction`); everything a client chose is escaped.

The records of libraries come from `logging`, but the queue and the outputs are not those of `logging.handlers`:

- `QueueHandler`, `QueueListener` and `RotatingFileHandler` took 32 to 50 microseconds of processor time for a
  line that takes 7 here, since they make a record, lock twice and write once for each line.
- The queue of `QueueHandler` has no limit in bytes and does not count what it drops, and
  `QueueListener.stop` waits for a blocked output without a limit.
- A handler is either a `WatchedFileHandler`, which follows a file that logrotate moved, or a
  `RotatingFileHandler`; neither removes the part of a line that a full disk cut off.
"""

import asyncio
import contextlib
import dataclasses
import errno
import ipaddress
import json
import logging
import math
import os
import re
import select
import stat
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TextIO, get_type_hints

import orjson

from pocket_agent import __version__
from pocket_agent.errors import ConfigurationError
from pocket_agent.events import EVENTS, Event, LogField
from pocket_agent.model import ExecutionContext, Milliseconds, ModelUsage
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.redaction import error_message, error_name, redact, redacted_traceback, strip_quotations
from pocket_agent.observability.tracing import Identify, untraced
from pocket_agent.settings import LoggingSettings

_Column = tuple[str, str, Callable[[Any], object]]
"""A field of a log line: the event's attribute, the field's name, and the conversion of the value."""


def log_fields(event: Event) -> dict[str, object]:
    """The fields of an event's line, without those of its context; `exc_info` is an exception."""
    return {name: convert(getattr(event, field)) for field, name, convert in _COLUMNS[type(event)]}


def _columns_of(field: str, hint: Any) -> Iterable[_Column]:
    declared = next((found for found in getattr(hint, "__metadata__", ()) if isinstance(found, LogField)), LogField())
    plain = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    name = declared.name or field
    if not declared.logged or plain in {ExecutionContext, ExecutionContext | None}:
        return
    if plain == tuple[ModelUsage, ...]:
        for name, total in _USAGE.items():
            yield field, name, total
    elif declared.unit == "seconds":
        yield field, declared.name or f"{field}_ms", lambda seconds: round(seconds * 1000)
    elif declared.unit == "usd":
        yield field, name, lambda amount: round(amount, 6)
    elif declared.redacted:
        yield field, name, redact
    elif plain is BaseException:
        yield field, "exc_info", lambda error: error
    elif plain is datetime:
        yield field, name, datetime.isoformat
    elif plain in {Milliseconds, Milliseconds | None}:
        yield field, name, lambda at: datetime.fromtimestamp(at / 1000, UTC).isoformat() if at is not None else None
    else:
        yield field, name, lambda value: value


_USAGE: Final[Mapping[str, Callable[[Iterable[ModelUsage]], object]]] = {
    # The three counts do not overlap.
    "prompt_tokens": lambda usage: sum(
        used.input_tokens + used.cache_read_tokens + used.cache_creation_tokens for used in usage
    ),
    "completion_tokens": lambda usage: sum(used.output_tokens for used in usage),
    "cost_usd": lambda usage: round(sum((used.cost_usd for used in usage), 0.0), 6),
}
"""The log fields of an execution's usage."""
_COLUMNS: Final[Mapping[type[Event], tuple[_Column, ...]]] = {
    kind: tuple(column for field in dataclasses.fields(kind) for column in _columns_of(field.name, hints[field.name]))
    for kind in EVENTS
    for hints in [get_type_hints(kind, include_extras=True)]
}

TOP: Final = ("correlation_id", "project_id", "conversation_id", "duration_ms", "trace_id", "span_id")
"""The fields at the top level of a line, in their order; all others are in `fields`."""
_MAX_TEXT: Final = 1000  # characters of a text; longer ones are truncated
_INT64: Final = 2**63
_PLAIN: Final = re.compile(r"[\w./:@+,-]+")
_COLOURS: Final = {"debug": "36", "info": "32", "warning": "33", "error": "31"}


class Layout(Protocol):
    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        """A log line with its line feed, without fields of value `None`; all texts but `exception` are truncated."""


class JsonLayout:
    """One JSON object a line; `constants` are fields of every line and replace `service`, `environment`, `version`."""

    def __init__(self, constants: Mapping[str, str | int | float | bool]) -> None:
        own = {"service": "pocket-agent-server", "environment": "production", "version": __version__}
        named = {name: str(constants.get(name, value)) for name, value in own.items()}
        self._constants = {**named, **{name: value for name, value in constants.items() if name not in own}}

    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        given = _bounded(fields)
        line: dict[str, object] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": level,
            "msg": msg,
            **self._constants,
        }
        for name in TOP:
            if name in given:
                line[name] = given.pop(name)
        if given:
            line["fields"] = given
        try:
            text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:  # a lone surrogate, a large integer, a type that JSON does not have
            text = orjson.dumps(_jsonable(line), option=orjson.OPT_APPEND_NEWLINE)
        if text.isascii() and b"\x7f" not in text:
            return text
        decoded = text[:-1].decode()
        return text if decoded.isprintable() else _escaped(decoded).encode() + b"\n"


class TextLayout:
    """Local time, level, message, key=value; `constants` are fields of every line."""

    def __init__(self, constants: Mapping[str, str | int | float | bool], *, colours: bool) -> None:
        self._constants = constants
        self._colours = colours

    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        given = _bounded(fields)
        exception = given.pop("exception", None)
        ordered = {name: given.pop(name) for name in TOP if name in given} | given | dict(self._constants)
        at = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        words = [self._painted(at, "2"), self._painted(f"{level:<7}", _COLOURS[level])]
        words.append(self._painted(f"{_escaped(msg):<24}" if ordered else _escaped(msg), "1"))
        words += [f"{self._painted(_escaped(name) + '=', '2')}{_text_value(value)}" for name, value in ordered.items()]
        text = " ".join(words)
        if isinstance(exception, str):
            text += "".join(f"\n    {_escaped(line)}" for line in exception.splitlines())
        return text.encode() + b"\n"

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def truncate(text: str, longest: int = _MAX_TEXT) -> str:
    """Cut a text after `longest` characters and add how many are missing."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more)"


def _bounded(fields: Mapping[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, tuple):
            kept[name] = [truncate(item) if isinstance(item, str) else item for item in value]
        elif isinstance(value, str) and name != "exception":
            kept[name] = truncate(value)
        elif value is not None:
            kept[name] = value
    return kept


def _jsonable(value: object) -> object:
    """Convert what JSON or a reader of it cannot represent: lone surrogates, NaN, large integers, other types."""
    if isinstance(value, Mapping):
        return {str(_jsonable(str(name))): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return truncate(hex(value))
    return value if value is None or isinstance(value, int | float) else f"<{type(value).__name__}>"


def _escaped(text: str) -> str:
    """Replace characters that are not printable by the escapes of JSON."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _text_value(value: object) -> str:
    """The value as in JSON, but a plain word without quotation marks."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return _escaped(json.dumps(_jsonable(value), ensure_ascii=False))


_STREAMS: Final = {"stdout": 1, "stderr": 2}
_POLL_MILLISECONDS: Final = 1000


class LogOutput(Protocol):
    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines in order and return the number written whole. Called by one thread, which it may block."""

    def close(self) -> None:
        """Close the output; called once, by the same thread."""


class StreamOutput:
    """Writes to a descriptor that cannot be opened again: a pipe, a terminal, a device; closes it if `owned`."""

    def __init__(self, descriptor: int, *, owned: bool = False) -> None:
        self._descriptor = descriptor
        self._owned = owned
        self._torn = False

    def write(self, lines: Sequence[bytes]) -> int:
        head = b"\n" if self._torn else b""  # ends the line that was cut off
        data = memoryview(head + b"".join(lines))
        done = 0
        with contextlib.suppress(OSError):  # the reader is gone, or the device is full
            while done < len(data):
                try:
                    done += os.write(self._descriptor, data[done:])
                except BlockingIOError:  # another process that shares it made it non-blocking
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll(_POLL_MILLISECONDS)
        written, size = whole_lines(lines, done - len(head))
        self._torn = size < done - len(head) or (self._torn and done == 0)
        return written

    def close(self) -> None:
        if self._owned:
            os.close(self._descriptor)


class FileOutput:
    """Writes to a file of mode 0600, and rotates it to FILE.1, FILE.1 to FILE.2 and so on when it is full.

    A file that was moved or removed (logrotate) is created again for the next line. Missing directories are created
    with mode 0700. Without a limit, `max_bytes` is 0; `max_files` rotated files are kept.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Opened for reading too, to check whether the last line is complete.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def write(self, lines: Sequence[bytes]) -> int:
        written = 0
        with contextlib.suppress(OSError):
            self._follow()
            while written < len(lines):
                size = os.fstat(self._descriptor).st_size
                if self._max_bytes and size > 0 and size + len(lines[written]) > self._max_bytes:
                    self._rotate()
                    size = os.fstat(self._descriptor).st_size
                part = self._fitting(size, lines[written:])
                count = self._append(part, size)
                written += count
                if count < len(part):
                    break
        return written

    def _follow(self) -> None:
        """Open the file again when its name no longer leads to it."""
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(mine, self._path.stat()):
                    return
        self._open()

    def _fitting(self, size: int, lines: Sequence[bytes]) -> Sequence[bytes]:
        """The lines, at least one, that a file of `size` bytes can take."""
        if not self._max_bytes:
            return lines
        return lines[: max(1, whole_lines(lines, self._max_bytes - size)[0])]

    def _append(self, lines: Sequence[bytes], size: int) -> int:
        """Append lines to a file of `size` bytes and return how many were written; a partial line is removed."""
        head = b"\n" if self._torn else b""
        data = memoryview(head + b"".join(lines))
        done = 0
        with contextlib.suppress(OSError):
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        if done == len(data):
            self._torn = False
            return len(lines)
        written, kept = whole_lines(lines, done - len(head))
        os.ftruncate(self._descriptor, size + (kept + len(head) if written else 0))
        self._torn = self._torn and not written
        return written

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):  # in a directory that cannot be written it goes on as it is
            for number in range(self._max_files, 0, -1):
                older = self._path.with_name(f"{self._path.name}.{number}")
                newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
                with contextlib.suppress(FileNotFoundError):
                    newer.replace(older)
            if not self._max_files:
                self._path.unlink()
            self._open()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def whole_lines(lines: Sequence[bytes], size: int) -> tuple[int, int]:
    """The number of lines that are whole within their first `size` bytes, and the bytes of these lines."""
    kept = 0
    for number, line in enumerate(lines):
        if kept + len(line) > size:
            return number, kept
        kept += len(line)
    return len(lines), kept


def open_output(settings: LoggingSettings) -> LogOutput:
    """Open `logging.output`. Raises ConfigurationError: the output cannot be written to."""
    target = settings.output
    if isinstance(target, str):
        # Python has no stream where the descriptor was closed at the start: it may be another file's by now.
        if getattr(sys, f"__{target}__") is None:
            raise ConfigurationError(f"The log's {target} (logging.output) is closed; choose stdout, stderr or a file.")
        return StreamOutput(_STREAMS[target])
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = target.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                return StreamOutput(os.open(target, flags), owned=True)
        return FileOutput(target, max_bytes=settings.max_size, max_files=settings.max_files)
    except OSError as error:
        reason = "no process reads it" if error.errno == errno.ENXIO else error.strerror or str(error)
        raise ConfigurationError(f"The log {target} (logging.output) cannot be written: {reason}.") from error


MOST_BYTES: Final = 8 * 2**20
"""Largest size of the queued lines; further ones are dropped, and counted."""
_MAX_BATCH_BYTES: Final = 256 * 1024


class LogWriter:
    """Queues lines and writes them in a thread. Any thread may call `write`, which does not block.

    `notice` makes the line that reports the number of lost lines, written when the output accepts lines again.
    """

    def __init__(
        self, output: LogOutput, losses: Losses, notice: Callable[[int], bytes], *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._output = output
        self._losses = losses
        self._notice = notice
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._unreported = 0
        self._closing = False
        # Its lock can be taken again by the thread that holds it: a destructor that runs inside `write` may log.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        with self._changed:
            if self._closing or self._bytes + len(line) > self._most_bytes:
                self._lose(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def close(self, seconds: float) -> None:
        """Write the queued lines for at most `seconds`; the rest is lost, and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._lose(len(self._lines))
            self._lines.clear()

    def _lose(self, count: int) -> None:
        if count:
            self._losses.add("logs", count)
            self._unreported += count

    def _work(self) -> None:
        while batch := self._batch():
            refused = len(batch) - self._output.write(batch)
            with self._changed:
                self._lose(refused)
                report = not refused and not self._lines
            if report:
                self._report_lost()
        self._report_lost()
        self._output.close()

    def _batch(self) -> list[bytes]:
        """Wait for lines and remove some from the queue; empty after `close`, when the queue is."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            batch: list[bytes] = []
            size = 0
            while self._lines and size < _MAX_BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            self._bytes -= size
            return batch

    def _report_lost(self) -> None:
        with self._changed:
            count, self._unreported = self._unreported, 0
        if count and not self._output.write([self._notice(count)]):
            with self._changed:
                self._unreported += count


_REPEAT_SECONDS: Final = 60.0
_MOST_KINDS: Final = 1000  # kinds of records whose repetitions are counted
_MAX_LIBRARY_TEXT: Final = 300

Write = Callable[[str, str, Mapping[str, object]], None]
"""Writes a line: level, message, fields."""


class LibraryHandler(logging.Handler):
    """Logs the records of `logging`: those of libraries redacted and one of a kind per minute.

    Records of the server's own modules are logged unchanged, with the fields in `extra={"fields": {...}}`.
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._write = write
        self._clock = clock
        self._seen: dict[tuple[str, str, int], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        if record.name.startswith("pocket_agent."):
            self._write(level, record.getMessage(), {**getattr(record, "fields", {}), "exc_info": error})
            return
        repeated = self._repetitions((record.name, record.pathname, record.lineno))
        if repeated is not None:
            fields = {"logger": record.name, "text": redact_record(record), "repeated": repeated or None}
            self._write(level, "library message", {**fields, "exc_info": error})

    def _repetitions(self, kind: tuple[str, str, int]) -> int | None:
        """The number of records of a kind that were suppressed since the last logged one; None to suppress this one."""
        now = self._clock()
        logged, repeated = self._seen.get(kind, (now - _REPEAT_SECONDS, 0))
        if now - logged < _REPEAT_SECONDS:
            self._seen[kind] = (logged, repeated + 1)
            return None
        if len(self._seen) >= _MOST_KINDS:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        return repeated


def redact_record(record: logging.LogRecord) -> str:
    """The text of a library's record without secrets and quoted values."""
    template, args = str(record.msg), record.args
    try:
        if isinstance(args, Mapping):
            text = template % {name: _argument(value) for name, value in args.items()}
        else:
            text = template % tuple(_argument(value) for value in args) if args else template
    except (TypeError, ValueError, KeyError):  # such as %d of a text that was left out
        text = template
    return _redacted_line(text)


def _redacted_line(text: str) -> str:
    lines = text.strip().splitlines()
    return truncate(redact(strip_quotations(lines[0])), _MAX_LIBRARY_TEXT) if lines else ""


def _argument(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return f"{error_name(value)} {error_message(value)}".strip()
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(value))
    return "…"


@contextlib.contextmanager
def capture_libraries(write: Write) -> Iterator[None]:
    """Log the records of `logging`, Python's warnings, and uncaught exceptions outside the event loop."""
    root, handler = logging.getLogger(), LibraryHandler(write)
    level = root.level
    hooks = warnings.showwarning, threading.excepthook, sys.unraisablehook

    def warned(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        at = f"{Path(filename).name}:{lineno}"
        write("warning", "python warning", {"kind": category.__name__, "text": _redacted_line(str(message)), "at": at})

    def uncaught(hook: Any) -> None:
        thread = getattr(getattr(hook, "thread", None), "name", None)
        write("error", "uncaught exception", {"thread": thread, "exc_info": hook.exc_value})

    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    warnings.showwarning, threading.excepthook, sys.unraisablehook = warned, uncaught, uncaught
    try:
        yield
    finally:
        warnings.showwarning, threading.excepthook, sys.unraisablehook = hooks
        root.setLevel(level)
        root.removeHandler(handler)


_RANKS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FLUSH_SECONDS: Final = 2.0  # time limit for writing the queued lines at the end


class _LogTarget(NamedTuple):
    rank: int
    layout: Layout
    writer: LogWriter


class Log:
    """Writes log lines, from any thread; `environment` is the server's own, for NO_COLOR and TERM.

    Raises:
        ConfigurationError: the output cannot be written to.
    """

    def __init__(self, settings: LoggingSettings, losses: Losses, environment: Mapping[str, str]) -> None:
        self._losses = losses
        self._environment = environment
        self._target = self._open(settings)

    def _open(self, settings: LoggingSettings) -> _LogTarget:
        layout: Layout
        if settings.format == "json":
            layout = JsonLayout(settings.fields)
        else:
            # https://no-color.org: set and not empty, whatever its value.
            plain = bool(self._environment.get("NO_COLOR")) or self._environment.get("TERM") == "dumb"
            terminal = isinstance(settings.output, str) and os.isatty(_STREAMS[settings.output])
            layout = TextLayout(settings.fields, colours=not plain and terminal)

        def notice(count: int) -> bytes:
            return layout.line("warning", "log lines lost", {"lost": count})

        return _LogTarget(_RANKS[settings.level], layout, LogWriter(open_output(settings), self._losses, notice))

    def takes(self, level: str) -> bool:
        """Whether lines of this level are written."""
        return _RANKS[level] >= self._target.rank

    def write(self, level: str, msg: str, fields: Mapping[str, object]) -> None:
        """Write a line, unless `level` is below that of the settings.

        Fields with the value `None` are left out. An exception in `exc_info` becomes its name and traceback.
        """
        rank, layout, writer = self._target
        if _RANKS[level] < rank:
            return
        error = fields.get("exc_info")
        if isinstance(error, BaseException):
            fields = {**fields, "exc_info": None, "error": error_name(error), "exception": redacted_traceback(error)}
        writer.write(layout.line(level, msg, fields))

    async def prepare(self, settings: LoggingSettings) -> "PreparedLog":
        """Open the output of other settings; nothing is written to it before `PreparedLog.use`.

        Raises:
            ConfigurationError: the new output cannot be written to.
        """
        return PreparedLog(self, await asyncio.to_thread(self._open, settings))

    def replace(self, target: _LogTarget) -> _LogTarget:
        """Write to another target from now on, and return the previous one, which may still hold lines."""
        old, self._target = self._target, target
        return old

    def close(self) -> None:
        """Write the queued lines within `_FLUSH_SECONDS`; later lines are lost."""
        self._target.writer.close(_FLUSH_SECONDS)


class PreparedLog:
    """An opened output that a log can switch to in one step that cannot fail."""

    def __init__(self, log: Log, target: _LogTarget) -> None:
        self._log = log
        self._unused = target

    def use(self) -> None:
        self._unused = self._log.replace(self._unused)

    async def close(self) -> None:
        """Close the output that is not in use: after `use` the previous one, else the new one."""
        await asyncio.to_thread(self._unused.writer.close, _FLUSH_SECONDS)


@contextlib.contextmanager
def open_log(settings: LoggingSettings, losses: Losses, environment: Mapping[str, str]) -> Iterator[Log]:
    """The log of a process, with the records and warnings of libraries; see `Log`."""
    log = Log(settings, losses, environment)
    try:
        with capture_libraries(log.write):
            yield log
    finally:
        log.close()


class LogObserver:
    """An `Observer` that logs events."""

    def __init__(self, log: Log, *, identify: Identify = untraced) -> None:
        self._log = log
        self._identify = identify

    def emit(self, event: Event) -> None:
        if isinstance(event.log_as, str):
            return
        level, msg = event.log_as.line_of(event)
        if not self._log.takes(level):
            return
        fields = log_fields(event)
        context: ExecutionContext | None = getattr(event, "context", None)
        if context is not None:
            names = ["correlation_id", "project_id", "execution_id"]
            if context.conversation_id != context.project_id:
                names.append("conversation_id")
            execution = {name: getattr(context, name) for name in names}
            fields = execution | fields
            identity = self._identify(context)
            if identity is not None and identity.sampled:
                fields |= {"trace_id": identity.trace_id, "span_id": identity.span_id}
        self._log.write(level, msg, fields)
