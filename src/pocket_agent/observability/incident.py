"""The last errors, each kind once, for a person who wants to know what went wrong. Bounded, without secrets."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pocket_agent import events
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.events import Event
from pocket_agent.observability.catalogue import OTHER
from pocket_agent.observability.fault import error_name
from pocket_agent.observability.layout import cut
from pocket_agent.observability.operation import CODE_OF_REJECTION, CODE_OF_STATUS, OPERATION_OF
from pocket_agent.observability.secret import masked, without_quotations
from pocket_agent.protocol.schema import error_codes

_KEPT: Final = 50
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Incident:
    """An error, as often as it came.

    Attributes:
        message: what it says, without what it quotes.
        count: how often it came.
        at: when it came last, in seconds since the Unix epoch.
        correlation_id: the request or the execution that it came last with.
    """

    code: str
    operation: str
    message: str
    count: int
    at: float
    correlation_id: str | None
    project_id: str | None


class Incidents:
    """Keeps the errors that the metrics count, the newest kinds of them. It is an `Observer` of the core.

    Args:
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], Incident] = OrderedDict()
        self._meanings = error_codes()

    def newest(self) -> list[Incident]:
        """All that are kept, the newest first."""
        return list(reversed(self._kept.values()))

    def emit(self, event: Event) -> None:
        """Keep an error."""
        match event:
            case events.RequestHandled(code=str(code)):
                operation = OPERATION_OF.get(event.type, OTHER)
                self._add(code, operation, event.message, event.correlation_id, event.project_id)
            case events.ConnectionRejected():
                self._add(CODE_OF_REJECTION[event.reason], "connection", f"A client was refused: {event.reason}.")
            case events.ProjectFaulted():
                message = f"A project's task failed ({error_name(event.error)}) and was started again."
                self._add(InternalError.code, "project", message, None, event.project_id)
            case events.TaskFaulted():
                message = f"A background task ({event.task}) failed ({error_name(event.error)}) and is started again."
                self._add(InternalError.code, "server", message)
            case events.ExecutionDelayed(context=context):
                self._add(event.code, "execution", event.reason, context.correlation_id, context.project_id)
            case events.ExecutionFinished(context=context):
                ended = event.code or CODE_OF_STATUS.get(event.status)
                if ended is not None:
                    self._add(ended, "execution", None, context.correlation_id, context.project_id)
            case events.StorageFailed(context=context):
                correlation_id = context.correlation_id if context is not None else None
                self._add(FileOperationError.code, "storage", event.reason, correlation_id, event.project_id)
            case events.AuditFailed():
                self._add(FileOperationError.code, "storage", f"The audit log could not be written: {event.reason}.")
            case _:
                pass

    def _add(
        self,
        code: str,
        operation: str,
        message: str | None,
        correlation_id: str | None = None,
        project_id: str | None = None,
    ) -> None:
        # What stands in quotation marks is what a client gave; what a code means says nothing of anybody.
        text = cut(masked(without_quotations(message)), _LONGEST) if message else self._meanings.get(code, code)
        key = (code, operation, text)
        before = self._kept.pop(key, None)
        count = before.count + 1 if before is not None else 1
        self._kept[key] = Incident(code, operation, text, count, self._clock(), correlation_id, project_id)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
