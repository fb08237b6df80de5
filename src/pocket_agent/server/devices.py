"""Requests about devices: list, rename and revoke them, replace their tokens, pair another one."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import FileOperationError, ForbiddenError, ProjectNotFoundError, ValidationError
from pocket_agent.events import DeviceRevoked, DeviceRotated, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import ConversationId, Device, Execution, is_stored, project_of
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol import requests
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.requests import RunningData
from pocket_agent.server.address import base_url, reachable_hosts
from pocket_agent.server.auth import hash_token, new_token
from pocket_agent.server.connection import CLOSE_GOING_AWAY, CLOSE_REVOKED, Call, Connection
from pocket_agent.server.pairing import PAIRING_SECONDS, check_name, new_pairing
from pocket_agent.settings import CurrentSettings, is_loopback
from pocket_agent.storage import Store

REVOKED: Final = "this device was revoked"  # the reason in the close frame of a revoked device
_ROTATED: Final = "this device's token was replaced"
_ABSENT: Final = "There is no such device."


def older_than(device: Device) -> Callable[[Execution], bool]:
    """Whether a device sent a prompt before its secret was replaced."""
    return lambda prompt: prompt.device_id == device.id and prompt.generation < device.generation


@dataclass
class Devices:
    """The devices that may connect, and their connections."""

    store: Store
    hub: Hub
    projects: Projects
    settings: CurrentSettings
    observer: Observer

    async def on_device_list(self, call: Call, request: requests.DeviceList) -> requests.DeviceListData:
        """All devices, the oldest first, and the pairing codes that are valid now."""
        devices = await self.store.devices()
        pairings = [
            requests.PairingData(
                id=pairing.id,
                name=pairing.name,
                view_only=pairing.view_only,
                projects=pairing.projects,
                device_id=pairing.device_id,
                created_at=timestamp(pairing.created_at),
                expires_at=timestamp(pairing.expires_at),
            )
            for pairing in await self.store.open_pairings(now())
        ]
        auth = self.settings.current.server.auth
        return requests.DeviceListData([self._view(device, call) for device in devices], auth, pairings)

    async def on_device_rename(self, call: Call, request: requests.DeviceRename) -> requests.DeviceData:
        """Rename a device; raises ValidationError when it does not exist, or the name is taken or invalid."""
        device = await self.store.rename_device(request.device_id, check_name(request.name))
        if device is None:
            raise ValidationError(_ABSENT)
        for connection in self._connections():
            if connection.device.id == device.id:
                connection.device = device
        return self._view(device, call)

    async def on_device_revoke(self, call: Call, request: requests.DeviceRevoke) -> requests.DeviceRevokedData:
        """End the access of a device, its connections, queued prompts and pairing codes."""
        ended = []
        for device in await self.store.remove_devices(request.device_id, paired=request.paired):
            ended.append(device.id)
            self.observer.emit(DeviceRevoked(device.name, call.device.name))
            self._end(device.id, CLOSE_REVOKED, REVOKED)
        if request.device_id not in ended:
            raise ValidationError(_ABSENT)
        withdrawn, running = await self.withdraw(lambda prompt: prompt.device_id in ended, kill=request.kill)
        return requests.DeviceRevokedData(request.device_id, ended, withdrawn, running)

    async def on_device_rotate(self, call: Call, request: requests.DeviceRotate) -> requests.DeviceRotatedData:
        """Replace a device's token, and end the connections, queued prompts and pairing codes of the old one."""
        token = new_token()
        device = await self.store.rotate_device(request.device_id, hash_token(token))
        if device is None:
            raise ValidationError(_ABSENT)
        self.observer.emit(DeviceRotated(device.name, call.device.name))
        self._end(device.id, CLOSE_REVOKED, _ROTATED)
        withdrawn, running = await self.withdraw(older_than(device), kill=request.kill)
        return requests.DeviceRotatedData(device.id, token, withdrawn, running)

    def reconnect(self, device_id: str) -> None:
        """Close the connections of a device whose cookie its own page has replaced; it reconnects."""
        self._end(device_id, CLOSE_GOING_AWAY, _ROTATED)

    async def leave(self, device: Device, *, kill: bool) -> tuple[int, list[RunningData]] | None:
        """Delete the requesting device; None when it is not stored, as users of single sign-on are not."""
        if await self.store.remove_device(device.id) is None:
            return None
        self.observer.emit(DeviceRevoked(device.name, device.name))
        self._end(device.id, CLOSE_REVOKED, REVOKED)
        return await self.withdraw(lambda prompt: prompt.device_id == device.id, kill=kill)

    async def renew(self, device: Device, token: str) -> tuple[int, list[RunningData]] | None:
        """Replace the secret of the requesting device, which reconnects; None when it is not stored."""
        renewed = await self.store.rotate_device(device.id, hash_token(token), device.credential, device.public_key)
        if renewed is None:
            return None
        self.observer.emit(DeviceRotated(device.name, device.name))
        self.reconnect(device.id)
        return await self.withdraw(older_than(renewed), kill=False)

    async def withdraw(self, void: Callable[[Execution], bool], *, kill: bool) -> tuple[int, list[RunningData]]:
        """Withdraw queued prompts in all projects; returns their number, and the executions that go on."""
        count = 0
        running = []
        for conversation in self.projects.all():
            # A withdrawal that cannot be stored is refused when the prompt starts.
            with suppress(ProjectNotFoundError, FileOperationError):
                found = await conversation.prompts.withdraw(void, kill=kill)
                count += found.count
                if found.running is not None and not found.killed:
                    running.append(_running(conversation.state.record.id, found.running))
        return count, running

    async def withdraw_void(self) -> None:
        """Withdraw the queued prompts of devices that a command revoked or rotated, and of users without access.

        Raises:
            FileOperationError: the devices cannot be read.
        """
        queues = [conversation for conversation in self.projects.all() if conversation.state.queue]
        if not queues:
            return
        present = {device.id: device for device in await self.store.devices()}

        policy = Policy(self.settings)

        def void(prompt: Execution) -> bool:
            try:
                policy.check_maker(prompt.device_id)
            except ForbiddenError:
                return True
            if not is_stored(prompt.device_id):
                return False
            device = present.get(prompt.device_id or "")
            return device is None or device.generation != prompt.generation

        for conversation in queues:
            if any(map(void, conversation.state.queue)):
                with suppress(ProjectNotFoundError, FileOperationError):
                    await conversation.prompts.withdraw(void)

    def _end(self, device_id: str, code: int, reason: str) -> None:
        for connection in self._connections():
            if connection.device.id == device_id:
                connection.end(code, reason)

    async def on_pairing_start(self, call: Call, request: requests.PairingStart) -> requests.PairingStartData:
        """Make a pairing code, which ends with the requesting device.

        Raises:
            ValidationError: the name is invalid.
            ProjectNotFoundError: there is no such project.
            ResourceLimitError: too many codes are open.
            ForbiddenError: the requesting device was revoked while the request was handled.
        """
        projects = request.projects
        if projects is not None:
            projects = tuple(dict.fromkeys(self.projects.get(project).state.record.project_id for project in projects))
        pairing, code = new_pairing(request.name, view_only=request.view_only, projects=projects, maker=call.device)
        await self.store.add_pairing(pairing)
        urls = [f"{base}/pair#{code}" for base in self._bases(call.connection.peer.origin)]
        return requests.PairingStartData(
            id=pairing.id,
            code=code,
            expires_at=timestamp(pairing.expires_at),
            expires_in=PAIRING_SECONDS,
            urls=urls,
            qr=[_qr_code(url) for url in urls],
        )

    async def on_pairing_cancel(self, call: Call, request: requests.PairingCancel) -> requests.PairingCancelledData:
        if not await self.store.cancel_pairing(request.pairing_id):
            raise ValidationError("There is no such pairing code; it was used, cancelled, or has expired.")
        return requests.PairingCancelledData(request.pairing_id)

    def _bases(self, origin: str) -> list[str]:
        server = self.settings.current.server
        scheme = "https" if server.tls.enabled else "http"
        bases = [server.public_url] if server.public_url is not None else []
        if server.port and not is_loopback(server.host):
            hosts = [host for host in reachable_hosts(server.host) if not is_loopback(host)]
            bases += [base_url(scheme, host, server.port) for host in hosts]
        return list(dict.fromkeys([*bases, origin]))

    def _view(self, device: Device, call: Call) -> requests.DeviceData:
        states = [conversation.state for conversation in self.projects.all()]
        running = [state.current for state in states if state.current is not None]
        return requests.DeviceData(
            id=device.id,
            name=device.name,
            view_only=device.view_only,
            projects=device.projects,
            created_at=timestamp(device.created_at),
            last_seen=timestamp(device.last_seen) if device.last_seen is not None else None,
            last_address=device.last_address,
            connections=sum(connection.device.id == device.id for connection in self._connections()),
            current=device.id == call.device.id,
            paired_by=device.paired_by,
            queued=sum(waiting.device_id == device.id for state in states for waiting in state.queue),
            running=[_running(found.conversation_id, found.id) for found in running if found.device_id == device.id],
            credential=device.credential,
            bound=device.public_key is not None,
        )

    def _connections(self) -> list[Connection]:
        return [sink for sink in self.hub.sinks if isinstance(sink, Connection)]


def _qr_code(text: str) -> list[str]:
    import segno

    return ["".join(map(str, row)) for row in segno.make(text, micro=False).matrix]


def _running(conversation_id: ConversationId, execution_id: str) -> RunningData:
    project_id = project_of(conversation_id)
    other = msgspec.UNSET if conversation_id == project_id else conversation_id
    return RunningData(project_id, execution_id, other)
