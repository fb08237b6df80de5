"""Spans of time, written as Prometheus writes them."""

from pathlib import Path

import pytest

from pocket_agent.monitoring.period import Period, days, hours, minutes, seconds
from tests.harness.prometheus import running_prometheus

TEXTS = {
    Period(0): "0s",
    Period(1): "1ms",
    seconds(1.5): "1s500ms",
    seconds(90): "1m30s",
    minutes(5): "5m",
    minutes(90): "1h30m",
    hours(24): "1d",
    hours(36): "1d12h",
    days(7): "1w",
    days(8): "8d",
    days(30): "30d",
    days(365): "1y",
    days(366): "366d",
    days(371): "53w",
    days(1) + seconds(1): "1d1s",
}


@pytest.mark.parametrize(("period", "text"), TEXTS.items(), ids=list(TEXTS.values()))
def test_a_period_has_one_text(period: Period, text: str) -> None:
    assert str(period) == text


async def test_prometheus_writes_them_the_same_way(tmp_path: Path) -> None:
    async with running_prometheus(tmp_path, {}) as prometheus:
        for text in list(TEXTS.values())[1:]:
            query = f"min_over_time(up[{text}])"
            assert await prometheus.get("format_query", query=query) == query


def test_a_period_has_a_length() -> None:
    assert minutes(2).seconds == 120
    assert seconds(0.0004) == Period(0)
    assert minutes(1) < hours(1) < days(1)


def test_periods_are_added_subtracted_and_scaled() -> None:
    assert minutes(1) + seconds(30) == seconds(90)
    assert minutes(1) - seconds(30) == seconds(30)
    assert minutes(1) - hours(1) == Period(0), "there is no time before"
    assert minutes(2).scaled(0.01) == seconds(1.2)
    assert minutes(2).scaled(0) == Period(0)
    assert Period(1).scaled(0.4) == Period(0)
