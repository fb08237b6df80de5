"""The guide's system dashboard in its three groups: resources, the application, the business."""

from grafana_foundation_sdk.models import units

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import recording
from pocket_agent.monitoring.dashboard.choice import NOTHING, of_machine, of_server, recorded, told
from pocket_agent.monitoring.dashboard.graph import counts, graph
from pocket_agent.monitoring.dashboard.look import NO_EXECUTION, NO_EXPORTER, NO_REQUEST, OUTCOMES, STATUSES
from pocket_agent.monitoring.dashboard.panel import Line, Section
from pocket_agent.monitoring.dashboard.query import Query
from pocket_agent.monitoring.foreign import MACHINE_MEMORY, MACHINE_MEMORY_AVAILABLE, RESIDENT_MEMORY
from pocket_agent.monitoring.objective import LATENCY_SECONDS
from pocket_agent.monitoring.promql import total
from pocket_agent.monitoring.selector import picked, select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue

_HEIGHT = 8


def system_sections(settings: Settings) -> tuple[Section, ...]:
    """The three groups, a line each."""
    return (
        Section("Resource usage", (_resources(),)),
        Section("Application", (_application(settings),)),
        Section("Business", (_business(settings),)),
    )


def _resources() -> Line:
    used = of_machine(select(MACHINE_MEMORY)) - of_machine(select(MACHINE_MEMORY_AVAILABLE))
    cpu = graph(
        "CPU usage",
        "Share of the machine's processors that is busy, agents included; and what the server itself uses, of which "
        "100 % is one processor.",
        Query(of_machine(recording.MACHINE_CPU.series), "machine"),
        Query(recorded(recording.CPU), "server"),
        unit=units.PercentUnit,
    )
    memory = graph(
        "Memory usage",
        "Memory that is taken on the machine, agents included, and by the server itself.",
        Query(used, "machine"),
        Query(of_server(select(RESIDENT_MEMORY)), "server"),
        unit=units.BytesIEC,
        alerts=("HighMemoryUsage",),
    )
    disk = graph(
        "Disk I/O",
        "What is read from and written to the disks of the machine. Layers above a disk, such as LVM, do not count.",
        Query(of_machine(recording.DISKS_READ.series), "read"),
        Query(of_machine(recording.DISKS_WRITTEN.series), "written"),
        unit=units.BytesPerSecondIEC,
        nothing=NO_EXPORTER,
        alerts=("DiskSpaceLow", "DiskWillFillIn24h"),
    )
    network = graph(
        "Network traffic",
        "What the machine receives and sends, its inner networks left out; and the frames from and to the clients "
        "of the server.",
        Query(of_machine(recording.LINKS_RECEIVED.series), "machine received"),
        Query(of_machine(recording.LINKS_SENT.series), "machine sent"),
        Query(recorded(recording.MESSAGE_BYTES), "frames {{direction}}"),
        unit=units.BytesPerSecondIEC,
    )
    return Line(_HEIGHT, (cpu, memory, disk, network))


def _application(settings: Settings) -> Line:
    rate = graph(
        "Request rate",
        "Requests answered in a second, by how they were answered.",
        Query(recorded(recording.REQUESTS_BY_OUTCOME), "{{outcome}}"),
        unit=units.RequestsPerSecond,
        stacked=True,
        colours=OUTCOMES,
    )
    errors = graph(
        "Error rate",
        "Share of requests that met a fault of the server, and of those that were a client's mistake. The dashed line "
        "is where HighErrorRate begins, which looks at faults for each message received.",
        Query(_share("server_error"), "faults of the server"),
        Query(_share("client_error"), "mistakes of clients"),
        Query(recorded(recording.SERVER_ERROR_RATIO).otherwise(NOTHING), "faults for each message"),
        unit=units.PercentUnit,
        mark=settings.alerts.error_ratio,
        colours={"faults of the server": "red", "mistakes of clients": "yellow", "faults for each message": "orange"},
        alerts=("HighErrorRate",),
    )
    times = graph(
        "Response time",
        "95 and 99 of 100 requests of the last 5 minutes were answered within this time. The dashed line is what the "
        "objective requests-latency allows.",
        Query(told(recording.REQUEST_P95), "p95"),
        Query(told(recording.REQUEST_P99), "p99"),
        unit=units.Seconds,
        mark=LATENCY_SECONDS,
        nothing=NO_REQUEST,
        alerts=("ErrorBudgetBurn",),
    )
    connections = graph(
        "Active connections",
        "Clients that are connected, the projects that they follow (all added up), and how many clients there may be.",
        Query(of_server(select(catalogue.CONNECTIONS_ACTIVE)), "connected"),
        Query(of_server(select(catalogue.SUBSCRIPTIONS_ACTIVE)), "followed projects"),
        Query(total(of_server(select(catalogue.LIMIT, limit="connections")), "limit"), "limit"),
        unit=units.Short,
        dashed=("limit",),
        alerts=("TooManyConnections", "ConnectionsRejected"),
    )
    return Line(_HEIGHT, (rate, errors, times, connections))


def _share(outcome: str) -> Vector:
    some = total(picked(recorded(recording.REQUESTS_BY_OUTCOME), catalogue.REQUESTS_TOTAL, outcome=outcome), "outcome")
    return (some / recorded(recording.REQUESTS).above(0)).otherwise(NOTHING)


def _business(settings: Settings) -> Line:
    projects = counts(
        "Projects created",
        "Projects that there are, and how often one was asked for in the hour before, refused requests included.",
        Query(of_server(select(catalogue.PROJECTS_TOTAL)), "projects"),
        Query(recorded(recording.PROJECTS_ASKED_FOR), "asked for within an hour"),
    )
    executions = counts(
        "Executions per hour",
        "Executions that ended in the hour before, and requests for one that were refused.",
        Query(recorded(recording.EXECUTIONS_HOURLY), "{{status}}"),
        stacked=True,
        colours=STATUSES,
    )
    times = graph(
        "Average execution time",
        "Mean time of the executions that ended in the hour before, waiting for approvals included.",
        Query(recorded(recording.EXECUTION_MEAN), "mean"),
        unit=units.Seconds,
        nothing=NO_EXECUTION,
        alerts=("SlowExecutions",),
    )
    success = graph(
        "Success rate",
        "Share of the executions of the hour before that succeeded; those that a person ended do not count. The dashed "
        "line is the objective executions-success.",
        Query(recorded(recording.EXECUTION_SUCCESS), "success"),
        unit=units.PercentUnit,
        highest=1,
        mark=settings.alerts.objectives.success,
        nothing=NO_EXECUTION,
        alerts=("ExecutionsFailing",),
    )
    return Line(_HEIGHT, (projects, executions, times, success))
