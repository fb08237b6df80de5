"""What a query leaves open for Grafana to fill in."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a dashboard; `str()` is how it stands in a query.

    Attributes:
        name: without the sign before it.
    """

    name: str

    def __str__(self) -> str:
        return f"${self.name}"


RATE_INTERVAL: Final = Variable("__rate_interval")
"""A window that leaves out no scrape and holds enough of them for a rate, however far a graph reaches."""
