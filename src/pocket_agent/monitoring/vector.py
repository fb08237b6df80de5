"""A query for values by labels, and what two of them can be made into; what makes no sense is refused.

The text is what Prometheus itself prints for the query, except that a line begins before each `and`, `or` and
`unless`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

TARGET_LABELS: Final = frozenset(("job", "instance"))

# How strongly the parts of a text hold together (Prometheus, Binary operator precedence).
ATOM: Final = 6
PRODUCT: Final = 5
SUM: Final = 4
COMPARISON: Final = 3
BOTH: Final = 2
EITHER: Final = 1


class QueryError(ValueError):
    """A query that makes no sense: a fault in the code that builds it."""


class Kind(Enum):
    """What the numbers of a vector are."""

    GAUGE = auto()
    COUNTER = auto()
    """Only its growth means something."""
    BUCKETS = auto()
    """The counters of a histogram's buckets."""
    BUCKET_RATES = auto()
    """Their growth, of which a quantile can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """A query for values by labels.

    Labels are those beside the target's own (`job`, `instance` and whatever the scrape configuration adds): all
    figures of one server have the same target labels, so aggregations name what they drop and keep those.

    Attributes:
        text: what Prometheus is asked.
        labels: what its results are told apart by, beside the labels of the target.
        rank: how strongly the text holds together.
        selector: whether it names series and nothing more, so that a range of it can be taken.
    """

    text: str
    kind: Kind
    labels: frozenset[str]
    rank: int = ATOM
    selector: bool = False

    def __truediv__(self, other: "Vector | float") -> "Vector":
        return self._combined("/", other, PRODUCT)

    def __mul__(self, other: "Vector | float") -> "Vector":
        return self._combined("*", other, PRODUCT)

    def __add__(self, other: "Vector | float") -> "Vector":
        return self._combined("+", other, SUM)

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self._combined("-", other, SUM)

    def above(self, value: float) -> "Vector":
        """What is more than a value."""
        return self._combined(">", value, COMPARISON)

    def at_least(self, value: float) -> "Vector":
        """What is a value or more."""
        return self._combined(">=", value, COMPARISON)

    def below(self, value: float) -> "Vector":
        """What is less than a value."""
        return self._combined("<", value, COMPARISON)

    def equal_to(self, value: float) -> "Vector":
        """What is just a value."""
        return self._combined("==", value, COMPARISON)

    def where(self, other: "Vector", *on: str) -> "Vector":
        """What has a match in another vector: the same labels, or the same values of those after `on`."""
        return self._matched("and", other, on)

    def unless(self, other: "Vector", *on: str) -> "Vector":
        """What has no such match in another vector."""
        return self._matched("unless", other, on)

    def otherwise(self, other: "Vector") -> "Vector":
        """This, and what another vector has beyond it."""
        self.require_gauge()
        other.require_gauge()
        text = f"{self.wrapped(EITHER)}\nor {other.wrapped(EITHER + 1)}"
        return Vector(text, Kind.GAUGE, self.labels | other.labels, EITHER)

    def wrapped(self, rank: int) -> str:
        """The text, in brackets where it would fall apart beside an operator of the rank."""
        return self.text if self.rank >= rank else f"({self.text})"

    def require_gauge(self) -> None:
        """Refuse what is only a figure once it is made a rate.

        Raises:
            QueryError: it is not a gauge.
        """
        if self.kind is not Kind.GAUGE:
            raise QueryError(f"only the growth of a counter is a figure: {self.text}")

    def require_series(self) -> None:
        """Refuse what has no range.

        Raises:
            QueryError: it is not a plain series.
        """
        if not self.selector:
            raise QueryError(f"not a plain series: {self.text}")

    def require_labels(self, wanted: Iterable[str], known: frozenset[str] = frozenset()) -> None:
        """Refuse labels that are not there.

        Raises:
            QueryError: some are neither the vector's own nor among `known`.
        """
        unknown = sorted(set(wanted) - self.labels - known)
        if unknown:
            raise QueryError(f"no labels {', '.join(unknown)}: {self.text}")

    def _combined(self, sign: str, other: "Vector | float", rank: int) -> "Vector":
        self.require_gauge()
        if isinstance(other, Vector):
            other.require_gauge()
            self._require_same_labels(other)
            right = other.wrapped(rank + 1)
        else:
            right = number(other)
        return Vector(f"{self.wrapped(rank)} {sign} {right}", Kind.GAUGE, self.labels, rank)

    def _matched(self, word: str, other: "Vector", on: tuple[str, ...]) -> "Vector":
        self.require_gauge()
        other.require_gauge()
        if on:
            self.require_labels(on, TARGET_LABELS)
            other.require_labels(on, TARGET_LABELS)
        else:
            self._require_same_labels(other)
        how = f" on ({', '.join(on)})" if on else ""
        return Vector(f"{self.wrapped(BOTH)}\n{word}{how} {other.wrapped(BOTH + 1)}", Kind.GAUGE, self.labels, BOTH)

    def _require_same_labels(self, other: "Vector") -> None:
        if self.labels != other.labels:
            raise QueryError(f"nothing can match: {sorted(self.labels)} and {sorted(other.labels)}: {self.text}")


def number(value: float) -> str:
    """A number as it stands in a query."""
    text = f"{value:.12f}"
    return text.rstrip("0").rstrip(".")
