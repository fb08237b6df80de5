"""What a series of a rule test holds over time, a sample a tick, and what functions of Prometheus make of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pocket_agent.monitoring.period import Period, minutes

_GONE: Final = "stale"
EARLY: Final = Period(1)
"""How much shorter than a tick the time between two samples is.

So each sample is taken just before an evaluation: versions of Prometheus differ in whether one on the edge of a
window counts.
"""
_SPACING: Final = 1 - EARLY.seconds / minutes(1).seconds
"""The same for counters, in ticks of a minute."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """From a tick on: a value that changes by `step` each tick; no value, no samples."""

    tick: int
    value: float | None
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """What a series holds, tick by tick and without an end.

    Attributes:
        pieces: in the order of time.
    """

    pieces: tuple[_Piece, ...]

    def then(self, tick: int, value: float) -> "Course":
        """From a tick on another value."""
        return self._followed(_Piece(tick, value))

    def growing(self, tick: int, step: float) -> "Course":
        """From a tick on each value is so much more than the one before."""
        return self._followed(_Piece(tick, self.value(tick - 1) + step, step))

    def gone(self, tick: int) -> "Course":
        """From a tick on no such series is scraped."""
        return self._followed(_Piece(tick, None))

    def _followed(self, piece: _Piece) -> "Course":
        if piece.tick < self.pieces[-1].tick:
            raise ValueError(f"tick {piece.tick} is before what was said last")
        return Course((*self.pieces, piece))

    def value(self, tick: int) -> float:
        """What it holds at a tick; 0 where it is not there."""
        return self._sample(tick) or 0.0

    def there(self, tick: int) -> bool:
        """Whether it has a sample at a tick."""
        return self._sample(tick) is not None

    def step(self, tick: int) -> float:
        """How much it changes from a tick to the next, as far as that is known at the tick."""
        return self._piece(tick).step

    def _piece(self, tick: int) -> _Piece:
        return next(piece for piece in reversed(self.pieces) if piece.tick <= tick)

    def _sample(self, tick: int) -> float | None:
        piece = self._piece(tick)
        return None if piece.value is None else piece.value + piece.step * (tick - piece.tick)

    def notation(self, last: int) -> str:
        """All samples up to a tick, as promtool reads them (Prometheus, Unit testing for rules, `<series>`)."""
        parts: list[str] = []
        ends = [piece.tick for piece in self.pieces[1:]] + [last + 1]
        for piece, end in zip(self.pieces, ends, strict=True):
            count = min(end, last + 1) - piece.tick
            if count > 0:
                parts += _notation(piece, count, first=piece.tick == 0)
        return " ".join(parts)


def _notation(piece: _Piece, count: int, *, first: bool) -> Iterator[str]:
    """Samples of one piece; `AxN` stands for N + 1 of them, `_xN` for N."""
    if piece.value is None:
        # What was never there cannot become stale.
        yield from [f"_x{count}"] if first else [_GONE, *([f"_x{count - 1}"] if count > 1 else [])]
    elif count == 1 or math.isnan(piece.value):
        yield from [figure(piece.value)] * count  # NaN cannot be repeated
    elif piece.step:
        yield f"{figure(piece.value)}{'+' if piece.step > 0 else ''}{figure(piece.step)}x{count - 1}"
    else:
        yield f"{figure(piece.value)}x{count - 1}"


def figure(value: float) -> str:
    """A number as it reads back, whole ones without a point."""
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))


def always(value: float) -> Course:
    """The same value from the beginning."""
    return Course((_Piece(0, value),))


def never() -> Course:
    """No sample, until something else is said."""
    return Course((_Piece(0, None),))


def total(one: Course, two: Course) -> Course:
    """The sum of two courses that are there all the time."""
    ticks = sorted({piece.tick for piece in (*one.pieces, *two.pieces)})
    steps = ((tick, one.step(tick) + two.step(tick)) for tick in ticks)
    return Course(tuple(_Piece(tick, one.value(tick) + two.value(tick), step) for tick, step in steps))


def increase(courses: Sequence[Course], tick: int, window: int) -> float:
    """What `sum(increase(...))` gives for counters whose samples fill the window."""
    return sum(_growth(course, tick, window) for course in courses)


def changes(course: Course, tick: int, window: int) -> int:
    """What `changes()` gives."""
    return sum(before != after for before, after in pairwise(_samples(course, tick, window)))


def _growth(course: Course, tick: int, window: int) -> float:
    """The growth between the samples, drawn out to the edges of the window but not below 0 (`extrapolatedRate`).

    A counter that is less than before began again at 0.
    """
    samples = _samples(course, tick, window)
    grown = sum(after - before if after >= before else after for before, after in pairwise(samples))
    if not grown:
        return 0.0
    known = (len(samples) - 1) * _SPACING
    before, after = (tick - window + 1) * _SPACING - (tick - window), tick - tick * _SPACING
    return grown * (known + min(before, known * samples[0] / grown) + after) / known


def _samples(course: Course, tick: int, window: int) -> list[float]:
    """The samples of a window; that of its first tick is a little too early for it."""
    ticks = range(max(0, tick - window + 1), tick + 1)
    return [course.value(each) for each in ticks if course.there(each)]
