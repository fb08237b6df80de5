"""Alerts of the monitoring itself."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.monitoring.foreign import NOTIFICATIONS_DROPPED, NOTIFICATIONS_FAILED, STACK_JOBS, UP
from pocket_agent.monitoring.period import hours, minutes
from pocket_agent.monitoring.promql import constant, increase, total_by
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.selector import select
from pocket_agent.observability import catalogue

_OVERFLOW: Final = increase(select(catalogue.METRIC_LABEL_OVERFLOW), hours(1)).above(0)
_LOST: Final = increase(select(catalogue.TELEMETRY_DROPPED), minutes(15)).above(0)
_UNDELIVERED: Final = total_by(
    increase(select(NOTIFICATIONS_FAILED, job="alertmanager"), minutes(10)), "integration"
).above(0)
_UNSENT: Final = total_by(increase(select(NOTIFICATIONS_DROPPED, job="prometheus"), minutes(10))).above(0)

_UNWATCHED: Final = select(UP, job=STACK_JOBS).equal_to(0)


def pipeline_alerts() -> Iterator[Alert]:
    """The alerts; they have no thresholds."""
    yield Alert(
        "MetricLabelOverflow",
        "info",
        minutes(0),
        _OVERFLOW,
        summary="A metric met a value that it does not know",
        description="{{ $labels.metric }} of {{ $labels.instance }} counted {{ $value | humanize }} values as other "
        "within an hour.",
        meaning="Label values that the catalogue does not list; a gap in the code, not in the service.",
    )
    yield Alert(
        "TelemetryDropped",
        "warning",
        minutes(5),
        _LOST,
        summary="Telemetry is lost",
        description="{{ $labels.instance }} lost {{ $value | humanize }} items of {{ $labels.signal }} within "
        "15 minutes.",
        meaning="Log lines, spans or events were let go of, so that the server need not wait.",
    )
    yield Alert(
        "MonitoringTargetDown",
        "warning",
        minutes(5),
        _UNWATCHED,
        summary="A part of the monitoring is down",
        description="Prometheus has got nothing from {{ $labels.job }} at {{ $labels.instance }} for more than {hold}; "
        "what it tells of is not watched.",
        meaning="An exporter, a probe, Alertmanager or Prometheus itself does not answer scrapes.",
    )
    yield Alert(
        "AlertDeliveryFailing",
        "critical",
        minutes(5),
        _UNDELIVERED.otherwise(_UNSENT),
        summary="Alerts do not arrive",
        description="{{ $labels.job }} at {{ $labels.instance }} could not deliver {{ $value | humanize }} alerts"
        "{{ if $labels.integration }} by {{ $labels.integration }}{{ end }} within 10 minutes.",
        meaning="Prometheus reaches no Alertmanager, or Alertmanager does not reach a receiver.",
    )
    yield Alert(
        "Watchdog",
        "none",
        minutes(0),
        constant(1),
        summary="Alerting works",
        description="This alert always fires; when it stops arriving, alerting is broken.",
        meaning="Always fires, for a dead man's switch (`monitoring.watchdog_url`).",
    )
