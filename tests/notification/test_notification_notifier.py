"""From what happens in the server to what arrives at a service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from pocket_agent.events import NotificationLost
from pocket_agent.notification import outbox
from pocket_agent.notification.outbox import Notifier, find_routes
from pocket_agent.settings import NotificationSettings, Settings
from tests.notification.receiver import Receiver, receiving
from tests.server.room import Room, open_room, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks more often than anybody would want."""
    monkeypatch.setattr(outbox, "_POLL_SECONDS", 0.01)


@contextlib.asynccontextmanager
async def hasty(folder: Path, **changed: object) -> AsyncIterator[Room]:
    """A server whose settings want to notify at once."""
    settings: dict[str, object] = {
        "notifications__approval_delay": 0,
        "notifications__finished_after": 0,
        "notifications__project_pause": 0,
        "notifications__base_url": "https://agent.example/",
        **changed,
    }
    async with open_room(folder, standin=True, **settings) as room:
        yield room


@contextlib.asynccontextmanager
async def notifying(room: Room) -> AsyncIterator[Notifier]:
    """What notifies of it."""
    made = Notifier(room.settings, lambda count: room.losses.add("notifications", count))
    room.observe(made)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.run(room.projects, room.endpoint.is_watched, room.url, room.seen))
        try:
            yield made
        finally:
            running.cancel()


@contextlib.asynccontextmanager
async def notified(folder: Path, receiver: Receiver, **changed: object) -> AsyncIterator[Room]:
    """A server that notifies at once."""
    async with hasty(folder, **{"notifications__urls": [receiver.url], **changed}) as room, notifying(room):
        yield room


async def test_an_approval_an_end_and_a_failure(tmp_path: Path) -> None:
    async with receiving() as receiver, notified(tmp_path, receiver) as room:
        session = await room.project("shop")
        project_id = session.state.record.id
        async with room.client() as client:
            await client.execute(project_id, "ask Bash my-secret-prompt")
            await receiver.until(1)
            (approval,) = session.state.approvals
            await client.approve(project_id, approval)
            await receiver.until(2)
            await client.execute(project_id, "fail")
            await receiver.until(3)
        assert receiver.titles == ["Approval wanted: shop", "Finished: shop", "Failed: shop"]
        assert receiver.got[0]["message"] == f"Bash waits for your answer.\nhttps://agent.example/p/{project_id}"
        assert "my-secret-prompt" not in str(receiver.got)


async def test_contents_when_they_are_wanted(tmp_path: Path) -> None:
    async with receiving() as receiver, notified(tmp_path, receiver, notifications__content=True) as room:
        session = await room.project("shop")
        async with room.client() as client:
            await client.execute(session.state.record.id, "lines 3")
            await receiver.until(1)
        assert "lines 3" in receiver.got[0]["message"]


async def test_who_follows_the_project_is_not_notified(tmp_path: Path) -> None:
    async with receiving() as receiver, notified(tmp_path, receiver) as room:
        session, other = await room.project("shop"), await room.project("blog")
        project_id = session.state.record.id
        async with room.client() as client:
            async with client.subscribe(project_id):
                assert room.endpoint.is_watched(project_id)
                assert not room.endpoint.is_watched(other.state.record.id)
                await client.execute(project_id, "ask Bash")
                await client.execute(other.state.record.id, "lines 3")
                await receiver.until(1)
                await until(lambda: bool(session.state.approvals))
            await receiver.until(2)
            assert receiver.titles == ["Finished: blog", "Approval wanted: shop"]
            await client.kill(project_id)


async def test_who_watches_all_projects_is_not_notified_of_any(tmp_path: Path) -> None:
    async with receiving() as receiver, notified(tmp_path, receiver) as room:
        session = await room.project("shop")
        async with room.client() as client:
            async with room.client() as page:
                await page.watch()
                await client.execute(session.state.record.id, "lines 3")
                await until(lambda: session.state.last is not None)
            await room.until_connections(1)
            assert not room.endpoint.is_watched(session.state.record.id)
            await client.execute(session.state.record.id, "fail")
            await receiver.until(1)
        assert receiver.titles == ["Failed: shop"]


async def test_a_client_that_nobody_looks_at_does_not_count(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        session = await room.project("shop")
        project_id = session.state.record.id
        async with room.wire() as page, room.client() as client:
            await page.ask("watch")
            await page.ask("project_join", project_id=project_id)
            assert room.endpoint.is_watched(project_id)
            await page.ask("watch", {"away": True})
            assert not room.endpoint.is_watched(project_id)
            async with client.subscribe(project_id):
                assert room.endpoint.is_watched(project_id)
            await page.ask("watch")
            assert room.endpoint.is_watched(project_id)


async def test_who_looks_away_is_told_of_what_waits(tmp_path: Path) -> None:
    async with receiving() as receiver, notified(tmp_path, receiver) as room:
        session = await room.project("shop")
        async with room.wire() as page, room.client() as client:
            await page.ask("watch")
            await client.execute(session.state.record.id, "ask Bash")
            await until(lambda: bool(session.state.approvals))
            await page.ask("watch", {"away": True})
            await receiver.until(1)
            assert receiver.titles == ["Approval wanted: shop"]
            await client.kill(session.state.record.id)


async def test_who_may_only_watch_does_not_count(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        session = await room.project("shop")
        project_id = session.state.record.id
        async with room.client() as client, client.subscribe(project_id):
            connection = room.connection()
            assert room.endpoint.is_watched(project_id)
            everything = connection.device
            for limits in ({"view_only": True}, {"projects": ()}):
                connection.device = msgspec.structs.replace(everything, **limits)
                assert not room.endpoint.is_watched(project_id)
            connection.device = msgspec.structs.replace(everything, projects=(project_id,))
            assert room.endpoint.is_watched(project_id)


async def test_what_waited_when_the_server_started_is_told(tmp_path: Path) -> None:
    async with receiving() as receiver, open_room(tmp_path, notifications__urls=[receiver.url]) as room:
        session = await room.project("shop")
        async with room.client() as client:
            await client.execute(session.state.record.id, "ask Bash")
            await until(lambda: bool(session.state.approvals))
            notifications = room.settings.notifications.model_copy(update={"approval_delay": 0.0})
            late = Notifier(Settings(notifications=notifications), lambda _: None)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(
                    late.run(room.projects, room.endpoint.is_watched, "http://own.example", room.seen)
                )
                await receiver.until(1)
                running.cancel()
            await client.kill(session.state.record.id)
        assert f"http://own.example/p/{session.state.record.id}" in receiver.got[0]["message"]


async def test_a_service_that_is_dead_slows_nothing(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.hangs = True
        async with notified(tmp_path, receiver, notifications__max_per_hour=3600) as room:
            session = await room.project("shop")
            async with room.client() as client:
                for _ in range(30):
                    await client.execute(session.state.record.id, "lines 1")
                    await until(lambda: session.state.current is None)
                await until(lambda: room.losses.of("notifications") > 0)
            receiver.go_on.set()


async def test_what_is_lost_is_an_event_that_names_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_RETRY_PAUSES", (0.01, 0.01))
    async with receiving() as receiver, notified(tmp_path, receiver) as room:
        receiver.status = 500
        session = await room.project("shop")
        async with room.client() as client:
            await client.execute(session.state.record.id, "lines 1")
            await until(lambda: bool(room.seen.of(NotificationLost)))
        assert room.seen.of(NotificationLost) == [NotificationLost("1 (json)", "refused, or no answer")]
        assert room.losses.of("notifications") == 1


async def test_without_addresses_nothing_is_kept_until_there_is_one(tmp_path: Path) -> None:
    async with receiving() as receiver, hasty(tmp_path) as room, notifying(room) as made:
        session, other = await room.project("shop"), await room.project("blog")
        async with room.client() as client:
            await client.execute(session.state.record.id, "lines 1")
            await until(lambda: session.state.last is not None)
            await client.execute(other.state.record.id, "ask Bash")
            await until(lambda: bool(other.state.approvals))
            assert not made._pending.any
            made.renew(find_routes(NotificationSettings(urls=(receiver.url,))))
            await receiver.until(1)
            assert receiver.titles == ["Approval wanted: blog"], "what waits is told, what is over is not"
            made.renew([])
            await client.kill(other.state.record.id)
            await client.execute(session.state.record.id, "fail")
            await until(lambda: session.state.current is None and session.state.last is not None)
            made.renew(find_routes(NotificationSettings(urls=(receiver.url,))))
            await client.execute(session.state.record.id, "lines 1")
            await receiver.until(2)
        assert receiver.titles == ["Approval wanted: blog", "Finished: shop"]


async def test_another_address_gets_what_comes_and_the_one_before_what_waited(tmp_path: Path) -> None:
    async with (
        receiving() as first,
        receiving() as second,
        hasty(tmp_path, notifications__urls=[first.url]) as room,
        notifying(room) as made,
    ):
        session = await room.project("shop")
        async with room.client() as client:
            await client.execute(session.state.record.id, "lines 1")
            await first.until(1)
            made.renew(find_routes(NotificationSettings(urls=(second.url,))))
            await client.execute(session.state.record.id, "fail")
            await second.until(1)
    assert (first.titles, second.titles) == (["Finished: shop"], ["Failed: shop"])
