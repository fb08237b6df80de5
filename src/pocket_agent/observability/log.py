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

from pocket_agent import __version__
from pocket_agent.config.settings import LoggingSettings
from pocket_agent.events import Event
from pocket_agent.observability.line import describe

_FILE_BYTES: Final = 16 * 1024 * 1024
_FILES_KEPT: Final = 5
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LOGGER: Final = "pocket_agent"


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
            fields = line.fields
            if line.context is not None:
                context = line.context
                fields = {
                    "correlation_id": context.correlation_id,
                    "project_id": context.project_id,
                    "execution_id": context.execution_id,
                    **fields,
                }
            self._logger.log(_LEVELS[line.level], line.msg, **fields)
