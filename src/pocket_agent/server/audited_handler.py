"""Notes in the audit log what clients change, and what they were refused."""

from collections.abc import Awaitable, Callable, Mapping

from pocket_agent.audit.audit_log import AuditLog, AuditRecord, timestamp
from pocket_agent.errors import InternalError, PocketAgentError
from pocket_agent.model import Device, ProjectId
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.requests import ClientFrame
from pocket_agent.server.connection import Connection, Done, Handler
from pocket_agent.server.peer import Peer


class AuditedHandler:
    """A `Handler` that lets another one answer, and notes what came of it.

    Args:
        handler: answers.
        trail: where to note it.
    """

    def __init__(self, handler: Handler, trail: AuditLog) -> None:
        self._handler = handler
        self._trail = trail

    def prepare(
        self, connection: Connection, frame: ClientFrame, correlation_id: str
    ) -> Callable[[], Awaitable[Done | None]]:
        """As the other one does."""
        if not frame.request.spec.audited:
            return self._handler.prepare(connection, frame, correlation_id)
        try:
            act = self._handler.prepare(connection, frame, correlation_id)
        except PocketAgentError as error:
            self._note(connection, frame, error.code, None)
            raise

        async def audited() -> Done | None:
            code, done = InternalError.code, None
            try:
                done = await act()
                code = "ok"
            except PocketAgentError as error:
                code = error.code
                raise
            finally:
                self._note(connection, frame, code, done)
            return done

        return audited

    def left(self, project_id: ProjectId) -> None:
        """As the other one does."""
        self._handler.left(project_id)

    def renew_watch(self, connection: Connection) -> None:
        """As the other one does."""
        self._handler.renew_watch(connection)

    def _note(self, connection: Connection, frame: ClientFrame, outcome: str, done: Done | None) -> None:
        project_id = (done.project_id if done is not None else None) or frame.project_id
        details = {**frame.request.audit_details(), **_replied(done)}
        self._trail.append(
            record(frame.type, connection.device, connection.peer, outcome, project_id=project_id, details=details)
        )


def record(
    action: str,
    device: Device,
    peer: Peer,
    outcome: str = "ok",
    *,
    project_id: str | None = None,
    details: Mapping[str, object] | None = None,
) -> AuditRecord:
    """What a device did just now."""
    return AuditRecord(timestamp(), action, outcome, device.name, device.id, peer.address, project_id, details or {})


def _replied(done: Done | None) -> dict[str, object]:
    match done.reply if done is not None else None:
        case requests.ExecuteData(execution_id=execution_id) | push.AgentKillData(execution_id=execution_id):
            return {"execution_id": execution_id}
        case _:
            return {}
