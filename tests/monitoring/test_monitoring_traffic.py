"""The alerts over the traffic of one developer: no false page, and each outage pages within five minutes."""

import random
from pathlib import Path

import pytest

from tests.monitoring.traffic_sample import (
    DAYS,
    OUTAGES,
    PAGES,
    Outage,
    Traffic,
    developer,
    evaluate,
    executions_fail,
    requests_fail,
    server_is_killed,
    sitting,
)

FIRED = 'count by (alertname, severity, slo) (count_over_time(ALERTS{alertstate="firing"}[1d]))'
FIRST_PAGE = 'min(min_over_time(timestamp(ALERTS{alertstate="firing", severity="critical"})[1d:15s]))'
HOUR = 3600


def seconds_to_page(folder: Path, outage: Outage, seed: int) -> float:
    """From the start of an outage, which comes an hour after the user began to work."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    traffic = Traffic(480)
    sitting(traffic, chance, 0, 40, compiles=False)
    start = HOUR + chance.uniform(0, 60)
    outage(traffic, chance, start, start + HOUR / 2)
    (at,) = evaluate(folder, traffic, FIRST_PAGE, PAGES).values()
    return at - start


@pytest.mark.parametrize("compiles", [False, True])
def test_nobody_is_paged_about_a_few_odd_requests(tmp_path: Path, compiles: bool) -> None:
    traffic = Traffic(720)
    chance = random.Random(0)  # noqa: S311 - a simulation
    sitting(traffic, chance, HOUR, 100, compiles=compiles)
    assert evaluate(tmp_path, traffic, FIRED, PAGES + DAYS) == {}


@pytest.mark.parametrize("outage", [requests_fail, executions_fail, server_is_killed])
def test_an_outage_pages_within_five_minutes(tmp_path: Path, outage: Outage) -> None:
    assert 0 < seconds_to_page(tmp_path, outage, seed=1) <= 300


@pytest.mark.soak
@pytest.mark.parametrize("outage", OUTAGES)
def test_each_outage_pages_within_five_minutes_whenever_it_begins(tmp_path: Path, outage: Outage) -> None:
    took = [seconds_to_page(tmp_path / str(seed), outage, seed) for seed in range(10)]
    print(f"\n{outage.__name__}: page after {min(took):.0f} to {max(took):.0f} s")
    assert min(took) > 0
    assert max(took) <= 300


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seed", "most"), [(1, 300), (2, 300), (3, 60)])
def test_a_month_of_a_developer_pages_nobody(tmp_path: Path, seed: int, most: int) -> None:
    traffic = developer(30, seed, most)
    assert evaluate(tmp_path / "pages", traffic, FIRED, PAGES, interval=60) == {}
    assert evaluate(tmp_path / "days", traffic, FIRED, DAYS, interval=900) == {}
