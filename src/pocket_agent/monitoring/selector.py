"""Series of the catalogue, by their labels; a label or a value that they do not have is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pocket_agent.monitoring.vector import TARGET_LABELS, Kind, QueryError, Vector
from pocket_agent.observability.catalogue import Metric

_OPEN_LABELS: Final = frozenset(("model", "project"))
"""Labels that have more values than the catalogue lists: the settings add to them."""


@dataclass(frozen=True, slots=True, init=False)
class Not:
    """Matches every value of a label but these."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)


Wanted = str | Sequence[str] | Not
"""The value of a label, the values of which it must have one, or those that it must not have."""


def select(metric: Metric, /, **matchers: Wanted) -> Vector:
    """The series of a counter or a gauge.

    Raises:
        QueryError: it is a histogram, or has no such labels or values.
    """
    if metric.kind == "histogram":
        raise QueryError(f"{metric.name} is a histogram: ask for its buckets or its count")
    return _selected(metric, "", Kind.COUNTER if metric.kind == "counter" else Kind.GAUGE, matchers)


def buckets(metric: Metric, /, **matchers: Wanted) -> Vector:
    """All buckets of a histogram."""
    _require_histogram(metric)
    found = _selected(metric, "_bucket", Kind.BUCKETS, matchers)
    return replace(found, labels=found.labels | {"le"})


def bucket(metric: Metric, bound: float, /) -> Vector:
    """How many values of a histogram were at or below one of its bounds.

    Raises:
        QueryError: there is no bucket with such a bound.
    """
    _require_histogram(metric)
    if bound not in metric.buckets:
        raise QueryError(f"{metric.name} has no bucket {bound:g}")
    text = f'{metric.name}_bucket{{le="{bound_text(bound)}"}}'
    return Vector(text, Kind.COUNTER, frozenset((*metric.labels, "le")), selector=True)


def bound_text(bound: float) -> str:
    """A bound as a value of `le`: the client library writes 1 as 1.0, and so does Prometheus 3 with all."""
    return repr(float(bound))


def count(metric: Metric, /, **matchers: Wanted) -> Vector:
    """How many values a histogram has counted."""
    _require_histogram(metric)
    return _selected(metric, "_count", Kind.COUNTER, matchers)


def amount(metric: Metric, /, **matchers: Wanted) -> Vector:
    """The sum of the values that a histogram has counted."""
    _require_histogram(metric)
    return _selected(metric, "_sum", Kind.COUNTER, matchers)


def _selected(metric: Metric, suffix: str, kind: Kind, matchers: Mapping[str, Wanted]) -> Vector:
    texts = [_matcher(metric, label, wanted) for label, wanted in matchers.items()]
    _require_combination(metric, matchers)
    text = metric.name + suffix + (f"{{{', '.join(texts)}}}" if texts else "")
    return Vector(text, kind, frozenset(metric.labels) - TARGET_LABELS, selector=True)


def _values(wanted: Wanted) -> tuple[str, ...]:
    if isinstance(wanted, Not):
        return wanted.values
    return (wanted,) if isinstance(wanted, str) else tuple(wanted)


def _matcher(metric: Metric, label: str, wanted: Wanted) -> str:
    """The text of a condition; several values stand in the catalogue's order, so that it is always the same."""
    if label not in metric.labels:
        raise QueryError(f"{metric.name} has no label {label}")
    known, values = metric.labels[label], _values(wanted)
    if not values:
        raise QueryError(f"{metric.name}: no value for {label}")
    for value in values:
        if known and value not in known and label not in _OPEN_LABELS:
            raise QueryError(f"{metric.name}: {label} is never {value}")
        if not value.replace("_", "").replace("-", "").isalnum():
            raise QueryError(f"{metric.name}: {label} {value!r} would need quoting")
    ordered = sorted(values, key=lambda value: (known.index(value) if value in known else len(known), value))
    one, several = ("!=", "!~") if isinstance(wanted, Not) else ("=", "=~")
    sign = one if len(ordered) == 1 else several
    return f'{label}{sign}"{"|".join(ordered)}"'


def _require_combination(metric: Metric, matchers: Mapping[str, Wanted]) -> None:
    """Refuse values that never occur together."""
    wanted = {label: _values(value) for label, value in matchers.items() if not isinstance(value, Not)}
    for row in metric.combinations:
        values = dict(zip(metric.labels, row, strict=True))
        if all(values[label] in allowed for label, allowed in wanted.items()):
            return
    if metric.combinations:
        raise QueryError(f"{metric.name}: never together: {wanted}")


def _require_histogram(metric: Metric) -> None:
    if metric.kind != "histogram":
        raise QueryError(f"{metric.name} is no histogram")
