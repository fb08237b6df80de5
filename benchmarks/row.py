"""One measured figure, and whether it is what was promised."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A figure.

    Attributes:
        name: what was measured.
        value: how much, in `unit`.
        target: what was promised, in words; empty for a figure that is only stated.
        passed: whether it was kept.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    passed: bool = True


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: list[float]) -> float:
    """The middle value."""
    return percentile(values, 50)
