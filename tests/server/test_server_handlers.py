"""What each request does, over a real WebSocket."""

import asyncio
import hashlib
import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pocket_agent.claude.installation import Installation
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import entry_draft
from pocket_agent.errors import ForbiddenError, PocketAgentError, ValidationError
from pocket_agent.events import EpochRenewed
from pocket_agent.model import Milliseconds
from pocket_agent.observability.catalogue import CHECKS
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.requests import REQUESTS, CheckData, HealthCheckData
from pocket_agent.storage import retention
from tests.server.room import Room, Wire, open_room, until
from tests.server.test_server_permission import SAMPLES, wire_of

NOBODY = "00000000-0000-4000-8000-000000000000"
CONVERSATION = "11111111-2222-4333-8444-555555555555"
OF_PROJECT = {name: SAMPLES[name] for name, kind in REQUESTS.items() if "project_id" in kind.__struct_fields__}
"""Requests about a project, with data that is well formed."""


def code(frame: dict[str, Any]) -> str | None:
    """The error's code, None for a reply."""
    return frame["data"]["code"] if frame["type"] == "error" else None


async def until_type(wire: Wire, kind: str, **data: object) -> dict[str, Any]:
    """The next frame of this type with these values."""
    while True:
        frame = await wire.frame()
        if frame["type"] == kind and all(frame["data"].get(name) == value for name, value in data.items()):
            return frame


async def execute(wire: Wire, conversation: Conversation, prompt: str, **data: object) -> dict[str, Any]:
    """Give a prompt."""
    return await wire.ask("execute", {"prompt": prompt, **data}, project_id=conversation.state.record.id)


# Which project is meant


async def test_a_project_that_does_not_exist(room: Room, subtests: pytest.Subtests) -> None:
    for kind, data in OF_PROJECT.items():
        with subtests.test(kind=kind):
            async with room.wire() as wire:
                for fields in ({"project_id": NOBODY}, {"project_id": ""}, {"project_id": "../x"}):
                    assert code(await wire.ask(kind, data, **fields)) == "PROJECT_NOT_FOUND"
                assert code(await wire.ask(kind, {**data, "project_id": NOBODY})) == "PROJECT_NOT_FOUND"
                await wire.works()


@pytest.mark.parametrize("kind", OF_PROJECT)
async def test_without_a_name_the_one_joined_project_is_meant(room: Room, kind: str) -> None:
    async with room.wire() as wire:
        refused = await wire.ask(kind, OF_PROJECT[kind])
        assert code(refused) == "VALIDATION_FAILED"
        assert "joined no projects" in refused["data"]["message"]
        one, two = await room.project("one"), await room.project("two")
        await wire.ask("project_join", project_id=one.state.record.id)
        await wire.ask("project_join", project_id=two.state.record.id)
        refused = await wire.ask(kind, OF_PROJECT[kind])
        assert code(refused) == "VALIDATION_FAILED"
        assert "joined several projects" in refused["data"]["message"]
        await wire.ask("project_leave", project_id=one.state.record.id)
        answer = await wire.ask(kind, OF_PROJECT[kind])
        unknown = {"approval_respond": "APPROVAL_NOT_FOUND"}.get(kind, "VALIDATION_FAILED")
        assert code(answer) in {None, "PROCESS_NOT_FOUND", unknown}
        if code(answer) is None:
            assert answer["project_id"] == two.state.record.id


async def test_a_frame_that_names_two_projects_acts_on_neither(room: Room, subtests: pytest.Subtests) -> None:
    one, two = await room.project("one"), await room.project("two")
    async with room.wire() as wire:
        for kind, valid in OF_PROJECT.items():
            with subtests.test(kind=kind):
                data = {**valid, "project_id": two.state.record.id}
                assert code(await wire.ask(kind, data, project_id=one.state.record.id)) == "VALIDATION_FAILED"
                assert len(room.projects) == 2
                assert room.connection().cursors == {}
                assert one.state.record.head == two.state.record.head == 0


async def test_a_named_project_wins_over_the_joined_one(room: Room) -> None:
    one, two = await room.project("one", entries=1), await room.project("two", entries=2)
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=one.state.record.id)
        by_frame = await wire.ask("get_messages", project_id=two.state.record.id)
        by_data = await wire.ask("get_messages", {"project_id": two.state.record.id})
        both = await wire.ask("get_messages", {"project_id": two.state.record.id}, project_id=two.state.record.id)
        for page in (by_frame, by_data, both):
            assert page["data"]["metadata"]["last_offset"] == 2


# Projects


async def test_create_list_delete(room: Room, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    async with room.wire() as wire, room.wire() as other:
        made = await wire.ask("project_create", {"path": f"{tmp_path}/./mine/"})
        assert made["type"] == "project_state"
        assert made["data"]["path"] == f"{tmp_path}/./mine/", "byte for byte as the client gave it"
        assert made["data"]["name"] == "mine"
        assert (made["data"]["state"], made["data"]["offset"], made["data"]["session_id"]) == ("IDLE", 0, None)
        assert made["project_id"] == made["data"]["id"]
        told = await until_type(other, "project_state")
        assert told["data"] == made["data"]
        assert "request_id" not in told
        listed = await wire.ask("project_list")
        assert listed["data"] == {"projects": [made["data"]], "total": 1}
        deleted = await wire.ask("project_delete", project_id=made["data"]["id"])
        assert deleted["type"] == "project_deleted"
        assert deleted["data"] == {"project_id": made["data"]["id"]}
        assert (await until_type(other, "project_deleted"))["data"] == deleted["data"]
        assert (await wire.ask("project_list"))["data"]["total"] == 0
        assert (tmp_path / "mine").is_dir()


async def test_a_project_in_use_is_not_deleted(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await execute(wire, session, "ask Bash")
        await execute(wire, session, "queued")
        project_id = session.state.record.id
        assert code(await wire.ask("project_delete", project_id=project_id)) == "PROCESS_ACTIVE"
        assert (await wire.ask("project_list"))["data"]["total"] == 1


async def test_who_followed_a_deleted_project_follows_it_no_more(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire, room.wire() as other:
        await other.ask("project_join", project_id=project_id)
        await wire.ask("project_delete", project_id=project_id)
        await until_type(other, "project_deleted")
        assert code(await other.ask("get_messages")) == "VALIDATION_FAILED"
        assert code(await other.ask("project_leave", project_id=project_id)) == "PROJECT_NOT_FOUND"


async def test_an_execution_that_races_a_deletion_does_not_outlive_the_project(room: Room) -> None:
    for number in range(10):
        session = await room.project(f"p{number}")
        project_id = session.state.record.id
        async with room.wire() as wire:
            await wire.send({"type": "project_delete", "project_id": project_id, "request_id": "d"})
            await wire.send(
                {"type": "execute", "project_id": project_id, "data": {"prompt": "ask Bash"}, "request_id": "e"}
            )
            answers: dict[str, str | None] = {}
            while len(answers) < 2:
                frame = await wire.frame()
                if frame.get("request_id") is not None:
                    answers[frame["request_id"]] = code(frame)
            assert answers in (
                {"d": None, "e": "PROJECT_NOT_FOUND"},
                {"d": "PROCESS_ACTIVE", "e": None},
            )
            if answers["d"] is None:
                assert not session._agent.alive
                assert room.projects.capacity.executing == 0
            else:
                await wire.ask("agent_kill", project_id=project_id)


# Watching


async def test_who_watches_hears_of_projects_that_it_has_not_joined(room: Room) -> None:
    one, two = await room.project("one"), await room.project("two")
    async with room.wire() as wire, room.wire() as watcher, room.wire() as other:
        await execute(wire, one, "ask Bash")
        await until(lambda: bool(one.state.approvals))
        watched = (await watcher.ask("watch"))["data"]
        assert {state["id"] for state in watched["projects"]} == {one.state.record.id, two.state.record.id}
        (waiting,) = watched["approvals"]
        assert (waiting["project_id"], waiting["approval"]["tool_name"]) == (one.state.record.id, "Bash")
        answer = {"approval_id": waiting["approval"]["approval_id"], "behavior": "deny"}
        await wire.ask("approval_respond", answer, project_id=one.state.record.id)
        resolved = await until_type(watcher, "approval_resolved")
        assert (resolved["project_id"], resolved["data"]["behavior"]) == (one.state.record.id, "deny")
        assert (await until_type(watcher, "project_state", state="IDLE"))["project_id"] == one.state.record.id
        await execute(wire, two, "one two")
        assert (await until_type(watcher, "project_state", state="IDLE"))["project_id"] == two.state.record.id
        await other.works()
        assert len(room.hub.watchers) == 1
    await room.until_connections(0)
    assert room.hub.watchers == {}


async def test_who_watches_and_joins_hears_everything_once(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await wire.ask("watch")
        await wire.ask("watch")
        await wire.ask("project_join", {"since": 0}, project_id=session.state.record.id)
        await execute(wire, session, "one")
        seen = [await wire.frame() for _ in range(2)]
        while seen[-1]["type"] != "project_state" or seen[-1]["data"]["state"] != "IDLE":
            seen.append(await wire.frame())
        states = [frame["data"]["state"] for frame in seen if frame["type"] == "project_state"]
        assert states.count("IDLE") == 1
        await wire.ask("project_leave", project_id=session.state.record.id)
        await execute(wire, session, "two")
        assert (await until_type(wire, "project_state", state="IDLE"))["project_id"] == session.state.record.id


# Completing paths


async def test_a_path_is_completed_and_projects_are_marked(room: Room, tmp_path: Path) -> None:
    for name in ("mine", "mint"):
        (tmp_path / name).mkdir()
    async with room.wire() as wire:
        made = await wire.ask("project_create", {"path": f"{tmp_path}/mine"})
        answer = await wire.ask("path_complete", {"path": f"{tmp_path}/mi"})
    assert answer["data"] == {
        "path": f"{tmp_path}/mi",
        "entries": [
            {"path": f"{tmp_path}/mine", "project_id": made["data"]["id"]},
            {"path": f"{tmp_path}/mint", "project_id": None},
        ],
        "truncated": False,
    }


async def test_a_path_is_completed_within_the_allowed_roots_alone(tmp_path: Path) -> None:
    for name in ("code/one", "other/two"):
        (tmp_path / name).mkdir(parents=True)
    async with open_room(tmp_path, projects__allowed_roots=[tmp_path / "code"]) as room, room.wire() as wire:
        for path, found in (("code/", ["one"]), ("other/", []), ("", ["code"])):
            answer = await wire.ask("path_complete", {"path": f"{tmp_path}/{path}"})
            assert [entry["path"].rpartition("/")[2] for entry in answer["data"]["entries"]] == found
        assert code(await wire.ask("path_complete", {"path": "x" * 4097})) == "VALIDATION_FAILED"


async def test_a_directory_is_looked_at_before_it_becomes_a_project(tmp_path: Path) -> None:
    code_dir = tmp_path / "code"
    for name in ("plain", "strange"):
        (code_dir / name / ".claude").mkdir(parents=True)
    (code_dir / "strange" / ".claude" / "settings.json").write_text('{"apiKeyHelper": "id"}', "utf-8")
    async with open_room(tmp_path, projects__allowed_roots=[code_dir]) as room, room.wire() as wire:
        made = await wire.ask("project_create", {"path": f"{code_dir}/plain"})
        answer = await wire.ask("path_inspect", {"path": f"{code_dir}/plain/../plain"})
        nothing = {"claims": [], "total": 0, "counts": {}, "new": 0, "hash": hashlib.sha256(b"").hexdigest()}
        assert answer["data"] == {"path": f"{code_dir}/plain", "project_id": made["data"]["id"], **nothing}
        answer = await wire.ask("path_inspect", {"path": f"{code_dir}/strange"})
        claim = {"file": ".claude/settings.json", "kind": "program", "text": "apiKeyHelper: id"}
        one = {"claims": [claim], "total": 1, "counts": {"program": 1}, "new": 1, "hash": answer["data"]["hash"]}
        assert answer["data"] == {"path": f"{code_dir}/strange", "project_id": None, **one}
        for path in (f"{tmp_path}", f"{code_dir}/none", "plain"):
            assert code(await wire.ask("path_inspect", {"path": path})) == "INVALID_PATH"


async def test_what_a_directory_brings_comes_in_pages_programs_first(tmp_path: Path) -> None:
    (tmp_path / "code" / ".claude").mkdir(parents=True)
    rules = {"allow": [f"Bash({number})" for number in range(450)]}
    settings = {"permissions": rules, "apiKeyHelper": "x" * 300_000, "awsAuthRefresh": "y"}
    (tmp_path / "code" / ".claude" / "settings.json").write_text(json.dumps(settings), "utf-8")
    async with open_room(tmp_path) as room, room.wire() as wire:
        claims: list[dict[str, str]] = []
        pages, total = 0, 1
        while len(claims) < total:
            answer = await wire.ask("path_inspect", {"path": f"{tmp_path}/code", "offset": len(claims)})
            total, counts = answer["data"]["total"], answer["data"]["counts"]
            assert answer["data"]["claims"], "each page goes on"
            claims += answer["data"]["claims"]
            pages += 1
    assert (total, counts, pages) == (452, {"program": 2, "rule": 450}, 4)
    assert [len(claim["text"]) for claim in claims[:2]] == [300_014, 17]
    assert [claim["text"] for claim in claims[2:]] == rules["allow"]


# Joining


async def test_joining_tells_how_things_are_and_then_what_happens(room: Room) -> None:
    session = await room.project(entries=3)
    project_id = session.state.record.id
    async with room.wire() as wire:
        joined = await wire.ask("project_join", project_id=project_id)
        assert joined["type"] == "project_join"
        assert joined["data"] == {
            "project_id": project_id,
            "state": "IDLE",
            "session_id": None,
            "epoch": session.state.record.epoch,
            "offset": 3,
            "recovered": True,
            "approvals": [],
            "queue": [],
        }
        state = await wire.frame()
        assert (state["type"], state["data"]["offset"]) == ("project_state", 3)
        announced = await wire.frame()
        assert (announced["type"], announced["data"]) == (
            "project_joined",
            {"project_id": project_id, "subscribers": 1},
        )
        await room.grow(session, 1)
        assert (await wire.frame())["offset"] == 4


async def test_everybody_hears_who_comes_and_goes(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        async with room.wire() as second:
            await second.ask("project_join", project_id=project_id)
            assert (await until_type(wire, "project_joined", subscribers=2))["project_id"] == project_id
            left = await second.ask("project_leave")
            assert left["data"] == {"project_id": project_id}
            assert (await until_type(wire, "project_left"))["data"]["subscribers"] == 1
            await second.ask("project_join", project_id=project_id)
            await until_type(wire, "project_joined", subscribers=2)
        assert (await until_type(wire, "project_left"))["data"]["subscribers"] == 1
        async with room.wire() as third:
            await third.ask("project_join", project_id=project_id)
            await until_type(wire, "project_joined", subscribers=2)
            third.socket._response.connection.transport.abort()  # type: ignore[union-attr] # it vanishes
            assert (await until_type(wire, "project_left"))["data"]["subscribers"] == 1


async def test_joining_again_moves_the_cursor_and_doubles_nothing(room: Room) -> None:
    session = await room.project(entries=5)
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        await wire.ask("project_join", {"since": 3}, project_id=project_id)
        assert session.state.log.channel.subscribers == 1
        await room.grow(session, 1)
        seen: list[int] = []
        while 6 not in seen:
            frame = await wire.frame()
            if "offset" in frame:
                seen.append(frame["offset"])
        assert seen == [4, 5, 6]


async def test_joining_again_in_the_middle_of_a_replay_begins_anew(tmp_path: Path) -> None:
    """Pages that were being read for the first join are not written behind the second."""
    async with open_room(tmp_path, websocket__tail_size=4096) as room:
        session = await room.project(entries=3000)
        project_id = session.state.record.id
        async with room.wire() as wire:
            for number in range(20):
                await wire.send(
                    {
                        "type": "project_join",
                        "project_id": project_id,
                        "data": {"since": 100 * number},
                        "request_id": f"{number}",
                    }
                )
            await wire.answer("19")
            seen: list[int] = []
            while not seen or seen[-1] < 3000:
                frame = await wire.frame()
                if "offset" in frame:
                    seen.append(frame["offset"])
            assert seen == list(range(1901, 3001))


async def test_after_leaving_nothing_more_comes(tmp_path: Path) -> None:
    async with open_room(tmp_path, websocket__tail_size=4096) as room:
        session = await room.project(entries=3000)
        project_id = session.state.record.id
        async with room.wire() as wire:
            for _ in range(20):
                await wire.send(
                    {"type": "project_join", "project_id": project_id, "data": {"since": 0}, "request_id": "j"}
                )
                await wire.send({"type": "project_leave", "project_id": project_id, "request_id": "l"})
            for _ in range(20):
                await wire.answer("l")
            assert (await wire.ask("health_check"))["type"] == "health_check"
            await wire.send({"type": "project_list", "request_id": "end"})
            assert (await wire.frame())["request_id"] == "end"


async def test_leaving_what_was_not_joined_is_harmless(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        assert (await wire.ask("project_leave", project_id=project_id))["type"] == "project_leave"
        assert (await wire.ask("project_leave", project_id=project_id))["data"] == {"project_id": project_id}
        await wire.send({"type": "project_list", "request_id": "end"})
        assert (await wire.frame())["request_id"] == "end", "nobody is told that somebody left"


async def test_who_joins_in_the_middle_sees_what_waits_and_what_is_being_written(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await execute(wire, session, "delta Hel delta lo ask Bash")
        await until(lambda: bool(session.state.approvals))
        await execute(wire, session, "next")
        joined = (await wire.ask("project_join", project_id=project_id))["data"]
        assert joined["partial"] == {"text": "Hello", "thinking": ""}
        assert joined["state"] == "EXECUTING"
        (waiting,) = joined["approvals"]
        assert (waiting["tool_name"], waiting["input"]) == ("Bash", {"command": "date"})
        (queued,) = joined["queue"]
        assert (queued["prompt"], queued["position"]) == ("next", 1)


async def replayed(wire: Wire, conversation: Conversation, since: object) -> tuple[bool, list[int]]:
    """What `since` brings: whether it was recovered, and the entries, up to one that is appended now."""
    await wire.send(
        {
            "type": "project_join",
            "project_id": conversation.state.record.id,
            "data": {"since": since},
            "request_id": "join",
        }
    )
    joined = await wire.answer("join")
    assert joined["type"] == "project_join", joined
    head = conversation.state.record.head
    seen: list[int] = []
    while head > 0 and (not seen or seen[-1] < head) and not (joined["data"]["recovered"] and since == head):
        frame = await wire.frame()
        if "offset" in frame:
            seen.append(frame["offset"])
    return joined["data"]["recovered"], seen


async def test_since_in_all_its_forms(room: Room) -> None:
    session = await room.project(entries=5)
    epoch = session.state.record.epoch
    async with room.wire() as wire:
        assert await replayed(wire, session, 0) == (True, [1, 2, 3, 4, 5])
        assert await replayed(wire, session, 2) == (True, [3, 4, 5])
        assert await replayed(wire, session, 5) == (True, [])
        assert await replayed(wire, session, {"offset": 3}) == (True, [4, 5])
        assert await replayed(wire, session, {"offset": 3, "epoch": epoch}) == (True, [4, 5])
        assert await replayed(wire, session, {"offset": 3, "epoch": epoch, "more": 1}) == (True, [4, 5])
        assert await replayed(wire, session, {"offset": 3, "epoch": "another"}) == (False, [1, 2, 3, 4, 5])
        assert await replayed(wire, session, 6) == (False, [1, 2, 3, 4, 5])
        assert await replayed(wire, session, 2**40 - 1) == (False, [1, 2, 3, 4, 5])
        assert await replayed(wire, session, "2000-01-01T00:00:00Z") == (True, [1, 2, 3, 4, 5])
        assert await replayed(wire, session, "0001-01-01T00:00:00+00:00") == (True, [1, 2, 3, 4, 5])


async def test_since_a_time_is_everything_from_then_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10_000))
    base = 1_900_000_000_000
    monkeypatch.setattr(
        "pocket_agent.conversation.conversation_log.now", lambda: Milliseconds(base + next(times) * 1000)
    )
    session = await room.project()
    for _ in range(3):
        await room.grow(session, 1)
    stored = await room.store.read(session.state.record, after=0, limit=10, max_bytes=10_000)
    second = (stored[1].timestamp - base) // 1000
    minutes, seconds = divmod(second, 60)
    async with room.wire() as wire:
        for text in (
            f"2030-03-17T17:{46 + minutes:02d}:{40 + seconds:02d}Z",
            f"2030-03-17T17:{46 + minutes:02d}:{40 + seconds:02d}.000+00:00",
            f"2030-03-17T19:{46 + minutes:02d}:{40 + seconds:02d}+02:00",
        ):
            page = await wire.ask("get_messages", {"since": text}, project_id=session.state.record.id)
            assert [message["offset"] for message in page["data"]["messages"]] == [2, 3], page


NO_SINCE: list[object] = [
    "2026-01-31T12:00:00",
    "2026-01-31",
    "yesterday",
    "",
    "5",
    "2026-13-31T12:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "2026-01-31T12:00:00Z\n",
    "9" * 100_000,
    -1,
    2**40,
    2**70,
    1.5,
    True,
    [],
    {},
    {"offset": -1},
    {"offset": "1"},
    {"offset": 1, "epoch": 5},
]


async def test_a_since_that_is_none(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project(entries=1)
    async with room.wire() as wire:
        for kind, since in itertools.product(("project_join", "get_messages"), NO_SINCE):
            with subtests.test(kind=kind, since=str(since)[:40]):
                answer = await wire.ask(kind, {"since": since}, project_id=session.state.record.id)
                assert code(answer) == "VALIDATION_FAILED"
                assert room.connection().cursors == {}
                await wire.works()


async def test_a_client_that_has_seen_what_is_not_there_renews_the_epoch_once(room: Room) -> None:
    """An old copy of the data was put back, with all that could tell."""
    for number, ahead in enumerate((True, False)):
        session = await room.project(f"project-{number}", entries=6)
        epoch, project_id = session.state.record.epoch, session.state.record.id
        entries = await room.store.read(session.state.record, after=0, limit=9, max_bytes=2**20)
        times = {entry.offset: timestamp(entry.timestamp) for entry in entries}
        async with room.wire() as wire:
            honest = {"epoch": epoch, "offset": 4, "timestamp": times[4]}
            assert await replayed(wire, session, honest) == (True, [5, 6])
            assert session.state.record.epoch == epoch
            shown: dict[str, object] = {"epoch": epoch, "offset": 4, "timestamp": "2001-01-01T00:00:00.000Z"}
            if ahead:
                shown = {"epoch": epoch, "offset": 7}
            assert await replayed(wire, session, shown) == (False, [1, 2, 3, 4, 5, 6])
            renewed = session.state.record.epoch
            assert renewed != epoch
            assert (await room.store.conversations())[number].epoch == renewed
            assert await replayed(wire, session, honest) == (False, [1, 2, 3, 4, 5, 6]), "the epoch is another"
            assert await replayed(wire, session, {**honest, "epoch": renewed}) == (True, [5, 6])
            for invented in ({"epoch": renewed, "offset": 99}, {**shown, "epoch": renewed}):
                assert await replayed(wire, session, invented) == (False, [1, 2, 3, 4, 5, 6])
                assert session.state.record.epoch == renewed, "a client cannot repeat it"
            await room.grow(session, 1)
            assert session.state.record.head == 7
        assert [event.project_id for event in room.seen.of(EpochRenewed)].count(project_id) == 1


async def test_a_page_after_an_entry_that_is_not_there_renews_the_epoch(room: Room) -> None:
    """A client that reads what it has missed, as the web client does, before it joins."""
    session = await room.project(entries=6)
    epoch, project_id = session.state.record.epoch, session.state.record.id
    (entry,) = await room.store.read(session.state.record, after=3, limit=1, max_bytes=2**20)
    async with room.wire() as wire:
        seen = {"epoch": epoch, "offset": 4, "timestamp": timestamp(entry.timestamp)}
        page = await wire.ask("get_messages", {"since": seen}, project_id=project_id)
        assert [row["offset"] for row in page["data"]["messages"]] == [5, 6]
        other = {**seen, "timestamp": "2001-01-01T00:00:00.000Z"}
        assert code(await wire.ask("get_messages", {"since": other}, project_id=project_id)) == "VALIDATION_FAILED"
        assert session.state.record.epoch != epoch


async def test_a_client_joins_from_0_after_a_pruning_that_failed_half_way(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await room.project(entries=10)
    monkeypatch.setattr(retention, "_TURN_BYTES", 1)
    prune, turns = retention.prune, []

    def failing(connection: sqlite3.Connection, number: int, rule: retention.Retention) -> retention.Pruned:
        turns.append(number)
        if len(turns) > 3:
            raise sqlite3.OperationalError("disk I/O error")
        return prune(connection, number, rule)

    with monkeypatch.context() as patch:
        patch.setattr(retention, "prune", failing)
        with pytest.raises(PocketAgentError):
            await session.state.log.prune(max_entries=1, max_bytes=0, older_than=Milliseconds(0))
    async with room.wire() as wire:
        assert await replayed(wire, session, 0) == (False, [4, 5, 6, 7, 8, 9, 10])


async def test_what_was_pruned_is_not_recovered(room: Room) -> None:
    session = await room.project(entries=10)
    await session.state.log.prune(max_entries=4, max_bytes=0, older_than=Milliseconds(0))
    assert session.state.record.first == 7
    async with room.wire() as wire:
        assert await replayed(wire, session, 0) == (False, [7, 8, 9, 10])
        assert await replayed(wire, session, 5) == (False, [7, 8, 9, 10])
        assert await replayed(wire, session, 6) == (True, [7, 8, 9, 10])
        assert await replayed(wire, session, "2000-01-01T00:00:00Z") == (False, [7, 8, 9, 10])
        page = (await wire.ask("get_messages", {"since": 0}, project_id=session.state.record.id))["data"]
        assert [message["offset"] for message in page["messages"]] == [7, 8, 9, 10]
        assert page["metadata"] == {
            "epoch": session.state.record.epoch,
            "first_offset": 7,
            "last_offset": 10,
            "has_more": False,
        }


# History


async def large_log(room: Room) -> Conversation:
    """A project with three small entries and three large ones, in turn."""
    session = await room.project()
    for number in range(1, 4):
        await session.state.log.write([entry_draft("agent_message", {"n": number, "text": "é" * 60_000})])
        await session.state.log.write([entry_draft("agent_message", {"n": number})])
    return session


async def test_a_page_is_bounded_by_bytes_from_its_newest_or_its_oldest_entry(room: Room) -> None:
    session = await large_log(room)
    async with room.wire() as wire:
        assert await page(wire, session, max_bytes=200_000) == ([4, 5, 6], True)
        assert await page(wire, session, max_bytes=1024) == ([6], True)
        assert await page(wire, session, max_bytes=1024, before=6) == ([5], True), "one always"
        assert await page(wire, session, max_bytes=1024, before=2) == ([1], False)
        assert await page(wire, session, max_bytes=200_000, since=0) == ([1, 2], True)
        assert await page(wire, session, max_bytes=200_000, since=4) == ([5, 6], False)
        assert await page(wire, session) == ([1, 2, 3, 4, 5, 6], False)
        assert await page(wire, session, max_bytes=131_072, large="reference") == ([1, 2, 3, 4, 5, 6], False)


async def test_a_large_entry_is_a_preview_until_it_is_fetched(room: Room) -> None:
    session = await large_log(room)
    project_id = session.state.record.id
    async with room.wire() as wire:
        answer = await wire.ask("get_messages", {"large": "reference"}, project_id=project_id)
        messages = answer["data"]["messages"]
        assert [message.get("size") for message in messages] == [120_017, None] * 3
        assert [message.get("cut") for message in messages] == [["/text"], None] * 3
        assert messages[0]["message"] == {"n": 1, "text": "é" * 2048}
        (whole,) = (await wire.ask("get_messages", {"since": 2, "limit": 1}, project_id=project_id))["data"]["messages"]
        assert whole["message"] == {"n": 2, "text": "é" * 60_000}
        assert "size" not in whole
        await wire.send({"type": "project_join", "project_id": project_id, "data": {"since": 4, "large": "reference"}})
        while (frame := await wire.frame()).get("offset") != 5:
            pass
        assert (frame["size"], frame["cut"], frame["data"]) == (120_017, ["/text"], {"n": 3, "text": "é" * 2048})


async def test_a_page_is_compressed_for_a_client_that_can_take_that(room: Room) -> None:
    session = await large_log(room)
    before = room.hub.sent_bytes
    async with room.wire() as plain:
        expected = (await plain.ask("get_messages", project_id=session.state.record.id))["data"]
    whole = room.hub.sent_bytes - before
    async with room.wire(compress=15) as wire:
        for _ in range(2):  # each by itself, whatever was sent before
            before = room.hub.sent_bytes
            answer = await wire.ask("get_messages", project_id=session.state.record.id)
            assert answer["data"] == expected
            assert room.hub.sent_bytes - before < whole / 10


async def page(wire: Wire, conversation: Conversation, **data: object) -> tuple[list[int], bool]:
    """A page of history: its offsets, and whether there is more."""
    answer = await wire.ask("get_messages", data, project_id=conversation.state.record.id)
    assert answer["type"] == "messages_response", answer
    return (
        [message["offset"] for message in answer["data"]["messages"]],
        answer["data"]["metadata"]["has_more"],
    )


async def test_paging_forwards_and_backwards_reaches_every_entry_once(room: Room) -> None:
    session = await room.project(entries=25)
    async with room.wire() as wire:
        for limit in (1, 7, 24, 25, 26):
            forwards: list[int] = []
            more = True
            while more:
                offsets, more = await page(wire, session, since=forwards[-1] if forwards else 0, limit=limit)
                forwards += offsets
            assert forwards == list(range(1, 26))
            backwards, more = await page(wire, session, limit=limit)
            while more:
                offsets, more = await page(wire, session, before=backwards[0], limit=limit)
                backwards = offsets + backwards
            assert backwards == list(range(1, 26))


async def test_a_page_between_two_offsets(room: Room) -> None:
    session = await room.project(entries=10)
    async with room.wire() as wire:
        assert await page(wire, session, since=3, before=8) == ([4, 5, 6, 7], False)
        assert await page(wire, session, since=3, before=8, limit=2) == ([6, 7], True)
        assert await page(wire, session, since={"offset": 3}, before={"offset": 8}) == ([4, 5, 6, 7], False)
        assert await page(wire, session, since=8, before=3) == ([], False)
        assert await page(wire, session, before=0) == ([], False)
        assert await page(wire, session, before=1) == ([], False)
        assert await page(wire, session, before=2**40 - 1, limit=1) == ([10], True)
        assert await page(wire, session, since=10) == ([], False)
        assert await page(wire, session, since=2**40 - 1) == ([], False)


async def test_an_empty_log_has_an_empty_page(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        assert await page(wire, session) == ([], False)
        assert await page(wire, session, since=0) == ([], False)
        assert await page(wire, session, before=5) == ([], False)


async def test_history_is_filtered_by_who_speaks(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=session.state.record.id)
        await execute(wire, session, "garbage")
        await until_type(wire, "project_state", state="IDLE")
        pages = {
            direction: await wire.ask("get_messages", {"direction": direction})
            for direction in ("all", "client", "claude", "server")
        }
        found = {name: answer["data"]["messages"] for name, answer in pages.items()}
        assert [message["type"] for message in found["client"]] == ["prompt"]
        assert {message["type"] for message in found["claude"]} == {"agent_message"}
        assert {message["type"] for message in found["server"]} == {"error"}
        parts = found["client"] + found["claude"] + found["server"]
        assert sorted(message["offset"] for message in parts) == [message["offset"] for message in found["all"]]


async def test_an_epoch_that_is_over_is_told(room: Room) -> None:
    session = await room.project(entries=2)
    async with room.wire() as wire:
        for data in ({"since": {"offset": 1, "epoch": "x"}}, {"before": {"offset": 1, "epoch": "x"}}):
            answer = await wire.ask("get_messages", data, project_id=session.state.record.id)
            assert code(answer) == "VALIDATION_FAILED"
            assert answer["data"]["details"] == {"epoch": session.state.record.epoch}


# Executions


async def test_a_prompt_runs_and_its_end_is_told(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=session.state.record.id)
        started = await execute(wire, session, "hello")
        assert (started["data"]["status"], started["data"]["position"]) == ("started", 0)
        await until_type(wire, "project_state", state="IDLE")
        messages = (await wire.ask("get_messages"))["data"]["messages"]
        assert [message["offset"] for message in messages] == list(range(1, len(messages) + 1))
        assert messages[0]["message"]["prompt"] == "hello"
        assert messages[0]["message"]["by"] == "test"
        assert messages[-1]["message"]["type"] == "result"


async def test_the_same_prompt_id_runs_once(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        first = await execute(wire, session, "ask Bash", prompt_id="p-1")
        again = await execute(wire, session, "ask Bash", prompt_id="p-1")
        assert again["data"] == first["data"]
        queued = await execute(wire, session, "later", prompt_id="p-2")
        assert (queued["data"]["status"], queued["data"]["position"]) == ("queued", 1)
        assert (await execute(wire, session, "later", prompt_id="p-2"))["data"] == queued["data"]
        assert len(session.state.queue) == 1


async def test_prompts_that_wait_can_be_changed_and_withdrawn(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        running = await execute(wire, session, "ask Bash")
        one = (await execute(wire, session, "one"))["data"]["execution_id"]
        two = (await execute(wire, session, "two"))["data"]["execution_id"]
        edited = await wire.ask("prompt_edit", {"execution_id": one, "prompt": "uno"}, project_id=project_id)
        assert edited["data"] == {"project_id": project_id, "execution_id": one}
        cancelled = await wire.ask("prompt_cancel", {"execution_id": two}, project_id=project_id)
        assert cancelled["data"] == {"project_id": project_id, "execution_id": two}
        assert [waiting.prompt for waiting in session.state.queue] == ["uno"]
        for execution_id in (two, running["data"]["execution_id"], NOBODY):
            data = {"execution_id": execution_id}
            assert code(await wire.ask("prompt_cancel", data, project_id=project_id)) == "PROCESS_NOT_FOUND"
            edit = {**data, "prompt": "x"}
            assert code(await wire.ask("prompt_edit", edit, project_id=project_id)) == "PROCESS_NOT_FOUND"


async def test_a_full_queue(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_queued_prompts=1) as room:
        session = await room.project()
        async with room.wire() as wire:
            await execute(wire, session, "ask Bash")
            await execute(wire, session, "waits")
            assert code(await execute(wire, session, "too many")) == "RESOURCE_LIMIT"
            assert len(session.state.queue) == 1


async def test_nothing_to_kill_interrupt_or_answer(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        for kind in ("agent_kill", "agent_interrupt"):
            assert code(await wire.ask(kind, project_id=project_id)) == "PROCESS_NOT_FOUND"
        data = {"approval_id": "zzz", "behavior": "deny"}
        assert code(await wire.ask("approval_respond", data, project_id=project_id)) == "APPROVAL_NOT_FOUND"


async def test_kill(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        started = await execute(wire, session, "sleep 600")
        killed = await wire.ask("agent_kill")
        assert killed["data"] == {
            "project_id": project_id,
            "execution_id": started["data"]["execution_id"],
            "status": "killed",
        }
        messages = (await wire.ask("get_messages"))["data"]["messages"]
        assert messages[-1]["type"] == "process_killed"
        assert session.state.record.state == "IDLE"


async def test_the_first_answer_wins(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire, room.wire() as other:
        await wire.ask("project_join", project_id=project_id)
        await execute(wire, session, "ask Bash")
        asked = (await until_type(wire, "approval_requested"))["data"]
        answer = {"approval_id": asked["approval_id"], "behavior": "deny", "message": "no"}
        resolved = await other.ask("approval_respond", answer, project_id=project_id)
        assert resolved["type"] == "approval_resolved"
        assert resolved["data"] == {**answer, "by": "test"}
        late = await wire.ask("approval_respond", {**answer, "behavior": "allow"})
        assert code(late) == "APPROVAL_NOT_FOUND"
        assert late["data"]["details"] == {"behavior": "deny", "by": "test"}


async def test_what_is_refused_while_an_execution_runs(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await execute(wire, session, "ask Bash")
        for kind in ("agent_new_session", "session_resume"):
            assert code(await wire.ask(kind, OF_PROJECT[kind], project_id=project_id)) == "PROCESS_ACTIVE"


async def test_conversations(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        await execute(wire, session, "hello there")
        await until_type(wire, "project_state", state="IDLE")
        (known,) = (await wire.ask("session_list"))["data"]["sessions"]
        assert (known["session_id"], known["title"], known["current"]) == (CONVERSATION, "hello there", True)
        reset = await wire.ask("agent_new_session")
        assert reset["data"] == {"project_id": project_id, "old_session_id": CONVERSATION, "status": "reset"}
        assert not (await wire.ask("session_list"))["data"]["sessions"][0]["current"]
        resumed = await wire.ask("session_resume", {"session_id": CONVERSATION, "fork": True})
        assert resumed["data"] == {"project_id": project_id, "session_id": CONVERSATION, "fork": True}
        assert session.state.record.session_id == CONVERSATION


async def test_the_model_and_the_permission_mode_of_a_project(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        assert (await wire.ask("set_model", {"model": "opus"}))["data"]["model"] == "opus"
        assert (await wire.ask("set_permission_mode", {"mode": "plan"}))["data"]["mode"] == "plan"
        (state,) = (await wire.ask("project_list"))["data"]["projects"]
        assert (state["model"], state["permission_mode"]) == ("opus", "plan")
        assert (await wire.ask("set_model", {"model": None}))["data"]["model"] is None
        assert session.state.record.model is None


async def test_leave_to_do_anything_is_refused_unless_configured(tmp_path: Path, room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        for options in ({"dangerously_skip_permissions": True}, {"permission_mode": "bypassPermissions"}):
            assert code(await execute(wire, session, "x", options=options)) == "FORBIDDEN"
        data = {"mode": "bypassPermissions"}
        assert code(await wire.ask("set_permission_mode", data, project_id=project_id)) == "FORBIDDEN"
        assert session.state.record.head == 0
    (tmp_path / "free").mkdir()
    async with open_room(tmp_path / "free", claude__allow_dangerously_skip_permissions=True) as free:
        session = await free.project()
        async with free.wire() as wire:
            assert code(await execute(wire, session, "x", options={"dangerously_skip_permissions": True})) is None


async def test_without_a_cli_all_else_works(tmp_path: Path) -> None:
    async with open_room(tmp_path, standin=False) as room:
        session = await room.project(entries=2)
        async with room.wire() as wire:
            refused = await execute(wire, session, "hello")
            assert code(refused) == "CLAUDE_NOT_FOUND"
            assert "npm install" in refused["data"]["message"]
            assert await page(wire, session) == ([1, 2], False)
            health = (await wire.ask("health_check"))["data"]
            assert (health["status"], health["claude"]["available"]) == ("degraded", False)


async def test_a_full_disk_is_said_and_over_when_it_is(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    async with room.wire() as wire:
        with monkeypatch.context() as patch:
            patch.setattr(room.store, "free_bytes", lambda: 1024)
            refused = await execute(wire, session, "hello")
            assert code(refused) == "RESOURCE_LIMIT"
            assert "min_free_disk" in refused["data"]["message"]
        assert code(await execute(wire, session, "hello")) is None


# The server


async def test_health_has_the_documented_shape(room: Room) -> None:
    await room.project()
    async with room.wire() as wire:
        health = (await wire.ask("health_check"))["data"]
    assert health["status"] == "healthy"
    assert health["connections"] == {"active": 1, "limit": 100}
    assert health["projects"] == {"count": 1, "limit": 100, "executing": 0}
    assert set(health["resources"]) == {"cpu_percent", "memory_mb", "disk_free_gb"}
    assert health["resources"]["memory_mb"] > 1
    assert health["claude"] == {"available": True, "version": "9.9.9"}
    assert set(health["checks"]) >= {"claude", "disk", "storage"}
    assert all(check["status"] == "healthy" for check in health["checks"].values())
    assert isinstance(health["uptime"], int)
    assert health["version"]


async def test_stats_come_once_or_again_and_again(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=session.state.record.id)
        await execute(wire, session, "hello")
        await until_type(wire, "project_state", state="IDLE")
        stats = (await wire.ask("server_stats"))["data"]
        assert set(stats) == {"connections", "projects", "executions", "messages", "uptime", "cost"}
        executions = stats["executions"]
        assert (executions["active"], executions["total"], executions["success"], executions["failed"]) == (0, 1, 1, 0)
        assert executions["avg_duration_ms"] > 0
        assert stats["messages"]["received"] == 3
        assert stats["messages"]["sent"] >= 6
        assert room.connection().feeds == {}, "asked once, told once"
        await wire.ask("server_stats", {"interval": 0.05})
        for _ in range(3):
            pushed = await until_type(wire, "server_stats")
            assert "request_id" not in pushed
            assert set(pushed["data"]) == set(stats)
        await wire.ask("server_stats")
        assert room.connection().feeds["server_stats"].interval == 0.05, "asking once does not end it"
        await wire.ask("server_stats", {"interval": 0})
        await asyncio.sleep(0.2)
        await wire.send({"type": "project_list", "request_id": "end"})
        assert (await wire.frame())["request_id"] == "end", "it has ended"


async def test_figures_of_the_last_hours(room: Room) -> None:
    session = await room.project()
    await room.history.take()
    async with room.wire() as wire:
        assert (await execute(wire, session, "lines 3"))["type"] == "execute"
        await until(lambda: session.state.current is None)
        assert code(await wire.ask("server_history", {"range": 59})) == ValidationError.code
        await room.history.take()
        reply = (await wire.ask("server_history", {"range": 900, "interval": 0.05}))["data"]
        assert (reply["step"], len(reply["times"])) == (10, 2)
        assert reply["series"]["connections"] == [0, 1]
        assert reply["series"]["executions_hourly"] == [0, 1]
        assert reply["series"]["executions.success"][0] is None, "a rate needs two readings"
        assert reply["series"]["executions.success"][1] > 0
        assert [name for name in reply["series"] if name.startswith("errors.")] == ["errors.VALIDATION_FAILED"]
        await room.history.take()
        pushed = (await until_type(wire, "server_history"))["data"]
        assert (pushed["began"], len(pushed["times"]), pushed["series"]["projects"]) == (reply["began"], 1, [1])
        again = (await wire.ask("server_history", {"range": 3600, "interval": 0}))["data"]
        assert again["times"] == [*reply["times"], *pushed["times"]], "who comes again finds all of it"
        await room.history.take()
        await asyncio.sleep(0.2)
        await wire.send({"type": "project_list", "request_id": "end"})
        assert (await wire.frame())["request_id"] == "end", "it has ended"


async def test_an_overview_of_the_server(room: Room) -> None:
    session = await room.project()
    await room.report.health()
    async with room.wire() as wire:
        await wire.ask("project_create", {"path": "/no/such/place"})
        await execute(wire, session, "ask Bash")
        await until(lambda: bool(session.state.approvals))
        found = (await wire.ask("server_overview", {"interval": 0.05}))["data"]
        assert found["status"] == "healthy"
        assert {check["name"]: check["status"] for check in found["checks"]} == dict.fromkeys(CHECKS, "healthy")
        assert all(check["since"] is not None for check in found["checks"])
        assert {limit["name"]: limit["limit"] for limit in found["limits"]}["connections"] == 100
        (running,) = found["running"]
        assert (running["project"], running["status"], running["waiting"]) == ("project", "running", True)
        (error,) = found["errors"]
        assert (error["code"], error["operation"], error["count"]) == ("INVALID_PATH", "project", 1)
        assert error["message"] == "There is no such directory."
        assert error["correlation_id"] == "ask-project_create"
        await wire.ask("agent_kill", project_id=session.state.record.id)
        while (pushed := (await until_type(wire, "server_overview"))["data"])["running"]:
            pass
        assert [execution["status"] for execution in pushed["slowest"]] == ["killed"]


async def test_a_server_that_stops_takes_no_new_work(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        room.handlers.refuse_new_work()
        assert code(await execute(wire, session, "hello")) == ForbiddenError.code
        assert code(await wire.ask("project_create", {"path": "/"})) == ForbiddenError.code
        await wire.works()


async def test_broadcasts_and_replies_name_the_request_only_where_it_is_answered(room: Room, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    async with room.wire() as wire:
        await wire.send({"type": "project_create", "data": {"path": str(tmp_path / "mine")}, "request_id": "r-1"})
        frames = [await wire.frame(), await wire.frame()]
        assert [frame["type"] for frame in frames] == ["project_state", "project_state"]
        assert sorted("request_id" in frame for frame in frames) == [False, True]
        await wire.send({"type": "project_list"})
        assert "request_id" not in await wire.frame()


async def test_what_may_be_secret_in_options_is_in_no_argument_list(room: Room) -> None:
    """Every user of the machine can read the arguments of a process."""
    session = await room.project()
    project_id = session.state.record.id
    config = '{"mcpServers":{"x":{"command":"true","env":{"KEY":"PEAR-SECRET"}}}}'
    options = {"append_system_prompt": "PLUM-SECRET", "mcp_config": config}
    async with room.wire() as wire:
        await execute(wire, session, "ask Bash", options=options)
        await until(lambda: bool(session.state.approvals))
        record = await room.store.process(project_id)
        assert record is not None
        arguments = Path(f"/proc/{record.pid}/cmdline").read_text().split("\0")
        assert "SECRET" not in "".join(arguments)
        paths = dict(argument.split("=", 1) for argument in arguments if "=/dev/fd/" in argument)
        read = {
            flag: Path(path.replace("/dev/fd/", f"/proc/{record.pid}/fd/")).read_text() for flag, path in paths.items()
        }
        assert read == {"--append-system-prompt-file": "PLUM-SECRET", "--mcp-config": config}
        assert not [file for file in (room.settings.data.dir / "spool").iterdir() if "SECRET" in file.name]
        await wire.ask("agent_kill", project_id=project_id)


async def test_health_tells_nobody_else_which_projects_there_are(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    project_id = session.state.record.id
    health = await room.report.health()
    stuck = CheckData("warning", f"Project {project_id}: execution {CONVERSATION} waits although it could run.")
    vulnerable = CheckData("healthy", Installation(Path("claude"), "2.1.120").vulnerability)
    open_to = CheckData("healthy", "Agents are not confined (claude.confinement).")
    checks = {**health.checks, "queue": stuck, "claude": vulnerable, "disk": open_to}
    found = msgspec.structs.replace(health, checks=checks)

    async def told() -> HealthCheckData:
        return found

    monkeypatch.setattr(room.report, "health", told)
    async with room.wire() as wire:
        seen = str((await wire.ask("health_check"))["data"]["checks"])
        assert project_id in seen
        assert "GHSA-" in seen
    for name, access, is_told in (
        ("viewer", {"view_only": True}, True),
        ("limited", {"projects": (project_id,)}, False),
    ):
        async with wire_of(room, name, **access) as wire:
            seen = str((await wire.ask("health_check"))["data"]["checks"])
            assert ("GHSA-" in seen, "waits although it could run" in seen) == (is_told, True), name
    async with aiohttp.ClientSession() as http, http.get(f"{room.url}/health") as answer:
        shown = await answer.text()
    assert "waits although it could run" in shown
    assert project_id not in shown
    assert CONVERSATION not in shown
    assert "GHSA-" not in shown
    assert "confined" not in shown


async def test_large_frames_are_announced_to_clients_that_want_that(room: Room) -> None:
    project = await room.project(entries=1, size=100_000)
    async with room.wire() as wire, room.wire() as other:
        await wire.ask("watch", {"announce": True})
        seen = []
        for one in (wire, other):
            await one.send({"type": "project_join", "project_id": project.state.record.id, "data": {"since": 0}})
            frames = [await one.frame()]
            while "offset" not in frames[-1]:
                frames.append(await one.frame())
            seen.append(frames)
        announced, plain = seen
        (at,) = [at for at, frame in enumerate(announced) if frame["type"] == "incoming"]
        data = announced[at]["data"]
        assert data["bytes"] > 100_000
        assert at < len(announced) - 1 <= at + data["frames"], "the large frame is one of those announced"
        assert all(frame["type"] != "incoming" for frame in plain)
