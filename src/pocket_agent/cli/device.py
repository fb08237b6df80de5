"""`pocket-agent devices`: who may connect."""

import typer

from pocket_agent.config import LoadedSettings
from pocket_agent.errors import ValidationError
from pocket_agent.protocol.frame import timestamp
from pocket_agent.server.auth import new_device
from pocket_agent.server.pairing import check_name
from pocket_agent.storage import add_device, connection_beside, device_named, devices, remove_device
from pocket_agent.storage.location import database_path


def make_device(loaded: LoadedSettings, name: str) -> str:
    """Store a new device and return its token, which is kept nowhere.

    Raises:
        ValidationError: the name is taken, empty or not printable.
    """
    device, token = new_device(check_name(name))
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        add_device(connection, device)
    return token


def add(loaded: LoadedSettings, name: str, *, bare: bool) -> None:
    """Add a device and print its token."""
    token = make_device(loaded, name)
    if bare:
        typer.echo(token)
        return
    typer.echo(f"Token of {name} (shown once): {token}")
    typer.echo("Programs send it as `Authorization: Bearer TOKEN`.")


def show(loaded: LoadedSettings) -> None:
    """Print all devices."""
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        for device in devices(connection):
            seen = timestamp(device.last_seen) if device.last_seen is not None else "never"
            typer.echo(f"{device.name}\tadded {timestamp(device.created_at)}\tlast seen {seen}")


def revoke(loaded: LoadedSettings, name: str) -> None:
    """Remove a device.

    Raises:
        ValidationError: there is none of that name.
    """
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        device = device_named(connection, name)
        if device is None or remove_device(connection, device.id) is None:
            raise ValidationError(f"There is no device named {name!r}; `pocket-agent devices list` shows them.")
    typer.echo(f"{name} may no longer connect.")
