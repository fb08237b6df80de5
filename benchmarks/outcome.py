"""What a benchmark found: figures, some of them with a bound, as a table and as JSON."""

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One measured value.

    Attributes:
        bound: what the value must reach or may not exceed; None when it is only stated.
        sense: which of the two.
    """

    name: str
    value: float
    unit: str
    bound: float | None = None
    sense: Literal["at least", "at most"] = "at most"

    @property
    def holds(self) -> bool:
        """Whether the value keeps its bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.sense == "at least" else self.value <= self.bound


class Outcome(msgspec.Struct, frozen=True):
    """All figures of one benchmark, in the order of their table."""

    name: str
    title: str
    figures: tuple[Figure, ...]

    @property
    def holds(self) -> bool:
        """Whether every bound is kept."""
        return all(figure.holds for figure in self.figures)

    def table(self) -> str:
        """The figures for a person."""
        rows = [(figure.name, f"{_text(figure.value)} {figure.unit}".strip(), _verdict(figure)) for figure in self.figures]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}".rstrip() for row in rows]
        return "\n".join([f"{self.name}: {self.title}", *(f"  {line}" for line in lines)])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def _verdict(figure: Figure) -> str:
    if figure.bound is None:
        return ""
    return f"{'ok' if figure.holds else 'MISSED'} ({figure.sense} {_text(figure.bound)})"


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
