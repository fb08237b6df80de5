"""Series of the catalogue, by their labels; a label or a value that they do not have is refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pocket_agent.monitoring.variable import Variable
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


@dataclass(frozen=True, slots=True)
class Unlike:
    """Matches every value of a label but those of a form; only for labels whose values nobody can list.

    Attributes:
        form: a regular expression for the whole value.
    """

    form: str

    def __post_init__(self) -> None:
        re.compile(self.form)
        if not set('"\\ ').isdisjoint(self.form):
            raise QueryError(f"{self.form} would need quoting")


Wanted = str | Sequence[str] | Not | Unlike
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


def picked(series: Vector, metric: Metric, /, **matchers: Wanted) -> Vector:
    """Those of some series, such as those that a rule recorded, whose labels have values that a metric knows.

    Args:
        series: plain series.
        metric: what the series were made of.
        matchers: the values of labels of the series, or of their target.

    Raises:
        QueryError: the series are not plain or have no such labels, or the metric has no such values.
    """
    return _with_conditions(series, {label: _matcher(metric, label, wanted) for label, wanted in matchers.items()})


def narrowed(series: Vector, /, **variables: Variable) -> Vector:
    """Those of some plain series whose labels have the values that were chosen on a dashboard.

    Raises:
        QueryError: the series are not plain, or have no such labels.
    """
    return _with_conditions(series, {label: f'{label}="{variable}"' for label, variable in variables.items()})


def _with_conditions(series: Vector, conditions: Mapping[str, str]) -> Vector:
    series.require_series()
    series.require_labels(conditions, TARGET_LABELS)
    name, _, present = series.text.removesuffix("}").partition("{")
    # Sorted, as Prometheus prints them; no value has a comma and a blank in it.
    texts = sorted((*filter(None, present.split(", ")), *conditions.values()))
    return replace(series, text=f"{name}{{{', '.join(texts)}}}")


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


def _values(wanted: str | Sequence[str] | Not) -> tuple[str, ...]:
    if isinstance(wanted, Not):
        return wanted.values
    return (wanted,) if isinstance(wanted, str) else tuple(wanted)


def _matcher(metric: Metric, label: str, wanted: Wanted) -> str:
    """The text of a condition; several values stand in the catalogue's order, so that it is always the same."""
    if label not in metric.labels:
        raise QueryError(f"{metric.name} has no label {label}")
    known = metric.labels[label]
    if isinstance(wanted, Unlike):
        if known:
            raise QueryError(f"{metric.name}: the values of {label} are known: name those that are meant")
        return f'{label}!~"{wanted.form}"'
    values = _values(wanted)
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
    wanted = {label: _values(value) for label, value in matchers.items() if not isinstance(value, Not | Unlike)}
    for row in metric.combinations:
        values = dict(zip(metric.labels, row, strict=True))
        if all(values[label] in allowed for label, allowed in wanted.items()):
            return
    if metric.combinations:
        raise QueryError(f"{metric.name}: never together: {wanted}")


def _require_histogram(metric: Metric) -> None:
    if metric.kind != "histogram":
        raise QueryError(f"{metric.name} is no histogram")
