"""Histograms of a rule test: cumulative buckets out of what falls into each of them, and where a quantile lies."""

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise

from pocket_agent.monitoring.ruletest.case import ONE, Series, series
from pocket_agent.monitoring.ruletest.course import Course, always, total
from pocket_agent.monitoring.selector import bound_text
from pocket_agent.observability.catalogue import Metric


def histogram(
    metric: Metric, counts: Mapping[float, Course], *, server: Mapping[str, str] = ONE, **labels: str
) -> list[Series]:
    """The series of a histogram.

    Args:
        metric: what it is of.
        counts: how many values fell into each bucket, by its upper bound; what is left out stays empty.
        server: the labels of its target.
        labels: its own.
    """
    bounds = (*metric.buckets, math.inf)
    courses = list(accumulate((counts.get(bound, always(0)) for bound in bounds), total))
    found = [
        series(metric, course, server=server, suffix="_bucket", le=_text(bound), **labels)
        for bound, course in zip(bounds, courses, strict=True)
    ]
    return [*found, series(metric, courses[-1], server=server, suffix="_count", **labels)]


def _text(bound: float) -> str:
    return "+Inf" if bound == math.inf else bound_text(bound)


def buckets_around(metric: Metric, share: float, wanted: float) -> tuple[float, Mapping[float, float]]:
    """Values whose quantile lies at a point.

    Args:
        metric: whose buckets they fall into.
        share: of the quantile.
        wanted: where it should be, above 0 and at most at the last bound.

    Returns:
        Where it is (histogram_quantile is linear within a bucket), and how much of all falls into each bucket.
    """
    low, high = next((low, high) for low, high in pairwise((0.0, *metric.buckets)) if wanted <= high)
    part = (wanted - low) / (high - low)
    if part <= share and low > 0:
        below = (share - part) / (1 - part)
        return wanted, {low: below, high: 1 - below}
    inside = min(1.0, share / part)
    return low + (high - low) * share / inside, {high: inside, math.inf: 1 - inside}
