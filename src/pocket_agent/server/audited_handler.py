"""Writes the requests of clients that change something, and refused ones, to the audit log."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pocket_agent.audit import AuditLog, AuditRecord, timestamp
from pocket_agent.errors import InternalError, PocketAgentError
from pocket_agent.model import ConversationId, Device, project_of
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.frame_parser import ClientFrame
from pocket_agent.server.connection import Connection, Done, Handler
from pocket_agent.server.peer import Peer


@dataclass(frozen=True)
class AuditedHandler:
    """A `Handler` that delegates to another one, and records the outcome."""

    handler: Handler
    trail: AuditLog

    def prepare(
        self, connection: Connection, frame: ClientFrame, correlation_id: str
    ) -> Callable[[], Awaitable[Done | None]]:
        if not frame.request.spec.audited:
            return self.handler.prepare(connection, frame, correlation_id)
        try:
            act = self.handler.prepare(connection, frame, correlation_id)
        except PocketAgentError as error:
            self._record(connection, frame, error.code, None)
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
                self._record(connection, frame, code, done)
            return done

        return audited

    def left(self, conversation_id: ConversationId) -> None:
        self.handler.left(conversation_id)

    def renew_watch(self, connection: Connection) -> None:
        self.handler.renew_watch(connection)

    def _record(self, connection: Connection, frame: ClientFrame, outcome: str, done: Done | None) -> None:
        conversation_id = (done.conversation_id if done is not None else None) or frame.conversation_id
        project_id = project_of(conversation_id) if conversation_id is not None else None
        details = frame.request.audit_details()
        if conversation_id != project_id:
            details["conversation_id"] = conversation_id
        match done.reply if done is not None else None:
            case requests.ExecuteData(execution_id=execution_id) | push.AgentKillData(execution_id=execution_id):
                details["execution_id"] = execution_id
        self.trail.append(
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
    return AuditRecord(timestamp(), action, outcome, device.name, device.id, peer.address, project_id, details or {})
