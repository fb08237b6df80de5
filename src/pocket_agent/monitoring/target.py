"""A server as its monitoring sees it: addresses, names and files, out of its own settings."""

from dataclasses import dataclass
from pathlib import Path

from pocket_agent.config.conflict import is_loopback
from pocket_agent.config.settings import Settings

_ANY: dict[str, str] = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched of one server.

    Attributes:
        address: HOST:PORT of the main listener.
        tls: whether it is encrypted.
        metrics: HOST:PORT of the metrics listener.
        token_file: what a scrape has to show; None when it is asked for nothing.
        ca_file: the certificate to trust, for one that the server made itself.
        service, environment: labels, as in the server's log.
        log_file: where the log goes; None for standard output.
        unit: the name of its systemd unit, without the suffix.
    """

    address: str
    tls: bool
    metrics: str
    token_file: Path | None
    ca_file: Path | None
    service: str
    environment: str
    log_file: Path | None
    unit: str

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


def target_of(settings: Settings, *, unit: str = "pocket-agent") -> Target:
    """The target that a server with these settings is."""
    server, metrics, data = settings.server, settings.metrics, settings.data.dir
    token_file = metrics.token_file
    if token_file is None and not is_loopback(metrics.host):
        token_file = data / "metrics-token"
    self_signed = server.tls.enabled and server.tls.cert is None
    output = settings.logging.output
    return Target(
        address=f"{_reachable(server.host)}:{server.port}",
        tls=server.tls.enabled,
        metrics=f"{_reachable(metrics.host)}:{metrics.port}",
        token_file=token_file,
        ca_file=data / "tls" / "cert.pem" if self_signed else None,
        service=str(settings.logging.fields.get("service", "pocket-agent-server")),
        environment=str(settings.logging.fields.get("environment", "production")),
        log_file=output if isinstance(output, Path) else None,
        unit=unit,
    )
