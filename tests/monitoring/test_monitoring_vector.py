"""What two queries can be made into, where brackets stand, and what is refused."""

import json
import math
import operator
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pocket_agent.monitoring.period import minutes
from pocket_agent.monitoring.promql import ceiling, complement, constant, rate, total
from pocket_agent.monitoring.selector import buckets, select
from pocket_agent.monitoring.vector import QueryError, Vector, number
from pocket_agent.observability import catalogue
from tests.harness.tool import require_tool

USAGE = select(catalogue.LIMIT_USAGE)
LIMIT = select(catalogue.LIMIT)
ACTIVE = select(catalogue.CONNECTIONS_ACTIVE)
PROJECTS = select(catalogue.PROJECTS_TOTAL)
CHECKS = select(catalogue.HEALTH_CHECK_UP)
ERRORS = select(catalogue.ERRORS_TOTAL)


def test_brackets_stand_where_a_query_would_fall_apart() -> None:
    assert (USAGE / LIMIT.above(0)).text == "pocket_agent_limit_usage / (pocket_agent_limit > 0)"
    assert (USAGE / (LIMIT / 2)).text == "pocket_agent_limit_usage / (pocket_agent_limit / 2)"
    assert complement(USAGE - LIMIT).text == "1 - (pocket_agent_limit_usage - pocket_agent_limit)"
    assert (complement(USAGE) / LIMIT).text == "(1 - pocket_agent_limit_usage) / pocket_agent_limit"
    either = USAGE.otherwise(LIMIT)
    assert either.where(LIMIT).text == ("(pocket_agent_limit_usage\nor pocket_agent_limit)\nand pocket_agent_limit")


def test_brackets_stand_nowhere_else() -> None:
    assert (USAGE / LIMIT / 2).above(0.9).text == "pocket_agent_limit_usage / pocket_agent_limit / 2 > 0.9"
    assert (USAGE * 2 + LIMIT).text == "pocket_agent_limit_usage * 2 + pocket_agent_limit"
    chain = USAGE.above(1).where(LIMIT.below(2)).unless(LIMIT.equal_to(3)).otherwise(LIMIT)
    assert chain.text.splitlines() == [
        "pocket_agent_limit_usage > 1",
        "and pocket_agent_limit < 2",
        "unless pocket_agent_limit == 3",
        "or pocket_agent_limit",
    ]


def test_vectors_match_by_all_labels_or_by_some() -> None:
    assert CHECKS.where(ACTIVE, "job", "instance").text == (
        "pocket_agent_health_check_up\nand on (job, instance) pocket_agent_connections_active"
    )
    assert CHECKS.unless(CHECKS.equal_to(0), "check").labels == {"check"}
    with pytest.raises(QueryError, match=r"nothing can match: \['check'\] and \[\]"):
        CHECKS.where(ACTIVE)
    with pytest.raises(QueryError, match="no labels check"):
        ACTIVE.where(CHECKS, "check")
    with pytest.raises(QueryError, match="no labels check"):
        CHECKS.where(ACTIVE, "check")


def test_what_has_other_labels_cannot_be_reckoned_with() -> None:
    for combine in (Vector.__truediv__, Vector.__mul__, Vector.__add__, Vector.__sub__):
        with pytest.raises(QueryError, match="nothing can match"):
            combine(CHECKS, ACTIVE)
        assert combine(ACTIVE, PROJECTS).labels == frozenset()


def test_either_of_two_has_the_labels_of_both() -> None:
    assert CHECKS.otherwise(USAGE).labels == {"check", "limit"}


def test_a_counter_is_no_figure() -> None:
    uses: tuple[Callable[[], Vector], ...] = (
        lambda: ERRORS.above(0),
        lambda: ERRORS / 2,
        lambda: ACTIVE / ERRORS,
        lambda: ERRORS.where(ACTIVE, "job"),
        lambda: ACTIVE.unless(ERRORS, "job"),
        lambda: ERRORS.otherwise(ACTIVE),
        lambda: ACTIVE.otherwise(ERRORS),
        lambda: buckets(catalogue.PING_RTT).above(0),
        lambda: rate(buckets(catalogue.PING_RTT), minutes(5)).above(0),
    )
    for use in uses:
        with pytest.raises(QueryError, match="only the growth of a counter is a figure"):
            use()
    assert total(rate(ERRORS, minutes(5)), "code", "operation").above(0).labels == frozenset()


def test_numbers_stand_in_full() -> None:
    written = {0.05: "0.05", 1209600.0: "1209600", 2**50: "1125899906842624", 0.0144: "0.0144", -1.5: "-1.5", 0: "0"}
    assert {value: number(value) for value in written} == written
    assert number(14.4 * 0.001) == "0.0144", "what a product has too much is left out"


class Tree(NamedTuple):
    """A query with what it must give; None for nothing."""

    query: Vector
    value: float | None


REMAINDERS = (
    (Vector.above, operator.gt),
    (Vector.at_least, operator.ge),
    (Vector.below, operator.lt),
    (Vector.equal_to, operator.eq),
)
FIGURES: tuple[tuple[Callable[[Vector, Vector], Vector], Callable[[float, float], float]], ...] = (
    (Vector.__truediv__, lambda one, two: one / two if two else math.nan),
    (Vector.__mul__, operator.mul),
    (Vector.__add__, operator.add),
    (Vector.__sub__, operator.sub),
)
SETS: tuple[tuple[Callable[[Vector, Vector], Vector], Callable[[float | None, float | None], float | None]], ...] = (
    (Vector.where, lambda one, two: one if two is not None else None),
    (Vector.unless, lambda one, two: one if two is None else None),
    (Vector.otherwise, lambda one, two: two if one is None else one),
)
ALONE: tuple[tuple[Callable[[Vector], Vector], Callable[[float], float]], ...] = (
    (complement, lambda one: 1 - one),
    (ceiling, lambda one: float(math.ceil(one)) if math.isfinite(one) else one),
)


def grown(dice: random.Random, depth: int) -> Tree:
    """A query of numbers, at random."""
    if depth == 0:
        value = float(dice.randint(1, 9))
        return Tree(constant(value), value)
    one, two = grown(dice, dice.randrange(depth)), grown(dice, dice.randrange(depth))
    kind = dice.choice(["remainder", "figure", "set", "alone"])
    if kind == "remainder":
        (build, holds), edge = dice.choice(REMAINDERS), float(dice.randint(0, 5))
        return Tree(build(one.query, edge), one.value if one.value is not None and holds(one.value, edge) else None)
    if kind == "figure":
        make, reckon = dice.choice(FIGURES)
        missing = one.value is None or two.value is None
        return Tree(make(one.query, two.query), None if missing else reckon(one.value or 0.0, two.value or 0.0))
    if kind == "set":
        match, choose = dice.choice(SETS)
        return Tree(match(one.query, two.query), choose(one.value, two.value))
    alter, become = dice.choice(ALONE)
    return Tree(alter(one.query), become(one.value) if one.value is not None else None)


def test_prometheus_understands_each_query_as_it_was_built(tmp_path: Path) -> None:
    """A thousand of them at random, each with all kinds of operators in one another."""
    dice = random.Random("precedence")  # noqa: S311 - nothing is secret
    grove = (grown(dice, 5) for _ in range(2000))
    trees = [tree for tree in grove if tree.value is None or math.isfinite(tree.value)][:1000]
    questions = [
        {
            "expr": tree.query.text,
            "eval_time": "1m",
            "exp_samples": [] if tree.value is None else [{"labels": "{}", "value": tree.value}],
        }
        for tree in trees
    ]
    assert sum(tree.value is None for tree in trees) > 100
    assert len({tree.value for tree in trees}) > 100
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "promql_expr_test": questions}]}), "utf-8")
    said = subprocess.run(
        [require_tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout[-3000:]
