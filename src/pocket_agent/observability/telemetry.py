"""Settings and the standard `OTEL_*` variables to what tracing does; pure.

A setting wins over a variable. The variables are those of the OpenTelemetry specification ("Environment
Variable Specification" and "OTLP Exporter Configuration"); its durations are milliseconds. One that
cannot be understood is told and left out, since telemetry must never stop the server.
"""

import math
import os
import platform
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from pocket_agent import __version__
from pocket_agent.config import Settings
from pocket_agent.config.collection import check_header
from pocket_agent.config.unit import RefusedError
from pocket_agent.config.url import parse_url
from pocket_agent.events import SettingIgnored
from pocket_agent.observability.sampling import Sampler

_DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"
_PATH: Final = "/v1/traces"
_PROTOCOL: Final = "http/protobuf"
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_MOST_SPANS: Final = 65536


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What tracing does.

    Attributes:
        endpoint: the collector's full URL.
        headers: HTTP headers for it; they may hold a secret.
        timeout: longest export of one batch, in seconds, further attempts included.
        compression: none, gzip or deflate.
        sampler: which executions are traced.
        resource: what every span is said to come from.
        queue_size: how many spans may wait; a further one is lost.
        batch_size: how many go into one request.
        delay: longest wait of a span for others to go with it, in seconds.
        agents: whether the CLI exports its own spans.
    """

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    compression: str
    sampler: Sampler
    resource: Mapping[str, str | int]
    queue_size: int
    batch_size: int
    delay: float
    agents: bool


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What was decided.

    Attributes:
        traces: None when tracing is off.
        ignored: what was asked for and is not possible.
    """

    traces: TraceOptions | None
    ignored: tuple[SettingIgnored, ...] = ()


def read_telemetry(settings: Settings, environment: Mapping[str, str]) -> Telemetry:
    """Decide whether and how executions are traced."""
    reader = _Reader(environment)
    if not _enabled(settings, reader):
        return Telemetry(None, tuple(reader.ignored))
    queue_size = reader.whole("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, _MOST_SPANS)
    options = TraceOptions(
        endpoint=_endpoint(settings, reader),
        headers={
            **reader.headers("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
            **settings.traces.headers,
        },
        timeout=reader.milliseconds("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", default=10_000),
        compression=reader.word(
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION", accepted=_COMPRESSIONS
        ),
        sampler=_sampler(settings, reader),
        resource=_resource(settings, reader),
        queue_size=queue_size,
        batch_size=min(reader.whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, _MOST_SPANS), queue_size),
        delay=reader.milliseconds("OTEL_BSP_SCHEDULE_DELAY", default=1000),
        agents=settings.traces.agents,
    )
    reader.word("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL", accepted=(_PROTOCOL,))
    return Telemetry(options, tuple(reader.ignored))


def _enabled(settings: Settings, reader: "_Reader") -> bool:
    exporters = {name.strip().lower() for name in reader.get("OTEL_TRACES_EXPORTER").split(",")}
    wanted = settings.traces.enabled
    if wanted is None:
        wanted = "otlp" in exporters
        unknown = sorted(exporters - {"otlp", "none", ""})
        if unknown:
            reader.refuse("OTEL_TRACES_EXPORTER", "only otlp and none are known")
    if wanted and reader.get("OTEL_SDK_DISABLED").lower() == "true":
        reader.ignored.append(SettingIgnored("traces.enabled", "OTEL_SDK_DISABLED=true switches tracing off."))
        return False
    return wanted


def _endpoint(settings: Settings, reader: "_Reader") -> str:
    chosen = settings.traces.endpoint
    if chosen is None:
        full = reader.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if full is not None:
            return full
        chosen = reader.url("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_ENDPOINT
    parts = urlsplit(chosen)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_PATH) else path + _PATH))


def _sampler(settings: Settings, reader: "_Reader") -> Sampler:
    if settings.traces.sample_ratio is not None:
        return Sampler(settings.traces.sample_ratio)
    name = reader.get("OTEL_TRACES_SAMPLER").lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    parent_based = kind != name
    match kind:
        case "always_on":
            return Sampler(1.0, parent_based)
        case "always_off":
            return Sampler(0.0, parent_based)
        case "traceidratio":
            return Sampler(reader.ratio("OTEL_TRACES_SAMPLER_ARG"), parent_based)
        case _:
            reader.refuse("OTEL_TRACES_SAMPLER", "no known sampler; every execution is traced")
            return Sampler()


def _resource(settings: Settings, reader: "_Reader") -> dict[str, str | int]:
    """What the spans come from (semantic conventions: service, deployment, host, process)."""
    fields = settings.logging.fields
    host = socket.gethostname()
    attributes: dict[str, str | int] = {
        "service.name": str(fields.get("service", "pocket-agent-server")),
        "service.version": __version__,
        # The same one after a restart: it is this data directory on this machine.
        "service.instance.id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{host}:{settings.data.dir}")),
        "deployment.environment.name": str(fields.get("environment", "production")),
        "host.name": host,
        "host.arch": platform.machine(),
        "os.type": platform.system().lower(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
        **reader.pairs("OTEL_RESOURCE_ATTRIBUTES"),
    }
    name = settings.traces.service_name or reader.get("OTEL_SERVICE_NAME")
    if name:
        attributes["service.name"] = name
    return {**attributes, **settings.traces.attributes}


class _Reader:
    """Reads the standard variables; of several names the first that is set counts."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.ignored: list[SettingIgnored] = []

    def get(self, *names: str) -> str:
        """A value; empty when none of the variables is set. An empty one counts as not set."""
        return self._environment.get(self._first(*names), "").strip()

    def _first(self, *names: str) -> str:
        return next((name for name in names if self._environment.get(name, "").strip()), names[-1])

    def refuse(self, name: str, reason: str) -> None:
        """Tell of a value that is not understood; it is not repeated, since it may hold a secret."""
        self.ignored.append(SettingIgnored(name, f"Its value is left out: {reason}."))

    def milliseconds(self, *names: str, default: int) -> float:
        """A duration, in seconds."""
        return self.whole(self._first(*names), default, 1, 3_600_000) / 1000

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        text = self.get(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            self.refuse(name, f"not a whole number from {low} to {high}")
            return default
        return int(text)

    def ratio(self, name: str) -> float:
        """A number from 0 to 1; 1 without one."""
        try:
            ratio = float(self.get(name) or 1)
        except ValueError:
            ratio = math.nan
        if not 0 <= ratio <= 1:
            self.refuse(name, "not a number from 0 to 1; every execution is traced")
            return 1.0
        return ratio

    def word(self, *names: str, accepted: tuple[str, ...]) -> str:
        """One of a few words; the first of them is the default."""
        word = self.get(*names).lower() or accepted[0]
        if word not in accepted:
            self.refuse(self._first(*names), f"only {', '.join(accepted)} can be used here")
            return accepted[0]
        return word

    def url(self, name: str) -> str | None:
        """An http or https URL."""
        text = self.get(name)
        if not text:
            return None
        try:
            return parse_url(text)
        except RefusedError:
            self.refuse(name, "not an http or https URL")
            return None

    def headers(self, *names: str) -> dict[str, str]:
        """HTTP headers, written as `pairs` are; their names in lower case."""
        found: dict[str, str] = {}
        for name, text in self.pairs(*names).items():
            try:
                check_header(name, text)
                found[name.lower()] = text
            except RefusedError:
                self.refuse(self._first(*names), "a part of it cannot be a header")
        return found

    def pairs(self, *names: str) -> dict[str, str]:
        """`name=value` with commas between; percent-encoded (W3C Baggage, section 3.3.1)."""
        name = self._first(*names)
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in self.get(name).split(","))):
            key, sign, value = part.partition("=")
            key, value = unquote(key.strip()), unquote(value.strip())
            if not sign or not key or not (key + value).isprintable() or "\ufffd" in key + value:
                self.refuse(name, "a part of it is not name=value")
            else:
                found[key] = value
        return found
