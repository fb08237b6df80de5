"""Which port belongs to whom: the settings', and those that programs of the stack have besides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pocket_agent.config.settings import Settings

LOKI_GRPC: Final = 9096
ALLOY: Final = 12345
PROMTAIL: Final = 9080
OTLP_GRPC: Final = 4317
TEMPO_GRPC: Final = 9097
TEMPO_OTLP: Final = 14317
"""Where Tempo takes spans from the collector, which has the usual port."""
ELASTICSEARCH: Final = 9200
KIBANA: Final = 5601
LOGSTASH_BEATS: Final = 5044

_FIXED: Final = {
    "Loki's gRPC": LOKI_GRPC,
    "Alloy's page": ALLOY,
    "Promtail's page": PROMTAIL,
    "the OpenTelemetry collector's gRPC": OTLP_GRPC,
    "Tempo's gRPC": TEMPO_GRPC,
    "Tempo's OTLP": TEMPO_OTLP,
    "Elasticsearch": ELASTICSEARCH,
    "Kibana": KIBANA,
    "Logstash": LOGSTASH_BEATS,
}


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port.

    Attributes:
        name: the setting that says so, or the program whose port is fixed.
        number: the port.
        fixed: whether no setting changes it.
    """

    name: str
    number: int
    fixed: bool = False

    def __str__(self) -> str:
        """As a message tells it."""
        return f"{self.name} ({self.number}, fixed)" if self.fixed else f"{self.name} is {self.number}"


def listeners(settings: Settings, others: Sequence[Settings] = ()) -> Iterator[Listener]:
    """Everybody who listens on this machine when the servers and the whole stack run."""
    yield from _server(settings, "")
    for number, other in enumerate(others, start=2):
        yield from _server(other, f" of server {number}")
    for key, port in settings.monitoring.model_dump().items():
        if key.endswith("_port"):
            yield Listener(f"monitoring.{key}", port)
    for name, port in _FIXED.items():
        yield Listener(name, port, fixed=True)


def _server(settings: Settings, whose: str) -> Iterator[Listener]:
    yield Listener(f"server.port{whose}", settings.server.port)
    if settings.server.plain_port:  # 0 is a free port, which harms nobody: the stack does not ask there
        yield Listener(f"server.plain_port{whose}", settings.server.plain_port)
    yield Listener(f"metrics.port{whose}", settings.metrics.port)
