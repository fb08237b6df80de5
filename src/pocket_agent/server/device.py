"""What clients can do with devices: list, rename and revoke them, renew their tokens, and let another one in."""

from collections import Counter
from typing import Final

import segno

from pocket_agent.config import is_loopback
from pocket_agent.config.settings import Settings
from pocket_agent.errors import ValidationError
from pocket_agent.events import DeviceRevoked, DeviceRotated, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import Device
from pocket_agent.projects import Projects
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import (
    DeviceData,
    DeviceListData,
    DeviceRevokedData,
    DeviceRotatedData,
    PairingStartData,
)
from pocket_agent.protocol.request import DeviceList, DeviceRename, DeviceRevoke, DeviceRotate, PairingStart
from pocket_agent.server.address import base_url, reachable_hosts
from pocket_agent.server.auth import hash_token, new_token
from pocket_agent.server.connection import CLOSE_GOING_AWAY, CLOSE_REVOKED, Connection
from pocket_agent.server.pairing import PAIRING_SECONDS, check_name, new_pairing
from pocket_agent.storage import Store

REVOKED: Final = "this device was revoked"
"""What a close frame says to a device that was."""
_ROTATED: Final = "this device's token was replaced"
_ABSENT: Final = "There is no such device."


class Devices:
    """The devices that may connect, and their connections."""

    def __init__(self, store: Store, hub: Hub, projects: Projects, settings: Settings, observer: Observer) -> None:
        self._store = store
        self._hub = hub
        self._projects = projects
        self._settings = settings
        self._observer = observer

    async def answer(
        self, asking: Connection, request: DeviceList | DeviceRename | DeviceRevoke | DeviceRotate | PairingStart
    ) -> DeviceListData | DeviceData | DeviceRevokedData | DeviceRotatedData | PairingStartData:
        """The reply to a request that concerns devices; raises what the methods below do."""
        match request:
            case DeviceList():
                return await self.all(asking.device)
            case DeviceRename():
                return await self.rename(asking.device, request)
            case DeviceRevoke(device_id=device_id):
                return await self.revoke(asking.device, device_id)
            case DeviceRotate(device_id=device_id):
                return await self.rotate(asking.device, device_id)
            case PairingStart():
                return await self.pair(request, asking.peer.origin)

    async def all(self, asking: Device) -> DeviceListData:
        """All of them, the oldest first."""
        connected = Counter(connection.device.id for connection in self._connections())
        devices = await self._store.devices()
        views = [_view(device, connected[device.id], asking) for device in devices]
        return DeviceListData(views, self._settings.server.auth)

    async def rename(self, asking: Device, request: DeviceRename) -> DeviceData:
        """Give one another name.

        Raises:
            ValidationError: there is no such device, or the name is taken or cannot be one.
        """
        device = await self._store.rename_device(request.device_id, check_name(request.name))
        if device is None:
            raise ValidationError(_ABSENT)
        connections = [connection for connection in self._connections() if connection.device.id == device.id]
        for connection in connections:
            connection.device = device
        return _view(device, len(connections), asking)

    async def revoke(self, asking: Device, device_id: str) -> DeviceRevokedData:
        """End the access of one, and its connections.

        Raises:
            ValidationError: there is no such device.
        """
        device = await self._store.remove_device(device_id)
        if device is None:
            raise ValidationError(_ABSENT)
        self._observer.emit(DeviceRevoked(device.name, asking.name))
        self.disconnect(device_id)
        return DeviceRevokedData(device_id)

    async def rotate(self, asking: Device, device_id: str) -> DeviceRotatedData:
        """Give one another token, and end what the old one has opened.

        Raises:
            ValidationError: there is no such device.
        """
        token = new_token()
        device = await self._store.rotate_device(device_id, hash_token(token))
        if device is None:
            raise ValidationError(_ABSENT)
        self._observer.emit(DeviceRotated(device.name, asking.name))
        self._end(device_id, CLOSE_REVOKED, _ROTATED)
        return DeviceRotatedData(device_id, token)

    def disconnect(self, device_id: str) -> None:
        """Close the connections of a device that is no more."""
        self._end(device_id, CLOSE_REVOKED, REVOKED)

    def reconnect(self, device_id: str) -> None:
        """Close the connections of a device that has renewed its own token: whoever holds the new one comes back."""
        self._end(device_id, CLOSE_GOING_AWAY, _ROTATED)

    def _end(self, device_id: str, code: int, reason: str) -> None:
        for connection in self._connections():
            if connection.device.id == device_id:
                connection.end(code, reason)

    async def pair(self, request: PairingStart, origin: str) -> PairingStartData:
        """A code that lets one more in.

        Args:
            request: what it may do.
            origin: under which address the one who asks has reached the server.

        Raises:
            ValidationError: the name cannot be one.
            ProjectNotFoundError: there is no such project.
            ResourceLimitError: too many codes wait to be used.
        """
        projects = request.projects
        if projects is not None:
            projects = tuple(dict.fromkeys(self._projects.get(project).state.project.id for project in projects))
        pairing, code = new_pairing(request.name, view_only=request.view_only, projects=projects)
        await self._store.add_pairing(pairing)
        urls = [f"{base}/pair#{code}" for base in self._bases(origin)]
        return PairingStartData(
            code=code,
            expires_at=timestamp(pairing.expires_at),
            expires_in=PAIRING_SECONDS,
            urls=urls,
            qr=[_qr_code(url) for url in urls],
        )

    def _bases(self, origin: str) -> list[str]:
        """Where another device finds the pages, the best address first."""
        server = self._settings.server
        scheme = "https" if server.tls.enabled else "http"
        bases = [server.public_url] if server.public_url is not None else []
        if server.port and not is_loopback(server.host):
            hosts = [host for host in reachable_hosts(server.host) if not is_loopback(host)]
            bases += [base_url(scheme, host, server.port) for host in hosts]
        return list(dict.fromkeys([*bases, origin]))

    def _connections(self) -> list[Connection]:
        return [sink for sink in self._hub.sinks if isinstance(sink, Connection)]


def _qr_code(text: str) -> list[str]:
    return ["".join(map(str, row)) for row in segno.make(text, micro=False).matrix]


def _view(device: Device, connections: int, asking: Device) -> DeviceData:
    return DeviceData(
        id=device.id,
        name=device.name,
        view_only=device.view_only,
        projects=device.projects,
        created_at=timestamp(device.created_at),
        last_seen=timestamp(device.last_seen) if device.last_seen is not None else None,
        last_address=device.last_address,
        connections=connections,
        current=device.id == asking.id,
    )
