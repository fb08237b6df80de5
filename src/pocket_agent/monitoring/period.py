"""Spans of time as Prometheus writes them: `5m`, `1h30m`, `2w`."""

from dataclasses import dataclass
from typing import Final

_SECOND: Final = 1000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

# Prometheus prints the largest units only where nothing is left over (common/model, Duration.String).
_WHOLE: Final = (("y", 365 * _DAY), ("w", 7 * _DAY))
_PARTS: Final = (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", _SECOND), ("ms", 1))


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A span of time; `str()` is Prometheus's own way to write it.

    Attributes:
        milliseconds: its length, 0 or more; Prometheus knows nothing shorter.
    """

    milliseconds: int

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.milliseconds / _SECOND

    def scaled(self, factor: float) -> "Period":
        """The period times a factor, rounded to the millisecond."""
        return Period(round(self.milliseconds * factor))

    def __add__(self, other: "Period") -> "Period":
        return Period(self.milliseconds + other.milliseconds)

    def __sub__(self, other: "Period") -> "Period":
        return Period(max(0, self.milliseconds - other.milliseconds))

    def __str__(self) -> str:
        if self.milliseconds == 0:
            return "0s"
        for unit, size in _WHOLE:
            if self.milliseconds % size == 0:
                return f"{self.milliseconds // size}{unit}"
        rest, text = self.milliseconds, ""
        for unit, size in _PARTS:
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
        return text


def seconds(count: float) -> Period:
    """A period of so many seconds, to the millisecond."""
    return Period(round(count * _SECOND))


def minutes(count: int) -> Period:
    """A period of so many minutes."""
    return Period(count * _MINUTE)


def hours(count: int) -> Period:
    """A period of so many hours."""
    return Period(count * _HOUR)


def days(count: int) -> Period:
    """A period of so many days."""
    return Period(count * _DAY)
