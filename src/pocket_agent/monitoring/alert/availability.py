"""Alerts of a server that clients cannot reach, or soon cannot."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.foreign import PROBE_JOB, PROBE_SUCCESS, SERVER_JOB, START_TIME, UP
from pocket_agent.monitoring.period import minutes, seconds
from pocket_agent.monitoring.promql import absent, ceiling, changes, remaining
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.selector import select
from pocket_agent.observability import catalogue

_UP: Final = select(UP, job=SERVER_JOB)
_DOWN: Final = _UP.equal_to(0)
# Whatever answers on the port counts as up; only the server says what was built.
_STRANGER: Final = _UP.unless(select(catalogue.BUILD_INFO), "job", "instance")
_MISSING: Final = _DOWN.otherwise(_STRANGER).otherwise(absent(_UP))

FLAPPING_WINDOW: Final = minutes(30)
# An outage changes `up` twice, one that lasts only once. A restart between two scrapes shows only in the time of
# the start.
_OUTAGES: Final = ceiling(changes(_UP, FLAPPING_WINDOW) / 2)
_RESTARTS: Final = changes(select(START_TIME, job=SERVER_JOB), FLAPPING_WINDOW)

_UNREACHABLE: Final = select(PROBE_SUCCESS, job=PROBE_JOB).equal_to(0).unless(_DOWN, "instance")
_CERTIFICATE_LEFT: Final = remaining(select(catalogue.TLS_NOT_AFTER).above(0))
_UNHEALTHY: Final = select(catalogue.HEALTH_CHECK_UP).equal_to(0)


def availability_alerts(settings: Settings) -> Iterator[Alert]:
    """The alerts, with the thresholds of the settings."""
    yield Alert(
        "ServiceDown",
        "critical",
        minutes(2),
        _MISSING,
        summary="Pocket Agent Server is down",
        description="{{ if $labels.instance }}{{ $labels.instance }} has not answered with the server's own metrics "
        "for more than {hold}.{{ else }}Prometheus has no target of the job pocket-agent.{{ end }}",
        meaning="The server does not answer, something else answers in its place, or nobody asks it.",
    )
    limit = settings.alerts.restarts
    yield Alert(
        "PocketAgentFlapping",
        "warning",
        minutes(1),
        _OUTAGES.at_least(limit).otherwise(_RESTARTS.at_least(limit)),
        summary="Pocket Agent Server goes down again and again",
        description="{{ $labels.instance }} was down or restarted {{ $value | humanize }} times within 30 minutes.",
        meaning="Outages too short for ServiceDown, or restarts that no scrape has seen, one after the other.",
    )
    yield Alert(
        "WebSocketProbeFailed",
        "critical",
        minutes(2),
        _UNREACHABLE,
        summary="Clients cannot connect to Pocket Agent Server",
        description="The WebSocket upgrade at {{ $labels.instance }} has failed for more than {hold}, although the "
        "server's metrics answer.",
        meaning="Seen from outside, by the blackbox exporter, clients do not get in.",
    )
    yield Alert(
        "TLSCertificateExpiring",
        "warning",
        minutes(10),
        _CERTIFICATE_LEFT.below(seconds(settings.alerts.certificate).seconds),
        summary="The TLS certificate expires soon",
        description="The certificate of {{ $labels.instance }} {{ if gt $value 0.0 }}is valid for "
        "{{ $value | humanizeDuration }} more{{ else }}has expired{{ end }}.",
        meaning="The certificate in use ends soon, or has ended; clients will be refused.",
    )
    yield Alert(
        "HealthCheckFailing",
        "warning",
        minutes(5),
        _UNHEALTHY,
        summary="A health check fails",
        description="The check {{ $labels.check }} of {{ $labels.instance }} has not been healthy for more than "
        "{hold}; /health tells why.",
        meaning="One of the server's own checks (claude, disk, storage, ...) is not healthy.",
    )
