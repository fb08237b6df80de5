"""`pocket-agent notify`: lists the addresses for notifications, and tests them."""

import threading
from collections.abc import Callable
from typing import Final

import typer

from pocket_agent.notification.outbox import Notification, find_routes, trial
from pocket_agent.server.address import page_urls
from pocket_agent.settings import LoadedSettings, NotificationSettings

_SECONDS: Final = 30.0
"""Time limit for a test message."""


def show_notifications(loaded: LoadedSettings, *, test: bool) -> None:
    """Print each address without its secrets, and with `test` the result of sending a message to it.

    Raises:
        ConfigurationError: an address is invalid.
        typer.Exit: with status 1 when there is no address, or a message was not delivered.
    """
    settings = loaded.settings.notifications
    senders = [(address.name, send) for address, send in find_routes(settings)]
    if not senders:
        typer.echo(
            "No address is configured: set notifications.urls (PA_NOTIFICATIONS_URLS) or notifications.urls_file."
        )
        raise typer.Exit(1)
    typer.echo(f"Notifies of: {_kinds(settings) or 'nothing'}; {settings.when}.")
    message = trial(settings.base_url or page_urls(loaded.settings, loaded.settings.server.port, None)[0])
    arrived = True
    for name, send in senders:
        if not test:
            typer.echo(name)
            continue
        outcome = _outcome(send, message)
        arrived = arrived and outcome == "sent"
        typer.echo(f"{name}: {outcome}")
    if not arrived:
        raise typer.Exit(1)


def _kinds(settings: NotificationSettings) -> str:
    kinds = {
        "approvals wanted": settings.approval,
        "executions finished": settings.finished,
        "executions failed": settings.failed,
    }
    return ", ".join(kind for kind, wanted in kinds.items() if wanted)


def _outcome(send: Callable[[Notification], bool], message: Notification) -> str:
    """Send a message and return the result; a service that never answers must not block the command."""
    found = ["no answer"]

    def run() -> None:
        try:
            found[0] = "sent" if send(message) else "not sent: refused, or no answer"
        except Exception as error:  # noqa: BLE001 - the border of a library with a hundred services
            found[0] = f"not sent: {type(error).__name__}"

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return found[0]
