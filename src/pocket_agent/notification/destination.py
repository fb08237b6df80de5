"""Where messages go: one thread for each address, so that one which hangs holds up no other and never the server."""

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pocket_agent.config.collection import is_address
from pocket_agent.config.settings import NotificationSettings
from pocket_agent.errors import ConfigurationError
from pocket_agent.notification.news import Message

_WAITING: Final = 20
"""Messages that wait for an address; more are lost."""
_PAUSES: Final = (2.0, 10.0)
"""Seconds before each further attempt."""
_TELL_SECONDS: Final = 60.0
"""How often the log is told that messages are being lost."""

Send = Callable[[Message], bool]
"""Sends a message; whether it arrived."""
Tell = Callable[[str, str], None]
"""Is told of a message that was lost: the name of the address, and why."""


class Address(NamedTuple):
    """An address, and what it may be called: its place in the list and its scheme, nothing of the rest."""

    name: str
    url: str


def read_addresses(settings: NotificationSettings) -> list[Address]:
    """The addresses of the settings and of their file.

    Raises:
        ConfigurationError: the file cannot be read, or a line of it is no address.
    """
    urls = [*settings.urls]
    file = settings.urls_file
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"The file {file} (notifications.urls_file) cannot be used: {reason}.") from error
        for number, line in enumerate(lines, start=1):
            if line and not line.startswith("#"):
                if not is_address(line):
                    raise ConfigurationError(f"Line {number} of {file} (notifications.urls_file) is no URL.")
                urls.append(line)
    unique = dict.fromkeys(urls)
    return [Address(f"{number} ({url.partition(':')[0].lower()})", url) for number, url in enumerate(unique, start=1)]


def sender(address: Address) -> Send:
    """What sends to an address.

    Raises:
        ConfigurationError: apprise does not understand the address.
    """
    import apprise  # noqa: PLC0415 - it takes its time to load, and most servers notify nobody

    # It would tell of each failure, with the address in the text.
    logging.getLogger("apprise").disabled = True
    made = apprise.Apprise()
    with warnings.catch_warnings():
        # The first address loads all services, some of which use what newer Pythons no longer like.
        warnings.simplefilter("ignore", DeprecationWarning)
        understood = made.add(address.url)
    if not understood:
        raise ConfigurationError(
            f"Address {address.name} of notifications.urls is none that apprise understands; "
            "see https://github.com/caronc/apprise/wiki."
        )
    kinds = {
        "info": apprise.NotifyType.INFO,
        "success": apprise.NotifyType.SUCCESS,
        "warning": apprise.NotifyType.WARNING,
        "failure": apprise.NotifyType.FAILURE,
    }

    def send(message: Message) -> bool:
        return bool(
            made.notify(
                message.body,
                title=message.title,
                notify_type=kinds[message.urgency],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )

    return send


class Destination:
    """Delivers to one address, in a thread of its own.

    Args:
        name: what it is called in the log.
        send: sends a message; it may take as long as it likes.
        lost: is told how many messages were lost; by any thread.
        tell: is told of one that was lost, once a minute at most; by any thread.

    Attributes:
        name: the same, which may be changed.
    """

    def __init__(self, name: str, send: Send, lost: Callable[[int], None], tell: Tell) -> None:
        self.name = name
        self._send = send
        self._lost = lost
        self._tell = tell
        self._queue: queue.Queue[Message | None] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._told = -_TELL_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"notification-{name}", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Deliver a message some time, without waiting; beyond what may wait it is lost."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._lose("too many wait")

    def retire(self) -> None:
        """Begin to end: what waits is still sent."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self.close()

    def close(self) -> None:
        """Begin to end: what is being sent may come to its end, what waits is lost."""
        self._stop.set()
        try:
            while True:
                if self._queue.get_nowait() is not None:
                    self._lose("the server stopped")
        except queue.Empty:
            pass
        self._queue.put_nowait(None)

    def join(self, seconds: float) -> None:
        """Wait for the end, for so long at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            reason = self._deliver(message)
            if reason is not None:
                self._lose(reason)

    def _deliver(self, message: Message) -> str | None:
        """Send a message, a few times if need be; why it did not arrive, else None."""
        reason = "refused, or nobody answered"
        for pause in (*_PAUSES, None):
            try:
                if self._send(message):
                    return None
            except Exception as error:  # noqa: BLE001 - the border of a library with a hundred services
                reason = type(error).__name__
            if pause is None or self._stop.wait(pause):
                break
        return reason

    def _lose(self, reason: str) -> None:
        self._lost(1)
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._tell(self.name, reason)


def close_all(destinations: Sequence[Destination], seconds: float) -> None:
    """End them all, within so many seconds together."""
    for destination in destinations:
        destination.close()
    deadline = time.monotonic() + seconds
    for destination in destinations:
        destination.join(max(0.0, deadline - time.monotonic()))
