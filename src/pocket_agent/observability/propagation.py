"""Hands an execution's trace on to the CLI, and switches the CLI's own spans on.

The variables are those that the CLI (2.1.330) was seen to need. What the user has set in
`claude.environment` wins over all of them, and so does the `env` of the user's own CLI settings.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from pocket_agent.events import SettingIgnored
from pocket_agent.model import ExecutionContext
from pocket_agent.observability.sampling import identify, traceparent
from pocket_agent.observability.telemetry import TraceOptions

_TRACEPARENT: Final = "TRACEPARENT"
_OWN_SWITCH: Final = "CLAUDE_CODE_ENABLE_TELEMETRY"
_FIXED: Final = {
    _OWN_SWITCH: "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    # The flag of TRACEPARENT decides, so that a trace is kept or dropped as a whole.
    "OTEL_TRACES_SAMPLER": "parentbased_always_on",
    "OTEL_SERVICE_NAME": "claude-code",
    # A process that is ended loses what was not exported yet.
    "OTEL_TRACES_EXPORT_INTERVAL": "1000",
    # A collector that hangs delays the end of the process by no more than this, in milliseconds.
    "CLAUDE_CODE_OTEL_SHUTDOWN_TIMEOUT_MS": "500",
    # Prompts and what tools do stay out of the spans, whatever the server's own environment says.
    "OTEL_LOG_USER_PROMPTS": "0",
    "OTEL_LOG_TOOL_DETAILS": "0",
    "OTEL_LOG_TOOL_CONTENT": "0",
    "OTEL_LOG_ASSISTANT_RESPONSES": "0",
    "OTEL_LOG_RAW_API_BODIES": "0",
    "ENABLE_BETA_TRACING_DETAILED": "0",
}
_OTHER_SIGNALS: Final = {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
"""Only spans are asked for here; a user who had switched the CLI's telemetry on keeps the other signals."""
_PROCESS_ATTRIBUTES: Final = ("service.", "host.", "os.", "process.")
"""What the CLI says of itself."""


class AgentTelemetry:
    """The `Propagator` of a server that traces.

    Args:
        options: where the CLI is to export to.
        inherited: the environment that agents start from.
        chosen: the variables that the user has set for the CLI.
    """

    def __init__(self, options: TraceOptions, inherited: Mapping[str, str], chosen: Mapping[str, str]) -> None:
        self._sampler = options.sampler
        self._chosen = chosen
        self._resource = {
            name: value for name, value in options.resource.items() if not name.startswith(_PROCESS_ATTRIBUTES)
        }
        self._fixed = {
            **_FIXED,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": options.endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": options.compression,
        }
        if not inherited.get(_OWN_SWITCH):
            self._fixed |= _OTHER_SIGNALS
        # The CLI takes values as they stand, without decoding; so a comma would end one.
        sendable = {name: value for name, value in options.headers.items() if "," not in value}
        self._fixed["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = ",".join(
            f"{name}={value}" for name, value in sendable.items()
        )
        self._unsendable = sorted(options.headers.keys() - sendable.keys())
        described = json.dumps([self._fixed, self._resource], sort_keys=True)
        self.mark = hashlib.sha256(described.encode()).hexdigest()[:16]

    def ignored(self) -> tuple[SettingIgnored, ...]:
        """What of the settings the CLI cannot be given."""
        reason = "The value has a comma, which the CLI cannot be handed; its spans go without this header."
        return tuple(SettingIgnored(f"traces.headers.{name}", reason) for name in self._unsendable)

    def environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """All that makes the CLI's spans part of the trace, for a process that is started."""
        attributes = {**self._resource, "project.id": context.project_id}
        encoded = ",".join(f"{quote(name)}={quote(str(value))}" for name, value in attributes.items())
        return {**self._fixed, "OTEL_RESOURCE_ATTRIBUTES": encoded, **self.prompt_environment(context)}

    def prompt_environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """The execution's span as the parent, for a process that runs."""
        if _TRACEPARENT in self._chosen:
            return {}
        return {_TRACEPARENT: traceparent(identify(context, self._sampler))}
