"""The dashboard for who looks for a cause: connections, the event loop, the store, the monitoring itself."""

from grafana_foundation_sdk.models import units

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import recording
from pocket_agent.monitoring.dashboard.choice import of_server, recorded, server_choices, told
from pocket_agent.monitoring.dashboard.graph import counts, graph
from pocket_agent.monitoring.dashboard.page import INTERNALS, Page
from pocket_agent.monitoring.dashboard.panel import Line, Section
from pocket_agent.monitoring.dashboard.query import Query
from pocket_agent.monitoring.foreign import (
    MAX_FILES,
    OPEN_FILES,
    RESIDENT_MEMORY,
    SCRAPE_DURATION,
    SCRAPED_SERIES,
    VIRTUAL_MEMORY,
)
from pocket_agent.monitoring.promql import total
from pocket_agent.monitoring.selector import select
from pocket_agent.observability import catalogue

_HEIGHT = 8
_NO_PING = "No client has answered a ping lately"
_NO_PUSH = "No project is followed"


def internals(settings: Settings) -> Page:
    """The dashboard, with the marks where alerts of these settings begin."""
    return Page(
        INTERNALS,
        "Pocket Agent Internals",
        "What happens inside of one server: connections, messages, the event loop, the store, the monitoring itself.",
        "3h",
        server_choices(),
        (
            Section("Connections", (_connections(), _messages(), _delivery())),
            Section("Requests and errors", (_requests(),)),
            Section("Process", (_process(settings),)),
            Section("Store", (_store(),)),
            Section("Monitoring", (_telemetry(), _alerting())),
        ),
    )


def _connections() -> Line:
    opened = counts(
        "Connections opened per hour",
        "Clients that connected in the hour before.",
        Query(recorded(recording.CONNECTIONS_OPENED), "opened"),
    )
    closed = counts(
        "Connections ended per hour",
        "Connections that ended in the hour before, by the code of their close (RFC 6455) and by who closed. 4008 and "
        "4009 are the server's own: too slow, and let go.",
        Query(recorded(recording.DISCONNECTS).above(0), "{{code}} by {{initiator}}"),
        stacked=True,
        nothing="No connection has ended lately",
    )
    slow = counts(
        "Slow clients per hour",
        "Clients that did not keep up in the hour before: parked ones are served at their own pace, dropped ones were "
        "closed.",
        Query(recorded(recording.SLOW_CONSUMERS), "{{action}}"),
        alerts=("SlowConsumersDropped",),
    )
    return Line(_HEIGHT, (opened, closed, slow))


def _messages() -> Line:
    received = graph(
        "Frames received by type",
        "Frames from clients in a second; only types that occur are shown.",
        Query(recorded(recording.MESSAGES_RECEIVED), "all"),
        Query(recorded(recording.MESSAGES_BY_TYPE).above(0), "{{type}}"),
        unit=units.MessagesPerSecond,
        dashed=("all",),
    )
    sent = graph(
        "Frames sent by type",
        "Frames handed to connections in a second; only types that occur are shown.",
        Query(recorded(recording.MESSAGES_SENT), "all"),
        Query(recorded(recording.MESSAGES_SENT_BY_TYPE).above(0), "{{type}}"),
        unit=units.MessagesPerSecond,
        dashed=("all",),
    )
    size = graph(
        "Bytes of frames",
        "Bytes of the frames from and to clients in a second.",
        Query(recorded(recording.MESSAGE_BYTES), "{{direction}}"),
        unit=units.BytesPerSecondIEC,
    )
    return Line(_HEIGHT, (received, sent, size))


def _delivery() -> Line:
    pings = graph(
        "Ping",
        "95 of 100 pings of the last 5 minutes were answered within this time. Long ones are slow networks, or phones "
        "that sleep.",
        Query(told(recording.PING_P95), "p95"),
        unit=units.Seconds,
        nothing=_NO_PING,
    )
    broadcasts = graph(
        "Broadcast time",
        "99 of 100 wake-ups handed new frames to all who follow a project within this time.",
        Query(told(recording.BROADCAST_P99), "p99"),
        unit=units.Seconds,
        nothing=_NO_PUSH,
    )
    queued = graph(
        "Waiting to be sent",
        "Bytes in the buffers of all connections.",
        Query(of_server(select(catalogue.SEND_QUEUE_BYTES)), "bytes"),
        unit=units.BytesIEC,
        alerts=("SlowConsumersDropped",),
    )
    return Line(_HEIGHT, (pings, broadcasts, queued))


def _requests() -> Line:
    times = graph(
        "Response time by type",
        "95 of 100 requests of a type were answered within this time; `other` are all that are not told apart.",
        Query(told(recording.REQUEST_P95_BY_TYPE), "{{type}}"),
        unit=units.Seconds,
        nothing="No request in the last 5 minutes",
    )
    faults = counts(
        "Errors per hour by operation",
        "What went wrong in the hour before, by what it happened to; mistakes of clients included.",
        Query(recorded(recording.ERRORS_BY_OPERATION), "{{operation}}"),
        stacked=True,
        alerts=("HighErrorRate", "StorageErrors"),
    )
    server = graph(
        "Faults of the server",
        "Errors that are no mistake of a client, in a second; what HighErrorRate looks at.",
        Query(recorded(recording.SERVER_ERRORS), "faults"),
        unit=units.EventsPerSecond,
        alerts=("HighErrorRate",),
    )
    return Line(_HEIGHT, (times, faults, server))


def _process(settings: Settings) -> Line:
    return Line(
        _HEIGHT,
        (
            graph(
                "Event loop",
                "99 of 100 times the event loop was no later than this with what was due. The dashed line is where "
                "EventLoopLagHigh begins.",
                Query(told(recording.LOOP_LAG_P99), "p99"),
                unit=units.Seconds,
                mark=settings.alerts.loop_lag,
                alerts=("EventLoopLagHigh",),
            ),
            graph(
                "Processor time",
                "What the server itself uses; 100 % is one processor.",
                Query(recorded(recording.CPU), "server"),
                unit=units.PercentUnit,
            ),
            graph(
                "Memory of the server",
                "Memory that the process has in use, and its address space.",
                Query(of_server(select(RESIDENT_MEMORY)), "in use"),
                Query(of_server(select(VIRTUAL_MEMORY)), "address space"),
                unit=units.BytesIEC,
                alerts=("HighMemoryUsage",),
            ),
            graph(
                "Open files",
                "Files and sockets that are open, and how many there may be.",
                Query(of_server(select(OPEN_FILES)), "open"),
                Query(of_server(select(MAX_FILES)), "limit"),
                unit=units.Short,
                dashed=("limit",),
                alerts=("FileDescriptorsHigh",),
            ),
        ),
    )


def _store() -> Line:
    times = graph(
        "Commit time",
        "99 of 100 transactions were on the disk within this time.",
        Query(told(recording.COMMIT_P99), "p99"),
        unit=units.Seconds,
        nothing="Nothing was stored lately",
        alerts=("StorageErrors",),
    )
    commits = graph(
        "Commits",
        "Transactions in a second; one holds all that came in during the one before.",
        Query(recorded(recording.COMMITS), "commits"),
        unit=units.OpsPerSecond,
    )
    size = graph(
        "Size of the database",
        "What the database takes on the disk.",
        Query(of_server(select(catalogue.STORAGE_SIZE)), "database"),
        unit=units.BytesIEC,
        alerts=("DiskWillFillIn24h",),
    )
    return Line(_HEIGHT, (times, commits, size))


def _telemetry() -> Line:
    lost = counts(
        "Lost telemetry per hour",
        "Log lines, spans and events that were let go of in the hour before, so that the server need not wait.",
        Query(recorded(recording.TELEMETRY_LOST), "{{signal}}"),
        alerts=("TelemetryDropped",),
    )
    unknown = counts(
        "Unknown label values per hour",
        "Values that a metric did not know in the hour before and counted as `other`: gaps in the code.",
        Query(recorded(recording.LABELS_UNKNOWN), "{{metric}}"),
        alerts=("MetricLabelOverflow",),
    )
    read = counts(
        "Reloads per hour",
        "How often the settings were read again in the hour before (SIGHUP); what was refused has changed nothing.",
        Query(recorded(recording.SETTINGS_READ), "{{outcome}}"),
        colours={"applied": "green", "refused": "red"},
    )
    return Line(_HEIGHT, (lost, unknown, read))


def _alerting() -> Line:
    delivered = counts(
        "Notifications per hour",
        "What Alertmanager tried to deliver in the hour before, and what it could not deliver.",
        Query(total(recording.NOTIFICATIONS_HOURLY.series, "integration"), "tried"),
        Query(total(recording.NOTIFICATIONS_FAILED_HOURLY.series, "integration"), "failed"),
        colours={"tried": "green", "failed": "red"},
        nothing="No Alertmanager",
        alerts=("AlertDeliveryFailing", "MonitoringTargetDown"),
    )
    scrapes = graph(
        "Scrape time",
        "How long the server takes to tell its metrics.",
        Query(of_server(select(SCRAPE_DURATION)), "scrape"),
        unit=units.Seconds,
    )
    series = graph(
        "Series",
        "How many series the server has; they do not grow with projects or connections.",
        Query(of_server(select(SCRAPED_SERIES)), "series"),
        unit=units.Short,
    )
    return Line(_HEIGHT, (delivered, scrapes, series))
