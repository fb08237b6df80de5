"""What clients can do with devices: list, rename and revoke them, renew their tokens, and let another one in."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import segno

from pocket_agent.errors import FileOperationError, ForbiddenError, ProjectNotFoundError, ValidationError
from pocket_agent.events import DeviceRevoked, DeviceRotated, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import Device, Execution, is_stored
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.requests import (
    DeviceData,
    DeviceListData,
    DeviceRename,
    DeviceRevoke,
    DeviceRevokedData,
    DeviceRotate,
    DeviceRotatedData,
    PairingData,
    PairingStart,
    PairingStartData,
    RunningData,
)
from pocket_agent.server.address import base_url, reachable_hosts
from pocket_agent.server.auth import hash_token, new_token
from pocket_agent.server.connection import CLOSE_GOING_AWAY, CLOSE_REVOKED, Connection
from pocket_agent.server.pairing import PAIRING_SECONDS, check_name, new_pairing
from pocket_agent.session.project_log import now
from pocket_agent.settings import CurrentSettings, is_loopback
from pocket_agent.storage import Store, let_in_by

REVOKED: Final = "this device was revoked"
"""What a close frame says to a device that was."""
_ROTATED: Final = "this device's token was replaced"
_ABSENT: Final = "There is no such device."


def older_than(device: Device) -> Callable[[Execution], bool]:
    """Whether a prompt is one that a device gave before its secret was replaced."""
    return lambda prompt: prompt.device_id == device.id and prompt.generation < device.generation


class Devices:
    """The devices that may connect, and their connections."""

    def __init__(
        self, store: Store, hub: Hub, projects: Projects, settings: CurrentSettings, observer: Observer
    ) -> None:
        self._store = store
        self._hub = hub
        self._projects = projects
        self._settings = settings
        self._observer = observer
        self._policy = Policy(settings)

    async def all(self, asking: Device) -> DeviceListData:
        """All of them, the oldest first, and the pairing codes by which further ones may come in."""
        devices = await self._store.devices()
        pairings = [
            PairingData(
                id=pairing.id,
                name=pairing.name,
                view_only=pairing.view_only,
                projects=pairing.projects,
                device_id=pairing.device_id,
                created_at=timestamp(pairing.created_at),
                expires_at=timestamp(pairing.expires_at),
            )
            for pairing in await self._store.open_pairings(now())
        ]
        return DeviceListData(
            [self._view(device, asking) for device in devices], self._settings.current.server.auth, pairings
        )

    async def rename(self, asking: Device, request: DeviceRename) -> DeviceData:
        """Give one another name.

        Raises:
            ValidationError: there is no such device, or the name is taken or cannot be one.
        """
        device = await self._store.rename_device(request.device_id, check_name(request.name))
        if device is None:
            raise ValidationError(_ABSENT)
        for connection in self._connections():
            if connection.device.id == device.id:
                connection.device = device
        return self._view(device, asking)

    async def revoke(self, asking: Device, request: DeviceRevoke) -> DeviceRevokedData:
        """End the access of one, and what it has open, queued and prepared.

        Raises:
            ValidationError: there is no such device.
        """
        guests = let_in_by(await self._store.devices(), request.device_id) if request.paired else []
        ended = []
        for device_id in (request.device_id, *(guest.id for guest in guests)):
            device = await self._store.remove_device(device_id)
            if device is None:
                continue
            ended.append(device_id)
            self._observer.emit(DeviceRevoked(device.name, asking.name))
            self._end(device_id, CLOSE_REVOKED, REVOKED)
        if request.device_id not in ended:
            raise ValidationError(_ABSENT)
        withdrawn, running = await self.withdraw(lambda prompt: prompt.device_id in ended, kill=request.kill)
        return DeviceRevokedData(request.device_id, ended, withdrawn, running)

    async def rotate(self, asking: Device, request: DeviceRotate) -> DeviceRotatedData:
        """Give one another token, and end what the old one has opened, queued and prepared.

        Raises:
            ValidationError: there is no such device.
        """
        token = new_token()
        device = await self._store.rotate_device(request.device_id, hash_token(token))
        if device is None:
            raise ValidationError(_ABSENT)
        self._observer.emit(DeviceRotated(device.name, asking.name))
        self._end(device.id, CLOSE_REVOKED, _ROTATED)
        withdrawn, running = await self.withdraw(older_than(device), kill=request.kill)
        return DeviceRotatedData(device.id, token, withdrawn, running)

    def reconnect(self, device_id: str) -> None:
        """Close the connections of a device whose cookie was replaced by its own page, which comes back."""
        self._end(device_id, CLOSE_GOING_AWAY, _ROTATED)

    async def leave(self, device: Device, *, kill: bool) -> tuple[int, list[RunningData]] | None:
        """End a device that asks for it itself; None when it is not stored, as users of single sign-on are not."""
        if await self._store.remove_device(device.id) is None:
            return None
        self._observer.emit(DeviceRevoked(device.name, device.name))
        self._end(device.id, CLOSE_REVOKED, REVOKED)
        return await self.withdraw(lambda prompt: prompt.device_id == device.id, kill=kill)

    async def renew(self, device: Device, token: str) -> tuple[int, list[RunningData]] | None:
        """Replace the secret of a device that asks for it itself, which comes back with the new one.

        None when the device is not stored.
        """
        renewed = await self._store.rotate_device(device.id, hash_token(token), device.credential, device.public_key)
        if renewed is None:
            return None
        self._observer.emit(DeviceRotated(device.name, device.name))
        self.reconnect(device.id)
        return await self.withdraw(older_than(renewed), kill=False)

    async def withdraw(self, void: Callable[[Execution], bool], *, kill: bool) -> tuple[int, list[RunningData]]:
        """Withdraw queued prompts in all projects; their number, and the executions that go on."""
        count = 0
        running = []
        for session in self._projects.all():
            # One that cannot be stored is refused when its turn comes.
            with suppress(ProjectNotFoundError, FileOperationError):
                found = await session.withdraw(void, kill=kill)
                count += found.count
                if found.running is not None and not found.killed:
                    running.append(RunningData(session.state.project.id, found.running))
        return count, running

    async def withdraw_void(self) -> None:
        """Withdraw the queued prompts of devices that a command revoked or renewed, and of users who may not come in.

        Raises:
            FileOperationError: the devices cannot be read.
        """
        queues = [session for session in self._projects.all() if session.state.queue]
        if not queues:
            return
        present = {device.id: device for device in await self._store.devices()}

        def void(prompt: Execution) -> bool:
            try:
                self._policy.check_maker(prompt.device_id)
            except ForbiddenError:
                return True
            if not is_stored(prompt.device_id):
                return False
            device = present.get(prompt.device_id or "")
            return device is None or device.generation != prompt.generation

        for session in queues:
            if any(map(void, session.state.queue)):
                with suppress(ProjectNotFoundError, FileOperationError):
                    await session.withdraw(void)

    def _end(self, device_id: str, code: int, reason: str) -> None:
        for connection in self._connections():
            if connection.device.id == device_id:
                connection.end(code, reason)

    async def pair(self, asking: Device, request: PairingStart, origin: str) -> PairingStartData:
        """A code that lets one more in.

        Args:
            asking: the device that asks, with which the code ends.
            request: what it may do.
            origin: under which address the one who asks has reached the server.

        Raises:
            ValidationError: the name cannot be one.
            ProjectNotFoundError: there is no such project.
            ResourceLimitError: too many codes wait to be used.
            ForbiddenError: the requesting device was revoked while the request was handled.
        """
        projects = request.projects
        if projects is not None:
            projects = tuple(dict.fromkeys(self._projects.get(project).state.project.id for project in projects))
        pairing, code = new_pairing(request.name, view_only=request.view_only, projects=projects, maker=asking)
        await self._store.add_pairing(pairing)
        urls = [f"{base}/pair#{code}" for base in self._bases(origin)]
        return PairingStartData(
            id=pairing.id,
            code=code,
            expires_at=timestamp(pairing.expires_at),
            expires_in=PAIRING_SECONDS,
            urls=urls,
            qr=[_qr_code(url) for url in urls],
        )

    def _bases(self, origin: str) -> list[str]:
        """Where another device finds the pages, the best address first."""
        server = self._settings.current.server
        scheme = "https" if server.tls.enabled else "http"
        bases = [server.public_url] if server.public_url is not None else []
        if server.port and not is_loopback(server.host):
            hosts = [host for host in reachable_hosts(server.host) if not is_loopback(host)]
            bases += [base_url(scheme, host, server.port) for host in hosts]
        return list(dict.fromkeys([*bases, origin]))

    def _view(self, device: Device, asking: Device) -> DeviceData:
        states = [session.state for session in self._projects.all()]
        running = [state.current for state in states if state.current is not None]
        return DeviceData(
            id=device.id,
            name=device.name,
            view_only=device.view_only,
            projects=device.projects,
            created_at=timestamp(device.created_at),
            last_seen=timestamp(device.last_seen) if device.last_seen is not None else None,
            last_address=device.last_address,
            connections=sum(connection.device.id == device.id for connection in self._connections()),
            current=device.id == asking.id,
            paired_by=device.paired_by,
            queued=sum(waiting.device_id == device.id for state in states for waiting in state.queue),
            running=[RunningData(found.project_id, found.id) for found in running if found.device_id == device.id],
            credential=device.credential,
            bound=device.public_key is not None,
        )

    def _connections(self) -> list[Connection]:
        return [sink for sink in self._hub.sinks if isinstance(sink, Connection)]


def _qr_code(text: str) -> list[str]:
    return ["".join(map(str, row)) for row in segno.make(text, micro=False).matrix]
