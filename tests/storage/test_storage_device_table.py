"""Devices by way of a command beside the server."""

from pathlib import Path

from pocket_agent.model import Device, Milliseconds
from pocket_agent.storage import (
    Store,
    add_device,
    connection_beside,
    device_by_hash,
    devices,
    remove_device,
    touch_device,
)
from tests.storage.sample import modes

PHONE = Device("d1", "phone", "aa", Milliseconds(1))


async def test_a_device_can_be_added_before_the_first_start(database: Path) -> None:
    with connection_beside(database) as connection:
        add_device(connection, PHONE)
    assert modes(database.parent) == {database.name: 0o600, f"{database.name}.lock": 0o600}
    store = Store.open(database)
    assert await store.devices() == [PHONE]
    assert not store.epochs_renewed
    await store.close()


async def test_a_running_server_sees_what_a_command_does(store: Store, database: Path) -> None:
    with connection_beside(database) as connection:
        add_device(connection, PHONE)
        touch_device(connection, "d1", Milliseconds(5), "192.0.2.7")
        assert device_by_hash(connection, "aa") == devices(connection)[0]
    found = await store.device_by_hash("aa")
    assert found is not None
    assert found.last_seen == 5
    with connection_beside(database) as connection:
        assert remove_device(connection, "d1") == found
        assert remove_device(connection, "d1") is None
    assert await store.device_by_hash("aa") is None
