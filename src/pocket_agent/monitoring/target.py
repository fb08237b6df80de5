"""A server as its monitoring sees it: addresses, names and files, out of its own settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.config.conflict import is_loopback
from pocket_agent.config.settings import Settings

SERVICE_FILE: Final = Path("/etc/pocket-agent/config.yaml")
"""Where a service has its settings."""
_ANY: dict[str, str] = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched of one server.

    Attributes:
        address: HOST:PORT of the main listener.
        tls: whether it is encrypted.
        server_name: what its certificate is for; None for the host of the address.
        metrics: HOST:PORT of the metrics listener.
        token_file: what a scrape has to show; None when it is asked for nothing.
        ca_file: the certificate to trust; None for the system's authorities.
        own_certificate: whether `ca_file` is the certificate that the server made itself.
        data_dir: the data directory.
        service, environment: labels, as in the server's log.
        log_file: where the log goes; None for standard output.
        unit: the name of its systemd unit, without the suffix.
        config: its settings file.
        stop_seconds: how long it may take to stop.
    """

    address: str
    tls: bool
    server_name: str | None
    metrics: str
    token_file: Path | None
    ca_file: Path | None
    own_certificate: bool
    data_dir: Path
    service: str
    environment: str
    log_file: Path | None
    unit: str
    config: Path
    stop_seconds: float

    @property
    def url(self) -> str:
        """The main listener's HTTP address."""
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def socket(self) -> str:
        """The address of its WebSocket."""
        return f"{'wss' if self.tls else 'ws'}://{self.address}/ws"


def _reachable(host: str) -> str:
    host = _ANY.get(host, host)
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def target_of(settings: Settings, *, unit: str = "pocket-agent", config: Path | None = None) -> Target:
    """The target that a server with these settings is.

    Args:
        settings: the server's.
        unit: the name of its systemd unit.
        config: its settings file; when not given, that of a service.
    """
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
        config=config or SERVICE_FILE,
        stop_seconds=settings.timeouts.shutdown,
    )
