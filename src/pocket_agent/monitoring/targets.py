"""The servers that a stack watches, the ports of all programs, and settings that contradict each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import MonitoringSettings, Settings, is_loopback

SERVICE_FILE: Final = Path("/etc/pocket-agent/config.yaml")
"""The settings file of a service."""
SERVER_JOB: Final = "pocket-agent"
"""The scrape job of the servers in Prometheus."""


@dataclass(frozen=True, slots=True)
class Target:
    """A watched server; `service` and `environment` are labels, as in the server's log."""

    address: str  # HOST:PORT of the main listener
    tls: bool
    server_name: str | None  # the name in its certificate; None for the host of the address
    metrics: str  # HOST:PORT of the metrics listener
    token_file: Path | None  # the token of scrapes; None when they need none
    ca_file: Path | None  # the certificate to trust; None for the system's authorities
    own_certificate: bool  # whether the server itself created `ca_file`
    data_dir: Path
    service: str
    environment: str
    log_file: Path | None  # None for standard output
    unit: str  # the name of its systemd unit, without the suffix
    config: Path  # its settings file
    stop_seconds: float  # time limit for stopping

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def socket(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.address}/ws"


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def target_of(settings: Settings, *, unit: str = "pocket-agent", config: Path = SERVICE_FILE) -> Target:
    """The target of a server with these settings."""
    server, metrics, data = settings.server, settings.metrics, settings.data.dir
    token_file = metrics.token_file
    if token_file is None and not is_loopback(metrics.host):
        token_file = data / "metrics-token"
    own = server.tls.enabled and server.tls.cert is None and settings.monitoring.ca_file is None
    output = settings.logging.output
    return Target(
        address=f"{_reachable(server.host)}:{server.port}",
        tls=server.tls.enabled,
        server_name=settings.monitoring.server_name,
        metrics=f"{_reachable(metrics.host)}:{metrics.port}",
        token_file=token_file,
        ca_file=data / "tls" / "cert.pem" if own else settings.monitoring.ca_file,
        own_certificate=own,
        data_dir=data,
        service=str(settings.logging.fields.get("service", "pocket-agent-server")),
        environment=str(settings.logging.fields.get("environment", "production")),
        log_file=output if isinstance(output, Path) else None,
        unit=unit,
        config=config,
        stop_seconds=settings.timeouts.shutdown,
    )


FIXED_PORTS: Final = {
    "loki_grpc": ("Loki's gRPC", 9096),
    "alloy_port": ("Alloy's page", 12345),
    "promtail_port": ("Promtail's page", 9080),
    "otlp_grpc": ("the OpenTelemetry collector's gRPC", 4317),
    "tempo_grpc": ("Tempo's gRPC", 9097),
    "tempo_otlp": ("Tempo's OTLP", 14317),
    "elasticsearch_port": ("Elasticsearch", 9200),
    "kibana_port": ("Kibana", 5601),
    "logstash_port": ("Logstash", 5044),
}
"""Ports without a setting, by their placeholder in the templates. The collector has the usual port of OTLP."""


class StackPort(NamedTuple):
    """A port of a program; `name` is its setting, or the program if the port is fixed."""

    name: str
    number: int
    fixed: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.number}, fixed)" if self.fixed else f"{self.name} is {self.number}"


def stack_ports(settings: Settings, others: Sequence[Settings] = ()) -> Iterator[StackPort]:
    """All ports of the servers and of the whole stack on this machine."""
    for number, server in enumerate((settings, *others), start=1):
        whose = _whose(number)
        yield StackPort(f"server.port{whose}", server.server.port)
        if server.server.plain_port:  # 0 is a free port, which the stack does not use
            yield StackPort(f"server.plain_port{whose}", server.server.plain_port)
        yield StackPort(f"metrics.port{whose}", server.metrics.port)
    for key, port in settings.monitoring.model_dump().items():
        if key.endswith("_port"):
            yield StackPort(f"monitoring.{key}", port)
    for name, port in FIXED_PORTS.values():
        yield StackPort(name, port, fixed=True)


def _whose(number: int) -> str:
    return "" if number == 1 else f" of server {number}"


def refuse_conflicts(settings: Settings, others: Sequence[Settings] = ()) -> None:
    """Check that a stack can be rendered.

    Raises:
        ConfigurationError: with every problem, one a line; each names the settings.
    """
    problems = [
        f"metrics.enabled{_whose(number)}: off, so there is nothing to scrape"
        for number, server in enumerate((settings, *others), start=1)
        if not server.metrics.enabled
    ]
    problems += _port_conflicts(stack_ports(settings, others))
    problems += _shared_directories(settings, others)
    problems += _receivers(settings.monitoring)
    problems += _durations(settings.monitoring)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigurationError(
            f"No monitoring stack can be made of these settings:{listed}", details={"problems": problems}
        )


def _port_conflicts(found: Iterator[StackPort]) -> Iterator[str]:
    taken: dict[int, StackPort] = {}
    for listener in found:
        first = taken.setdefault(listener.number, listener)
        if listener.number == 0:
            yield f"{listener.name}: 0 is any free port, which Prometheus cannot know; give it a number"
        elif first is not listener and not (first.fixed and listener.fixed):
            yield f"{first} and {listener}: each needs a port of its own"


def _shared_directories(settings: Settings, others: Sequence[Settings]) -> Iterator[str]:
    seen = {settings.data.dir: 1}
    for number, other in enumerate(others, start=2):
        first = seen.setdefault(other.data.dir, number)
        if first != number:
            yield f"data.dir of server {first} and of server {number}: both are {other.data.dir}"


def _receivers(stack: MonitoringSettings) -> Iterator[str]:
    for name, url, file in (
        ("webhook_url", stack.webhook_url, stack.webhook_url_file),
        ("watchdog_url", stack.watchdog_url, stack.watchdog_url_file),
    ):
        if url is not None and file is not None:
            yield f"monitoring.{name} and monitoring.{name}_file: set only one of them"
    if (stack.email_user is None) != (stack.email_password_file is None):
        yield "monitoring.email_user and monitoring.email_password_file: set both or neither"
    if stack.email_to is None:
        if stack.email_user is not None:
            yield "monitoring.email_user and monitoring.email_to: a login without a recipient"
        return
    port = stack.email_smarthost.rpartition(":")[2]
    if not 0 < int(port) <= 65535:
        yield f"monitoring.email_smarthost: {port} is not a port"


def _durations(stack: MonitoringSettings) -> Iterator[str]:
    # Prometheus counts in milliseconds (model.Duration).
    for key, seconds in (("scrape_interval", stack.scrape_interval), ("retention", stack.retention)):
        if round(seconds * 1000) < 1 or abs(seconds * 1000 - round(seconds * 1000)) > 1e-6:
            yield f"monitoring.{key}: Prometheus counts in whole milliseconds"


class PortHolder(NamedTuple):
    """A program that listens on a port, without the `pid` of a process of another user, which is hidden."""

    pid: int | None
    name: str


def port_holder(port: int) -> PortHolder | None:
    """The program that listens on a port; None without one, or if it is not known."""
    try:
        found = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):  # macOS shows only root the owners of sockets
        return None
    for item in found:
        if item.status == psutil.CONN_LISTEN and item.laddr and item.laddr.port == port:
            name = process_name(item.pid) if item.pid is not None else "a process of another user"
            if name is not None:
                return PortHolder(item.pid, name)
    return None


def process_name(pid: int) -> str | None:
    """A process in a message, such as `prometheus (process 1234)`; None when it has ended."""
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return None
    return f"{''.join(char if char.isprintable() else '?' for char in name)} (process {pid})"


def has_argument(pid: int, argument: str) -> bool:
    """Whether a process was started with an argument; not if it has ended, or if that cannot be read."""
    try:
        return argument in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as by SIGSTOP: its listeners accept connections, which are not answered."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def file_system_of(path: Path) -> str:
    """The type of the file system of a path, such as `ext4` or `tmpfs`; empty if it is not known."""
    try:
        place = path.resolve()
        mounts = [Path(mount.mountpoint) for mount in psutil.disk_partitions(all=True)]
        kinds = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    except OSError:
        return ""
    return next(
        (kinds[mount] for mount in sorted(mounts, key=lambda mount: -len(mount.parts)) if place.is_relative_to(mount)),
        "",
    )


def listening_ports(pid: int) -> list[int]:
    """The ports that a process listens on; empty if they are not known."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except (psutil.Error, OSError):
        return []
    return sorted({item.laddr.port for item in found if item.status == psutil.CONN_LISTEN and item.laddr})
