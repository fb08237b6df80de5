"""The functions of Prometheus's query language; one that its argument does not suit is refused.

Queries are built when their module is imported, so a label that a metric does not have, a value that the label
never has, or a rate of a gauge shows at once.
"""

from dataclasses import replace

from pocket_agent.monitoring.period import Period
from pocket_agent.monitoring.variable import Variable
from pocket_agent.monitoring.vector import ATOM, SUM, Kind, QueryError, Vector, number


def rate(vector: Vector, window: Period | Variable) -> Vector:
    """The growth of counters a second."""
    return _growth("rate", vector, window)


def increase(vector: Vector, window: Period | Variable) -> Vector:
    """The growth of counters."""
    return _growth("increase", vector, window)


def changes(vector: Vector, window: Period) -> Vector:
    """How often gauges changed."""
    return _over_time("changes({})", vector, window)


def minimum(vector: Vector, window: Period) -> Vector:
    """The smallest value that gauges had."""
    return _over_time("min_over_time({})", vector, window)


def foreseen(vector: Vector, window: Period, ahead: Period, step: Period) -> Vector:
    """What gauges will be when they go on as they did.

    Args:
        vector: any query; one that leaves values out foresees without those.
        window: how far to look back.
        ahead: how far to look ahead.
        step: time between two values that are looked at.
    """
    vector.require_gauge()
    text = f"predict_linear({vector.wrapped(ATOM)}[{window}:{step}], {number(ahead.seconds)})"
    return Vector(text, Kind.GAUGE, vector.labels)


def before(vector: Vector, ago: Period) -> Vector:
    """What series were some time ago."""
    vector.require_series()
    return replace(vector, text=f"{vector.text} offset {ago}", selector=False)


def total(vector: Vector, *without: str) -> Vector:
    """The sum over some labels; the others, and those of the target, stay.

    Raises:
        QueryError: the vector has no such labels, or its counters were not made rates before.
    """
    vector.require_labels(without)
    if vector.kind in {Kind.COUNTER, Kind.BUCKETS}:
        raise QueryError(f"a sum of counters loses their resets: take the rate first: {vector.text}")
    if vector.kind is Kind.BUCKET_RATES and "le" in without:
        raise QueryError(f"buckets without `le` count every value several times: {vector.text}")
    if not without:
        return vector
    text = f"sum without ({', '.join(without)}) ({vector.text})"
    return Vector(text, vector.kind, vector.labels - set(without))


def total_by(vector: Vector, *labels: str) -> Vector:
    """The sum by the target and some labels, for metrics of others, which may have more than are known here."""
    return _by("sum", vector, labels)


def lowest(vector: Vector, *without: str) -> Vector:
    """The smallest value over some labels."""
    vector.require_gauge()
    vector.require_labels(without)
    if not without:
        raise QueryError(f"the smallest over which labels? {vector.text}")
    text = f"min without ({', '.join(without)}) ({vector.text})"
    return Vector(text, Kind.GAUGE, vector.labels - set(without))


def highest_by(vector: Vector, *labels: str) -> Vector:
    """The greatest value by the target and some labels, where there are more labels than are known here."""
    return _by("max", vector, labels)


def tally(vector: Vector) -> Vector:
    """How many results there are, of all targets; nothing at all where there are none."""
    vector.require_gauge()
    return Vector(f"count({vector.text})", Kind.GAUGE, frozenset())


def quantile(share: float, vector: Vector) -> Vector:
    """The value that a share of a histogram's values do not exceed.

    Raises:
        QueryError: these are not the rates of buckets.
    """
    if vector.kind is not Kind.BUCKET_RATES or "le" not in vector.labels:
        raise QueryError(f"a quantile needs the rates of buckets: {vector.text}")
    return Vector(f"histogram_quantile({number(share)}, {vector.text})", Kind.GAUGE, vector.labels - {"le"})


def complement(share: Vector) -> Vector:
    """What is missing to 1."""
    share.require_gauge()
    return Vector(f"1 - {share.wrapped(SUM + 1)}", Kind.GAUGE, share.labels, SUM)


def elapsed(since: Vector) -> Vector:
    """Seconds since a point in time."""
    since.require_gauge()
    return Vector(f"time() - {since.wrapped(SUM + 1)}", Kind.GAUGE, since.labels, SUM)


def remaining(until: Vector) -> Vector:
    """Seconds until a point in time."""
    until.require_gauge()
    return Vector(f"{until.wrapped(SUM)} - time()", Kind.GAUGE, until.labels, SUM)


def ceiling(vector: Vector) -> Vector:
    """The next whole number."""
    vector.require_gauge()
    return Vector(f"ceil({vector.text})", Kind.GAUGE, vector.labels)


def absent(vector: Vector) -> Vector:
    """1 when there are no such series at all; without labels but those that were asked for by one value."""
    vector.require_series()
    return Vector(f"absent({vector.text})", Kind.GAUGE, frozenset())


def constant(value: float) -> Vector:
    """A value that is always there."""
    return Vector(f"vector({number(value)})", Kind.GAUGE, frozenset())


def _growth(function: str, vector: Vector, window: Period | Variable) -> Vector:
    if vector.kind not in {Kind.COUNTER, Kind.BUCKETS}:
        raise QueryError(f"{function} is for counters: {vector.text}")
    vector.require_series()
    kind = Kind.BUCKET_RATES if vector.kind is Kind.BUCKETS else Kind.GAUGE
    return Vector(f"{function}({vector.text}[{window}])", kind, vector.labels)


def _by(function: str, vector: Vector, labels: tuple[str, ...]) -> Vector:
    vector.require_gauge()
    vector.require_labels(labels)
    text = f"{function} by ({', '.join(('job', 'instance', *labels))}) ({vector.text})"
    return Vector(text, Kind.GAUGE, frozenset(labels))


def _over_time(form: str, vector: Vector, window: Period) -> Vector:
    vector.require_gauge()
    vector.require_series()
    return Vector(form.format(f"{vector.text}[{window}]"), Kind.GAUGE, vector.labels)
