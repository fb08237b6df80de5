"""Notes in the audit log what clients change, and what they were refused."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from pocket_agent.audit.record import Record
from pocket_agent.audit.trail import Trail, timestamp
from pocket_agent.errors import InternalError, PocketAgentError
from pocket_agent.model import Device, ProjectId
from pocket_agent.protocol import push
from pocket_agent.protocol import request as message
from pocket_agent.protocol.request import ClientFrame
from pocket_agent.server.connection import Connection, Done, Handler
from pocket_agent.server.peer import Peer
from pocket_agent.server.permission import FIGURES, NEEDS, Need

_ASKING: Final = frozenset({"path_complete", "path_inspect", "device_list", *FIGURES})
"""Requests that change nothing, beside those that anybody may make."""


class Witness:
    """A `Handler` that lets another one answer, and notes what came of it.

    Args:
        handler: answers.
        trail: where to note it.
    """

    def __init__(self, handler: Handler, trail: Trail) -> None:
        self._handler = handler
        self._trail = trail

    def prepare(
        self, connection: Connection, frame: ClientFrame, correlation_id: str
    ) -> Callable[[], Awaitable[Done | None]]:
        """As the other one does."""
        if not _changes(frame.type):
            return self._handler.prepare(connection, frame, correlation_id)
        try:
            act = self._handler.prepare(connection, frame, correlation_id)
        except PocketAgentError as error:
            self._note(connection, frame, error.code, None)
            raise

        async def witnessed() -> Done | None:
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

        return witnessed

    def waits(self, frame: ClientFrame) -> bool:
        """As the other one does."""
        return self._handler.waits(frame)

    def left(self, project_id: ProjectId) -> None:
        """As the other one does."""
        self._handler.left(project_id)

    def renew_watch(self, connection: Connection) -> None:
        """As the other one does."""
        self._handler.renew_watch(connection)

    def _note(self, connection: Connection, frame: ClientFrame, outcome: str, done: Done | None) -> None:
        project_id = (done.project_id if done is not None else None) or frame.project_id
        details = {**_asked(frame), **_replied(done)}
        self._trail.note(
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
) -> Record:
    """What a device did just now."""
    return Record(timestamp(), action, outcome, device.name, device.id, peer.address, project_id, details or {})


def _changes(kind: str) -> bool:
    return NEEDS.get(kind, Need.OWN) is not Need.WATCH and kind not in _ASKING


def _asked(frame: ClientFrame) -> dict[str, object]:
    """The ids and choices of a request; no text that a person or an agent wrote."""
    match frame.request:
        case message.Execute(prompt_id=prompt_id, options=options):
            chosen = {} if options is None else msgspec.to_builtins(options.to_model())
            chosen.pop("append_system_prompt", None)
            if "mcp_config" in chosen:
                chosen["mcp_config"] = True
            return {"prompt_id": prompt_id, "options": chosen}
        case message.ApprovalRespond() as answer:
            changed = answer.updated_input is not None
            return {
                "approval_id": answer.approval_id,
                "behavior": answer.behavior,
                "remember": answer.remember,
                "changed_input": changed,
            }
        case message.PromptEdit(execution_id=execution_id) | message.PromptCancel(execution_id=execution_id):
            return {"execution_id": execution_id}
        case (
            message.AgentKill()
            | message.AgentInterrupt()
            | message.ProjectCreate()
            | message.ProjectTrust()
            | message.SetModel()
            | message.SetPermissionMode()
            | message.SessionResume()
        ):
            return _fields(frame)
        case (
            message.DeviceRename()
            | message.DeviceRevoke()
            | message.DeviceRotate()
            | message.PairingStart()
            | message.PairingCancel()
        ):
            return _fields(frame)
        case _:
            return {}


def _fields(frame: ClientFrame) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(frame.request)
    found.pop("project_id", None)
    return found


def _replied(done: Done | None) -> dict[str, object]:
    match done.reply if done is not None else None:
        case push.ExecuteData(execution_id=execution_id) | push.AgentKillData(execution_id=execution_id):
            return {"execution_id": execution_id}
        case _:
            return {}
