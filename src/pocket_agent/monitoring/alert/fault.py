"""Alerts of faults: errors of the server, refused connections, clients that were dropped."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.period import minutes
from pocket_agent.monitoring.promql import increase, total
from pocket_agent.monitoring.recording import MESSAGES_RECEIVED, SERVER_ERRORS
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.selector import select
from pocket_agent.observability import catalogue

_WINDOW: Final = minutes(15)
# Increases are extrapolated, so a number of events shows as a little more than it is.
_ROUNDING: Final = 0.5

# Without messages the ratio is infinite: what fails by itself counts, too.
_ERROR_RATIO: Final = SERVER_ERRORS.query / MESSAGES_RECEIVED.query
_STORAGE: Final = total(
    increase(select(catalogue.ERRORS_TOTAL, operation="storage"), minutes(10)), "code", "operation"
).above(0)
_FULL: Final = increase(select(catalogue.CONNECTIONS_REJECTED, reason="limit"), _WINDOW)
# Those of a server that stops come back by themselves.
_REFUSED: Final = total(
    increase(
        select(catalogue.CONNECTIONS_REJECTED, reason=("unauthorized", "throttled", "host", "origin", "rate")), _WINDOW
    ),
    "reason",
)
_DROPPED: Final = total(increase(select(catalogue.SLOW_CONSUMER, action="dropped"), _WINDOW), "action")


def fault_alerts(settings: Settings) -> Iterator[Alert]:
    """The alerts, with the thresholds of the settings."""
    alerts = settings.alerts
    yield Alert(
        "HighErrorRate",
        "warning",
        minutes(5),
        SERVER_ERRORS.query.above(alerts.error_rate).where(_ERROR_RATIO.above(alerts.error_ratio)),
        summary="High error rate detected",
        description="{{ $labels.instance }} has {{ $value | humanize }} errors per second that are its own fault, "
        f"more than {alerts.error_ratio * 100:g} % of the messages it gets.",
        meaning="Faults of the server (not mistakes of clients), summed over all kinds: both many and a large share.",
    )
    yield Alert(
        "StorageErrors",
        "warning",
        minutes(1),
        _STORAGE,
        summary="The database refuses writes",
        description="{{ $labels.instance }} could not store what agents said {{ $value | humanize }} times within "
        "10 minutes; it tries again, and agents wait meanwhile.",
        meaning="Writes that the store refused. Nothing is lost, and nothing goes on.",
    )
    yield Alert(
        "ConnectionsRejected",
        "warning",
        minutes(1),
        _FULL.above(0).otherwise(_REFUSED.above(alerts.rejected_connections + _ROUNDING)),
        summary="Clients are refused",
        description="{{ $labels.instance }} refused {{ $value | humanize }} connections within 15 minutes, "
        "{{ if $labels.reason }}as many as it may have were open{{ else }}for want of a token, or by their "
        "origin{{ end }}.",
        meaning="A client met the limit of connections, or many came without a token or from a strange origin.",
    )
    yield Alert(
        "SlowConsumersDropped",
        "warning",
        minutes(1),
        _DROPPED.above(alerts.dropped_clients + _ROUNDING),
        summary="Clients that do not keep up are dropped",
        description="{{ $labels.instance }} closed {{ $value | humanize }} connections within 15 minutes because "
        "they took nothing any more.",
        meaning="Many connections took nothing for so long that they were closed (4008).",
    )
