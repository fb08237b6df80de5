"""Tests of the rules, for `promtool test rules`: they follow the settings as the rules do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert import group_alerts
from pocket_agent.monitoring.objective import OBJECTIVES, burn_alerts
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file
from pocket_agent.monitoring.period import Period, minutes
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.rulefile import (
    OBJECTIVE,
    OBJECTIVE_ALERT,
    OBJECTIVE_DAYS,
    RECORDING,
    alert_group,
    runbook_address,
)
from pocket_agent.monitoring.ruletest import availability, execution, fault, pipeline, saturation
from pocket_agent.monitoring.ruletest.case import Case, Pace, Story, pace_of, render_case
from pocket_agent.monitoring.ruletest.objective import counted_cases, recorded_cases
from pocket_agent.monitoring.ruletest.recording import LAST, recording_tests

STORIES: Final[Mapping[str, Story]] = {
    "ServiceDown": availability.service_down,
    "PocketAgentFlapping": availability.flapping,
    "WebSocketProbeFailed": availability.probe_failed,
    "TLSCertificateExpiring": availability.certificate_expiring,
    "HealthCheckFailing": availability.check_failing,
    "HighErrorRate": fault.error_rate,
    "StorageErrors": fault.storage_errors,
    "ConnectionsRejected": fault.connections_rejected,
    "SlowConsumersDropped": fault.consumers_dropped,
    "ExecutionsFailing": execution.executions_failing,
    "SlowExecutions": execution.slow_executions,
    "NoExecutionsRecently": execution.no_executions,
    "ClaudeCostBudget": saturation.cost,
    "TooManyConnections": saturation.connections,
    "LimitNearlyReached": saturation.limits,
    "HighMemoryUsage": saturation.memory,
    "FileDescriptorsHigh": saturation.files,
    "DiskSpaceLow": saturation.disk_low,
    "DiskWillFillIn24h": saturation.disk_filling,
    "EventLoopLagHigh": saturation.loop_lag,
    "MetricLabelOverflow": pipeline.label_overflow,
    "TelemetryDropped": pipeline.telemetry_dropped,
    "MonitoringTargetDown": pipeline.target_down,
    "AlertDeliveryFailing": pipeline.delivery_failing,
    "Watchdog": pipeline.watchdog,
}
"""The cases of each alert but those of the objectives."""
_TICKS: Final = {"DiskWillFillIn24h": minutes(5)}
"""The time between two samples, where it is not a minute."""


@dataclass(frozen=True, slots=True)
class RuleTests:
    """The tests of one file.

    Attributes:
        name: of the file, without its suffix.
        rules: the files of rules that they need, without the suffix.
        interval: between two evaluations.
        groups: the groups of rules in the order of their evaluation, where that counts.
        cases: with the alert that each is about, and its pace.
        further: tests that are no cases of alerts.
    """

    name: str
    rules: tuple[str, ...]
    interval: Period
    cases: tuple[tuple[Case, Alert, Pace], ...]
    groups: tuple[str, ...] = ()
    further: tuple[dict[str, Any], ...] = ()

    def render(self, runbooks: str) -> dict[str, Any]:
        """The content of the file."""
        tests = [render_case(case, alert, pace, runbooks) for case, alert, pace in self.cases]
        return {
            "rule_files": [f"../rules/{name}.yml" for name in self.rules],
            "evaluation_interval": str(self.interval),
            **({"group_eval_order": list(self.groups)} if self.groups else {}),
            "tests": [*tests, *self.further],
        }


def rule_tests(settings: Settings) -> Sequence[RuleTests]:
    """The tests of all rules."""
    found = []
    for subject, alerts in group_alerts(settings).items():
        for alert in alerts:
            pace = pace_of(alert, settings, tick=_TICKS.get(alert.name))
            cases = tuple((case, alert, pace) for case in STORIES[alert.name](alert, settings, pace))
            found.append(RuleTests(alert.name, (alert_group(subject),), _interval(pace), cases))
    recordings = RuleTests("recording", (RECORDING, OBJECTIVE), minutes(LAST), (), further=tuple(recording_tests()))
    return [*found, *_objective_tests(settings), recordings]


def _objective_tests(settings: Settings) -> Sequence[RuleTests]:
    alerts = list(burn_alerts(settings))
    # One file has one interval, so the one that must hold longest says how fast time goes.
    step = max(pace_of(alert, settings).step for alert in alerts)
    paced = [(alert, pace_of(alert, settings, step=step)) for alert in alerts]
    of = {objective.name: objective for objective in OBJECTIVES}
    cases = tuple(
        (case, alert, pace)
        for alert, pace in paced
        for case in recorded_cases(of[alert.constants["slo"]], alert, settings, pace)
    )
    counted = tuple((case, *paced[0]) for case in counted_cases(settings, paced))
    name, interval = alerts[0].name, _interval(paced[0][1])
    order = (OBJECTIVE, OBJECTIVE_DAYS, OBJECTIVE_ALERT)
    return [
        RuleTests(name, (OBJECTIVE_ALERT,), interval, cases),
        RuleTests(f"{name}-counted", (OBJECTIVE, OBJECTIVE_ALERT), interval, counted, order),
    ]


def _interval(pace: Pace) -> Period:
    return Period(pace.step * pace.tick.milliseconds)


def rule_test_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/tests/*.yml`."""
    runbooks = runbook_address(settings)
    return [
        yaml_file(f"prometheus/tests/{tests.name}.yml", _head(tests.name), tests.render(runbooks))
        for tests in rule_tests(settings)
    ]


def _head(name: str) -> Head:
    return Head(
        what=f"Tests of the rules: {name}.",
        place="beside rules/, wherever that is; Prometheus does not read it",
        reload="nothing to reload: promtool test rules FILE",
    )
