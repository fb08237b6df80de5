"""How a log line looks: the monitoring guide's JSON, or a text for people. Pure but for the clock.

Whatever clients or agents chose to be called, a line stays one line of printable characters: all else
is escaped. In the text form a traceback follows its line, indented.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson

from pocket_agent import __version__

TOP: Final = ("correlation_id", "project_id", "duration_ms", "trace_id", "span_id")
"""The fields that stand at the top of a line, in their order; all others stand in `fields`."""
_LONGEST: Final = 1000
"""Characters of a text beyond which it is cut."""
_LARGEST: Final = 2**63
_PLAIN: Final = re.compile(r"[\w./:@+,-]+")
_COLOURS: Final = {"debug": "36", "info": "32", "warning": "33", "error": "31"}


class Layout(Protocol):
    """Makes lines."""

    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        """One line with its line feed; fields that are None are left out, `exception` may be long."""


class JsonLayout:
    """One JSON object a line."""

    def __init__(self, constants: Mapping[str, str | int | float | bool]) -> None:
        """Prepare.

        Args:
            constants: fields of every line; they replace `service`, `environment` and `version`.
        """
        own = {"service": "pocket-agent-server", "environment": "production", "version": __version__}
        named = {name: str(constants.get(name, value)) for name, value in own.items()}
        self._constants = {**named, **{name: value for name, value in constants.items() if name not in own}}

    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        """See `Layout`."""
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
            text = orjson.dumps(_plain(line), option=orjson.OPT_APPEND_NEWLINE)
        if text.isascii() and b"\x7f" not in text:
            return text
        decoded = text[:-1].decode()
        return text if decoded.isprintable() else _escaped(decoded).encode() + b"\n"


class TextLayout:
    """Time, level, message, key=value; for people, in their time zone."""

    def __init__(self, constants: Mapping[str, str | int | float | bool], *, colours: bool) -> None:
        """Prepare.

        Args:
            constants: fields of every line.
            colours: whether the reader is a terminal that shows them.
        """
        self._constants = constants
        self._colours = colours

    def line(self, level: str, msg: str, fields: Mapping[str, object]) -> bytes:
        """See `Layout`."""
        given = _bounded(fields)
        exception = given.pop("exception", None)
        ordered = {name: given.pop(name) for name in TOP if name in given} | given | dict(self._constants)
        at = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        words = [self._painted(at, "2"), self._painted(f"{level:<7}", _COLOURS[level])]
        words.append(self._painted(f"{_escaped(msg):<24}" if ordered else _escaped(msg), "1"))
        words += [f"{self._painted(_escaped(name) + '=', '2')}{_shown(value)}" for name, value in ordered.items()]
        text = " ".join(words)
        if isinstance(exception, str):
            text += "".join(f"\n    {_escaped(line)}" for line in exception.splitlines())
        return text.encode() + b"\n"

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def cut(text: str, longest: int = _LONGEST) -> str:
    """The beginning of a text that is too long, marked with how many characters are missing."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more)"


def _bounded(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields that hold something, long texts cut."""
    kept: dict[str, object] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, str):
            kept[name] = value if len(value) <= _LONGEST or name == "exception" else cut(value)
        elif isinstance(value, tuple):
            kept[name] = [cut(item) if isinstance(item, str) else item for item in value]
        else:
            kept[name] = value
    return kept


def _plain(value: object) -> object:
    """A value as JSON and every reader of it can hold it."""
    if isinstance(value, Mapping):
        return {str(_plain(str(name))): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return cut(hex(value))
    return value if value is None or isinstance(value, int | float) else f"<{type(value).__name__}>"


def _escaped(text: str) -> str:
    """The text with everything that is not printable as the escapes of JSON."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _shown(value: object) -> str:
    """A value for people: in quotation marks where it could be mistaken for more than one."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return _escaped(json.dumps(_plain(value), ensure_ascii=False))
