"""What a series of a rule test holds, as promtool reads it and as Prometheus reckons with it."""

import json
import math
from pathlib import Path

import pytest

from pocket_agent.monitoring.ruletest.case import ONE, Series, series
from pocket_agent.monitoring.ruletest.course import EARLY, Course, always, changes, figure, increase, never, total
from pocket_agent.monitoring.ruletest.histogram import buckets_around, histogram
from pocket_agent.monitoring.vector import QueryError
from pocket_agent.observability import catalogue
from tests.monitoring.rule_sample import promtool


def test_a_course_is_told_in_promtools_notation() -> None:
    expected = {
        "1x4": always(1),
        "1x1 0x2": always(1).then(2, 0),
        "1 5x3": always(1).then(1, 5),
        "0x1 2+2x2": always(0).growing(2, 2),
        "9x1 6-3x2": always(9).growing(2, -3),
        "1x1 stale _x2": always(1).gone(2),
        "1x3 stale": always(1).gone(4),
        "_x3 1x1": never().then(3, 1),
        "_x5": never(),
        "1x1 NaN NaN NaN": always(1).then(2, math.nan),
        "0.5x1 1 1.25+0.25x1": always(0.5).growing(2, 0.5).growing(3, 0.25),
    }
    assert {course.notation(4): course for course in expected.values()} == expected


def test_what_comes_after_the_end_is_left_out() -> None:
    assert always(1).then(10, 2).notation(3) == "1x3"
    assert always(1).notation(0) == "1"


def test_a_course_is_told_from_the_beginning() -> None:
    with pytest.raises(ValueError, match="tick 2 is before"):
        always(1).then(3, 2).then(2, 1)


def test_figures_read_back() -> None:
    values = [0.0, 1.0, -2.0, 0.1, 1e-9, 2.0**50, 1234567.891]
    assert [float(figure(value)) for value in values] == values
    assert (figure(3.0), figure(math.nan)) == ("3", "NaN")


def test_courses_add_up() -> None:
    both = total(always(1).growing(2, 1), always(10).then(3, 0))
    assert [both.value(tick) for tick in range(5)] == [11, 11, 12, 3, 4]


def test_a_value_that_is_not_there_is_none() -> None:
    course = never().then(2, 7).gone(3)
    assert [(course.there(tick), course.value(tick)) for tick in range(4)] == [
        (False, 0),
        (False, 0),
        (True, 7),
        (False, 0),
    ]


GROWING: dict[str, Course] = {
    "evenly": always(1000).growing(1, 3),
    "since lately": always(1000).growing(18, 3),
    "at once": always(1000).then(17, 1005),
    "from nothing": always(0).growing(18, 3),
    "at once from nothing": always(0).then(17, 5),
    "with a restart": always(1000).growing(1, 3).then(17, 0).growing(18, 2),
    "not at all": always(1000),
    "restarted only": always(1000).then(17, 0),
}


@pytest.mark.parametrize("course", GROWING.values(), ids=list(GROWING))
def test_prometheus_reckons_the_same_growth(course: Course, tmp_path: Path) -> None:
    questions = [
        {
            "expr": f"round(increase(x[{window}m]), 0.000001)",
            "eval_time": "20m",
            "exp_samples": [{"labels": "{}", "value": round(increase([course], 20, window), 6)}],
        }
        for window in (5, 10, 15)
    ]
    test = {
        "interval": f"{60_000 - EARLY.milliseconds}ms",
        "input_series": [{"series": "x", "values": course.notation(20)}],
        "promql_expr_test": questions,
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"tests": [test]}), "utf-8")
    status, said = promtool("test", "rules", file)
    assert status == 0, said


def test_changes_are_counted() -> None:
    toggling = always(1).then(3, 0).then(4, 1).then(5, 0)
    assert [changes(toggling, tick, 30) for tick in range(7)] == [0, 0, 0, 1, 2, 3, 3]
    assert changes(toggling, 40, 30) == 0


def test_series_have_the_labels_of_their_metric() -> None:
    made = series(catalogue.LIMIT, always(1), limit="projects")
    assert made == Series("pocket_agent_limit", {"limit": "projects", **ONE}, always(1))
    assert made.render(0)["series"].startswith('pocket_agent_limit{limit="projects", job="pocket-agent", instance="one')
    with pytest.raises(QueryError, match=r"has the labels \['limit'\], not \['kind'\]"):
        series(catalogue.LIMIT, always(1), kind="projects")


def test_a_histogram_has_all_its_buckets_and_its_count() -> None:
    found = histogram(catalogue.PING_RTT, {0.05: always(3), math.inf: always(2)})
    values = {(each.name.rpartition("_")[2], each.labels.get("le")): each.course.value(0) for each in found}
    assert values == {
        ("bucket", "0.01"): 0,
        ("bucket", "0.05"): 3,
        ("bucket", "0.25"): 3,
        ("bucket", "1.0"): 3,
        ("bucket", "5.0"): 3,
        ("bucket", "+Inf"): 5,
        ("count", None): 5,
    }


@pytest.mark.parametrize("wanted", [1.0, 2.0, 119.0, 120.0, 121.2, 295.0, 600.0])
def test_values_are_put_where_their_quantile_lies_at_a_point(wanted: float) -> None:
    at, shares = buckets_around(catalogue.EXECUTION_DURATION, 0.95, wanted)
    assert at == pytest.approx(wanted)
    assert sum(shares.values()) == pytest.approx(1)


def test_a_quantile_below_the_first_bucket_cannot_be_had() -> None:
    at, shares = buckets_around(catalogue.EXECUTION_DURATION, 0.95, 0.5)
    assert (at, shares) == (0.95, {1: 1.0, math.inf: 0.0})
