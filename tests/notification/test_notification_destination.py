"""Delivery by the real apprise to a real HTTP server, which may be slow, dead or of bad will."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket_agent.errors import ConfigurationError
from pocket_agent.notification import outbox
from pocket_agent.notification.outbox import Address, Destination, Notification, close_all, read_addresses, sender
from pocket_agent.settings import NotificationSettings
from tests.harness.server import free_port
from tests.notification.receiver import receiving
from tests.server.room import until

MESSAGE = Notification("A title", "A body\nof lines", "warning")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further attempts come at once."""
    monkeypatch.setattr(outbox, "_RETRY_PAUSES", (0.01, 0.01))


class Bench:
    """Destinations that are closed at the end, and what they lost."""

    def __init__(self) -> None:
        self.lost = 0
        self.told: list[tuple[str, str]] = []
        self.opened: list[Destination] = []

    def open(self, url: str) -> Destination:
        """A destination."""
        made = Destination("1 (json)", sender(Address("1 (json)", url)), self.lose, self.tell)
        self.opened.append(made)
        return made

    def lose(self, count: int) -> None:
        """Count."""
        self.lost += count

    def tell(self, name: str, reason: str) -> None:
        """Keep it."""
        self.told.append((name, reason))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench."""
    made = Bench()
    yield made
    close_all(made.opened, 5.0)


async def test_a_message_arrives(bench: Bench) -> None:
    async with receiving() as receiver:
        bench.open(receiver.url).put(MESSAGE)
        await receiver.until(1)
        (body,) = receiver.got
        assert (body["title"], body["message"], body["type"]) == ("A title", "A body\nof lines", "warning")
    assert bench.lost == 0


async def test_one_that_refuses_is_asked_three_times(bench: Bench) -> None:
    async with receiving() as receiver:
        receiver.status = 500
        made = bench.open(receiver.url)
        made.put(MESSAGE)
        await until(lambda: bench.lost == 1)
        assert len(receiver.got) == 3
        receiver.status = 200
        made.put(MESSAGE)
        await receiver.until(4)
    assert bench.told == [("1 (json)", "refused, or no answer")]


async def test_nobody_there(bench: Bench) -> None:
    bench.open(f"json://127.0.0.1:{free_port()}/?cto=1&rto=1").put(MESSAGE)
    await until(lambda: bench.lost == 1)


async def test_one_that_hangs_loses_what_is_too_much_and_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_MAX_QUEUED", 5)
    async with receiving() as hanging, receiving() as well:
        hanging.hangs = True
        stuck, other = bench.open(hanging.url.replace("rto=1", "rto=60")), bench.open(well.url)
        stuck.put(MESSAGE)
        await hanging.until(1)
        for number in range(100):
            stuck.put(MESSAGE)
            if number < 5:
                other.put(MESSAGE)
        assert bench.lost == 95
        await well.until(5)
        hanging.go_on.set()


def test_the_end_does_not_wait_for_one_that_hangs() -> None:
    go_on = threading.Event()
    lost: list[int] = []

    def send(_: Notification) -> bool:
        return go_on.wait()

    made = Destination("1 (json)", send, lost.append, lambda *_: None)
    made.put(MESSAGE)
    made.put(MESSAGE)
    close_all([made], 0.05)
    assert sum(lost) >= 1, "what waited is lost, and counted"
    go_on.set()
    made.thread.join(10)


async def test_one_that_is_given_up_still_sends_what_waits(bench: Bench) -> None:
    async with receiving() as receiver:
        made = bench.open(receiver.url)
        for _ in range(3):
            made.put(MESSAGE)
        made.retire()
        await receiver.until(3)
        made.thread.join(10)
    assert bench.lost == 0


def test_a_fault_of_the_library_ends_nothing() -> None:
    lost: list[int] = []

    def send(_: Notification) -> bool:
        raise ZeroDivisionError

    made = Destination("1 (json)", send, lost.append, lambda *_: None)
    for _ in range(3):
        made.put(MESSAGE)
    deadline = threading.Event()
    while sum(lost) < 3 and not deadline.wait(0.01):
        pass
    close_all([made], 5)


def test_addresses_come_from_the_settings_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# mine\n\njson://b/secret\n  json://a/secret \n")
    found = read_addresses(NotificationSettings(urls=("json://a/secret", "NTFYS://c/secret"), urls_file=file))
    assert [(address.name, address.url) for address in found] == [
        ("1 (json)", "json://a/secret"),
        ("2 (ntfys)", "NTFYS://c/secret"),
        ("3 (json)", "json://b/secret"),
    ]


@pytest.mark.parametrize("content", [None, b"\xff", b"json://a\nmy-secret-word\n"])
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "urls"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"notifications\.urls_file") as caught:
        read_addresses(NotificationSettings(urls_file=file))
    assert "secret" not in caught.value.message


def test_an_address_of_no_service_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"Address 1 \(nosuch\)") as caught:
        sender(Address("1 (nosuch)", "nosuch://secret"))
    assert "secret" not in caught.value.message
    assert logging.getLogger("apprise").disabled
