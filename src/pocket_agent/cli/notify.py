"""`pocket-agent notify`: the addresses of notifications, and a test message to each."""

import threading
from collections.abc import Callable
from typing import Final

import typer

from pocket_agent.notification import Notification, find_routes, trial
from pocket_agent.server.address import page_urls
from pocket_agent.settings import LoadedSettings

_SECONDS: Final = 30.0
"""How long a test message may take."""


def show_notifications(loaded: LoadedSettings, *, test: bool) -> None:
    """Print each address without its secrets, and with `test` the outcome of a test message.

    Raises:
        ConfigurationError: an address cannot be used.
        typer.Exit: with status 1 when there is no address, or a message did not arrive.
    """
    settings = loaded.settings.notifications
    senders = [(address.name, send) for address, send in find_routes(settings)]
    if not senders:
        typer.echo("No address: set notifications.urls (PA_NOTIFICATIONS_URLS) or notifications.urls_file.")
        raise typer.Exit(1)
    kinds = {
        "approvals wanted": settings.approval,
        "executions finished": settings.finished,
        "executions failed": settings.failed,
    }
    typer.echo(f"Sent: {', '.join(kind for kind in kinds if kinds[kind]) or 'nothing'}; {settings.when}.")
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


def _outcome(send: Callable[[Notification], bool], message: Notification) -> str:
    """Send a message in a thread, since a service that never answers must not block the command."""
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
