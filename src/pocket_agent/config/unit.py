"""Durations and sizes with their units, as people write them in settings: `5m`, `1MiB`.

Both directions are exact: what `format_*` prints, `parse_*` reads back as the same number.
Units are case-sensitive for durations (`5M` could be months) and not for sizes. A bare `K`, `M`
or `G` is refused, because programs disagree on whether it counts in tens or in twos.
"""

import math
import re
from decimal import Decimal
from typing import Final

MAX_DURATION: Final = 3650 * 86400.0
"""Ten years in seconds: beyond any sense here, and within what event loops can wait for."""
MAX_SIZE: Final = 2**50
"""One pebibyte in bytes: more than a disk, and within SQLite's integers."""

DURATION_EXAMPLES: Final = "500ms, 30s, 5m, 1h or 2d (a plain number is seconds)"
SIZE_EXAMPLES: Final = "512KiB, 1MiB or 1GB (a plain number is bytes)"

_SECONDS: Final = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_BYTES: Final = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "B": 1,
}
_BYTES_BY_LOWER: Final = {name.lower(): size for name, size in _BYTES.items()}
_MAX_TEXT: Final = 64
_NUMBER: Final = r"[0-9]{1,20}(?:\.[0-9]{1,40})?"
_PLAIN: Final = re.compile(_NUMBER)
_DURATION: Final = re.compile(rf"(?:{_NUMBER}(?:ms|d|h|m|s))+")
_DURATION_PART: Final = re.compile(rf"({_NUMBER})(ms|d|h|m|s)")
_SIZE: Final = re.compile(rf"({_NUMBER}) ?([A-Za-z]{{0,3}})")


class RefusedError(ValueError):
    """A value that a setting does not accept; the text says what is wrong with it."""


def parse_duration(value: object) -> float:
    """Seconds out of `90`, `1.5`, `"30s"`, `"1h30m"`, to the microsecond.

    Raises:
        RefusedError: not a duration, negative, not finite, or longer than `MAX_DURATION`.
    """
    seconds = _seconds_of_text(value) if isinstance(value, str) else _seconds_of_number(value)
    if seconds is None or not math.isfinite(seconds):
        raise RefusedError("not a duration")
    if seconds < 0:
        raise RefusedError("negative durations make no sense here")
    if seconds > MAX_DURATION:
        raise RefusedError(f"longer than {format_duration(MAX_DURATION)}")
    return round(seconds, 6)


def format_duration(seconds: float) -> str:
    """The largest unit that divides exactly: 5400.0 is `90m`, 0.5 is `500ms`.

    Args:
        seconds: from 0 to `MAX_DURATION`.
    """
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    for unit, size in _SECONDS.items():
        if exact % size == 0:
            return f"{int(exact / size)}{unit}"
    return f"{exact:f}s"


def parse_size(value: object) -> int:
    """Bytes out of `1024`, `"1MiB"`, `"1.5 GiB"`.

    Raises:
        RefusedError: not a size, negative, not whole bytes, or more than `MAX_SIZE`.
    """
    size = _bytes_of_text(value) if isinstance(value, str) else value
    if isinstance(size, bool) or not isinstance(size, int):
        raise RefusedError("not a size in whole bytes")
    if size < 0:
        raise RefusedError("negative sizes make no sense here")
    if size > MAX_SIZE:
        raise RefusedError(f"more than {format_size(MAX_SIZE)}")
    return size


def format_size(size: int) -> str:
    """The largest unit that divides exactly, twos before tens: 1048576 is `1MiB`, 1000 is `1kB`."""
    if size == 0:
        return "0B"
    unit = next(name for name, factor in _BYTES.items() if size % factor == 0)
    return f"{size // _BYTES[unit]}{unit}"


def _seconds_of_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _seconds_of_text(text: str) -> float | None:
    text = text.strip()
    if len(text) > _MAX_TEXT:
        return None
    if text.startswith("-") and _seconds_of_text(text[1:]) is not None:
        return -1.0
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)))


def _bytes_of_text(text: str) -> int | None:
    text = text.strip()
    if text.startswith("-") and _bytes_of_text(text[1:]) is not None:
        return -1
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > _MAX_TEXT:
        return None
    number, unit = match.groups()
    factor = _BYTES_BY_LOWER.get(unit.lower() or "b")
    if factor is None:
        return None
    size = Decimal(number) * factor
    return int(size) if size == size.to_integral_value() else None
