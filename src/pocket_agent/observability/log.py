"""The server's own log: one line for each event worth telling, as JSON or for people.

The JSON form is that of the monitoring guide. Prompts, tokens and secrets never reach it: events
carry ids, not contents, and structlog's renderers escape what a client chose.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from pocket_agent import __version__, events
from pocket_agent.config.settings import LoggingSettings
from pocket_agent.events import Event

_FILE_BYTES: Final = 16 * 1024 * 1024
_FILES_KEPT: Final = 5
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LOGGER: Final = "pocket_agent"

Line = tuple[str, str, dict[str, object]]
"""Level, message, fields."""


def configure(settings: LoggingSettings) -> None:
    """Send the log where the settings say; called again, it replaces what was configured before."""
    logger = logging.getLogger(_LOGGER)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    match settings.output:
        case "stdout":
            handler: logging.Handler = logging.StreamHandler(sys.stdout)
        case "stderr":
            handler = logging.StreamHandler(sys.stderr)
        case path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(_LEVELS[settings.level])
    colours = settings.output in {"stdout", "stderr"} and getattr(sys, settings.output, sys.stdout).isatty()
    shape: list[structlog.typing.Processor] = [_json(settings.fields)]
    if settings.format == "text":
        shape = [_printable, structlog.dev.ConsoleRenderer(colors=colours)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            *shape,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _printable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a client chose cannot begin a line or colour one; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            kept = "\n" if name == "exception" else ""
            event[name] = "".join(
                character
                if character.isprintable() or character in kept
                else character.encode("unicode_escape", "backslashreplace").decode()
                for character in value
            )
    return event


def _json(
    constants: Mapping[str, object],
) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    fixed = {"service": "pocket-agent-server", "environment": "production", "version": __version__, **constants}

    def render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
        now = datetime.now(UTC)
        line: dict[str, object] = {
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
            "level": event.pop("level"),
            "msg": event.pop("event"),
            **fixed,
        }
        for name in ("correlation_id", "project_id", "duration_ms"):
            if event.get(name) is not None:
                line[name] = event.pop(name)
            else:
                event.pop(name, None)
        if event:
            line["fields"] = dict(event)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:  # a lone surrogate, or an integer of more than 64 bits
            return json.dumps(line, default=str)

    return render


class LogObserver:
    """Writes events into the log. It is an `Observer` of the core."""

    def __init__(self) -> None:
        self._logger = structlog.get_logger(_LOGGER)

    def emit(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        line = describe(event)
        if line is not None:
            level, text, fields = line
            self._logger.log(_LEVELS[level], text, **fields)


def describe(event: Event) -> Line | None:  # noqa: C901, PLR0911, PLR0912 - one branch for each event
    """The line of an event; None for one that is only counted."""
    match event:
        case events.ServerStarted():
            return "info", "server ready", {"addresses": event.addresses, "projects": event.projects}
        case events.ServerStopping():
            return "info", "server stopping", {"reason": event.reason}
        case events.ServerStopped():
            return "info", "server stopped", {"agents_left_running": event.agents_left}
        case events.CertificateLoaded():
            return "info", "certificate loaded", {"not_after": event.not_after, "self_signed": event.self_signed}
        case events.SettingIgnored():
            return "warning", "setting ignored", {"setting": event.setting, "reason": event.reason}
        case events.ConnectionOpened():
            return (
                "info",
                "connection opened",
                {"correlation_id": event.connection_id, "device": event.device, "remote": event.remote},
            )
        case events.ConnectionRejected():
            return "warning", "connection rejected", {"reason": event.reason, "remote": event.remote}
        case events.ConnectionClosed():
            return (
                "info",
                "connection closed",
                {
                    "correlation_id": event.connection_id,
                    "duration_ms": round(event.duration * 1000),
                    "device": event.device,
                    "code": event.code,
                    "initiator": event.initiator,
                },
            )
        case events.RequestHandled():
            return (
                "debug",
                "request handled",
                {
                    "correlation_id": event.correlation_id,
                    "project_id": event.project_id,
                    "duration_ms": round(event.duration * 1000, 3),
                    "type": event.type,
                    "code": event.code,
                },
            )
        case events.RequestFaulted():
            return (
                "error",
                "request faulted",
                {"correlation_id": event.correlation_id, "type": event.type, "exc_info": event.error},
            )
        case events.ProjectCreated():
            return "info", "project created", {"project_id": event.project_id}
        case events.ProjectDeleted():
            return "info", "project deleted", {"project_id": event.project_id}
        case events.ProjectFaulted():
            return "error", "project faulted", {"project_id": event.project_id, "exc_info": event.error}
        case events.ExecutionQueued():
            return "debug", "execution queued", {"project_id": event.project_id, "execution_id": event.execution_id}
        case events.ExecutionStarted():
            return (
                "info",
                "execution started",
                {"project_id": event.project_id, "execution_id": event.execution_id, "warm": event.warm},
            )
        case events.ExecutionFinished():
            return "info", "execution completed", _execution(event)
        case events.ApprovalRequested():
            return (
                "info",
                "approval requested",
                {"project_id": event.project_id, "approval_id": event.approval_id, "tool": event.tool},
            )
        case events.ApprovalResolved():
            return (
                "info",
                "approval resolved",
                {
                    "project_id": event.project_id,
                    "duration_ms": round(event.waited * 1000),
                    "approval_id": event.approval_id,
                    "behavior": event.behavior,
                },
            )
        case events.ProcessSpawned():
            return (
                "info",
                "process spawned",
                {"project_id": event.project_id, "duration_ms": round(event.duration * 1000), "pid": event.pid},
            )
        case events.ProcessAdopted():
            return "info", "process adopted", {"project_id": event.project_id, "pid": event.pid}
        case events.ProcessExited():
            return "info", "process exited", {"project_id": event.project_id, "pid": event.pid, "code": event.code}
        case events.LineRejected():
            return "warning", "line rejected", {"project_id": event.project_id, "reason": event.reason}
        case events.StorageFailed():
            return "error", "storage failed", {"project_id": event.project_id, "reason": event.reason}
        case events.ConsumerDropped():
            return "warning", "slow consumer dropped", {"correlation_id": event.connection_id, "device": event.device}


def _execution(event: events.ExecutionFinished) -> dict[str, object]:
    return {
        "project_id": event.project_id,
        "duration_ms": round(event.duration * 1000),
        "execution_id": event.execution_id,
        "status": event.status,
        "waited_ms": round(event.waited * 1000),
        "session_id": event.session_id,
        "model": event.model,
        "prompt_tokens": event.input_tokens,
        "completion_tokens": event.output_tokens,
        "cost_usd": event.cost_usd,
    }
