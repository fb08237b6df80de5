"""Brings what libraries and Python itself complain of into the server's log, in its form and without its secrets.

A library's words may hold anything: an address with a password, a header, a bit of a frame. So only warnings
and errors are taken, of a text the first line, of its arguments numbers and addresses, and of an exception
what `fault` tells. The same complaint comes once a minute at most.
"""

import contextlib
import ipaddress
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from pocket_agent.observability.fault import error_message, error_name
from pocket_agent.observability.layout import cut
from pocket_agent.observability.secret import masked, without_quotations

_OWN: Final = "pocket_agent."
_REPEAT_SECONDS: Final = 60.0
_MOST_KINDS: Final = 1000
"""Kinds of complaints whose repetitions are counted."""
_LONGEST: Final = 300

Write = Callable[[str, str, Mapping[str, object]], None]
"""Writes a line: its level, its message, its fields."""


class LibraryHandler(logging.Handler):
    """Makes lines out of the records of `logging`.

    Those of the server's own modules are taken as they are: the message, and as fields what stands in
    `extra={"fields": {...}}`.
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            write: writes a line.
            clock: seconds, for what repeats.
        """
        super().__init__(logging.WARNING)
        self._write = write
        self._clock = clock
        self._seen: dict[tuple[str, str, int], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line; a record that cannot be rendered is still told of."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        if record.name.startswith(_OWN):
            self._write(level, record.getMessage(), {**getattr(record, "fields", {}), "exc_info": error})
            return
        repeated = self._repetitions((record.name, record.pathname, record.lineno))
        if repeated is not None:
            fields = {"logger": record.name, "text": said(record), "repeated": repeated or None, "exc_info": error}
            self._write(level, "library message", fields)

    def _repetitions(self, kind: tuple[str, str, int]) -> int | None:
        """How often this kind came since it was told last; None when it is not to be told now."""
        now = self._clock()
        told, repeated = self._seen.get(kind, (now - _REPEAT_SECONDS, 0))
        if now - told < _REPEAT_SECONDS:
            self._seen[kind] = (told, repeated + 1)
            return None
        if len(self._seen) >= _MOST_KINDS:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        return repeated


def said(record: logging.LogRecord) -> str:
    """What a library's record says, as far as it cannot be a secret or somebody's words."""
    template, args = str(record.msg), record.args
    try:
        if isinstance(args, Mapping):
            text = template % {name: _argument(value) for name, value in args.items()}
        else:
            text = template % tuple(_argument(value) for value in args) if args else template
    except (TypeError, ValueError, KeyError):  # such as %d of a text that was left out
        text = template
    return _harmless(text)


def _harmless(text: str) -> str:
    lines = text.strip().splitlines()
    return cut(masked(without_quotations(lines[0])), _LONGEST) if lines else ""


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
def captured(write: Write) -> Iterator[None]:
    """Take over the records of `logging`, Python's warnings, and exceptions that nobody catches outside the loop."""
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
        write("warning", "python warning", {"kind": category.__name__, "text": _harmless(str(message)), "at": at})

    def uncaught(hook: Any) -> None:
        thread = getattr(hook, "thread", None)
        write(
            "error",
            "uncaught exception",
            {"thread": thread.name if thread is not None else None, "exc_info": hook.exc_value},
        )

    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    warnings.showwarning, threading.excepthook, sys.unraisablehook = warned, uncaught, uncaught
    try:
        yield
    finally:
        warnings.showwarning, threading.excepthook, sys.unraisablehook = hooks
        root.setLevel(level)
        root.removeHandler(handler)
