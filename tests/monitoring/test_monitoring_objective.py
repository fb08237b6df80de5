"""Objectives: what is promised, and at which pace a budget may not burn."""

import pytest

from pocket_agent.config.settings import AlertSettings, ObjectiveSettings, Settings
from pocket_agent.monitoring.objective import (
    BURNS,
    FAST,
    LATENCY_SECONDS,
    LEAST_EVENTS,
    MONTH,
    OBJECTIVES,
    SLOW,
    burn_alerts,
    recordings,
)
from pocket_agent.monitoring.period import days, hours, minutes
from pocket_agent.observability.catalogue import REQUEST_DURATION


def test_the_objectives_are_those_that_are_promised() -> None:
    promised = {"requests-availability": 0.999, "requests-latency": 0.99, "executions-success": 0.95}
    assert {objective.name: objective.target(Settings()) for objective in OBJECTIVES} == promised
    assert days(30) == MONTH
    assert LATENCY_SECONDS in REQUEST_DURATION.buckets


def test_the_burn_rates_are_those_that_are_promised() -> None:
    found = {(severity, burn.rate): (burn.long, burn.short) for severity in BURNS for burn in BURNS[severity]}
    assert found == {
        ("critical", 14.4): (hours(1), minutes(5)),
        ("critical", 6): (hours(6), minutes(30)),
        ("warning", 3): (days(1), hours(2)),
        ("warning", 1): (days(3), hours(6)),
    }
    assert LEAST_EVENTS == 20


def test_each_objective_has_an_alert_of_each_severity() -> None:
    alerts = list(burn_alerts(Settings()))
    assert {alert.name for alert in alerts} == {"ErrorBudgetBurn"}
    expected = [(objective.name, severity) for objective in OBJECTIVES for severity in ("critical", "warning")]
    assert [(alert.constants["slo"], alert.severity) for alert in alerts] == expected


def test_what_alerts_ask_for_is_recorded_before() -> None:
    recorded = [recording.name for recording in recordings((*FAST, *SLOW))]
    for alert in burn_alerts(Settings()):
        asked = {part.split("{")[0] for part in alert.query.text.split() if part.startswith("job_")}
        assert len(asked) == 6
        assert asked <= set(recorded)


@pytest.mark.parametrize("promised", [0.94, 0.9999])
def test_each_pace_can_be_reached(promised: float) -> None:
    """No share is above 1, so no threshold may be."""
    objectives = ObjectiveSettings(availability=promised, latency=promised, success=promised)
    settings = Settings(alerts=AlertSettings(objectives=objectives))
    for objective in OBJECTIVES:
        assert objective.budget(settings) == round(1 - promised, 6)
        assert all(burn.rate * objective.budget(settings) < 1 for burns in BURNS.values() for burn in burns)
