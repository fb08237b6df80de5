"""What is noted of the requests of clients: each that changes something, with its ids, and no contents."""

import json
from pathlib import Path

import pytest

from pocket_agent.protocol.requests import REQUESTS
from tests.server.room import Room, until
from tests.server.test_server_permission import SAMPLES, WATCHING, wire_of

ASKING = {"path_complete", "path_inspect", "device_list"}


def test_the_document_names_each_action() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    for kind in set(REQUESTS) - WATCHING - ASKING:
        assert f"`{kind}`" in text, kind


async def test_each_request_that_changes_something_is_noted_and_no_other(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        for kind, data in SAMPLES.items():
            if kind in {"device_revoke", "project_delete", "device_rename"}:
                continue  # they would end what the others need
            room.trail.records.clear()
            await wire.ask(kind, data, project_id=project_id)
            noted = [record.action for record in room.trail.records]
            assert noted == ([] if kind in WATCHING | ASKING else [kind])
            if noted and kind not in {"project_create", "pairing_start", "pairing_cancel"}:
                assert room.trail.records[0].project_id == project_id
        for kind in ("device_rename", "device_revoke"):
            await wire.ask(kind, SAMPLES[kind])
            assert room.trail.records[-1].action == kind
    assert set(SAMPLES) == set(REQUESTS)


async def test_a_title_is_not_noted(room: Room) -> None:
    project_id = (await room.project()).state.record.id
    async with room.wire() as wire:
        made = await wire.ask("conversation_create", {"title": "a secret"}, project_id=project_id)
        await wire.ask("conversation_rename", {"title": "a secret"}, conversation_id=made["conversation_id"])
    noted = {record.action: dict(record.details) for record in room.trail.records}
    conversation = {"conversation_id": made["conversation_id"]}
    choices = {"worktree": None, "session_id": None, "fork": False}
    assert noted == {"conversation_create": choices | conversation, "conversation_rename": conversation}


async def test_an_approval_is_noted_with_its_decision_and_no_contents(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("execute", {"prompt": "ask Bash"}, project_id=project_id)
        await until(lambda: bool(session.state.approvals))
        approval_id = next(iter(session.state.approvals))
        answer = {
            "approval_id": approval_id,
            "behavior": "allow",
            "updated_input": {"command": "a secret command"},
            "message": "a secret message",
        }
        await wire.ask("approval_respond", answer, project_id=project_id)
        await wire.ask("approval_respond", {**answer, "behavior": "deny"}, project_id=project_id)
    allowed, late = room.trail.records[-2:]
    assert allowed.details == {
        "approval_id": approval_id,
        "behavior": "allow",
        "remember": False,
        "changed_input": True,
    }
    assert (allowed.by, allowed.device_id, allowed.address, allowed.outcome) == ("test", "d-1", "127.0.0.1", "ok")
    assert (late.outcome, late.details["behavior"]) == ("APPROVAL_NOT_FOUND", "deny")
    assert "secret" not in json.dumps([dict(record.details) for record in room.trail.records])


async def test_what_a_viewer_tries_is_noted_with_its_refusal(room: Room) -> None:
    session = await room.project()
    async with wire_of(room, view_only=True) as viewer:
        await viewer.ask("execute", {"prompt": "one"}, project_id=session.state.record.id)
        await viewer.ask("project_list")
    (record,) = room.trail.records
    assert (record.action, record.outcome, record.by) == ("execute", "FORBIDDEN", "guest")


async def test_a_fault_of_the_server_is_noted_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    session = await room.project()
    monkeypatch.setattr(session, "kill", fail)
    async with room.wire() as wire:
        answer = await wire.ask("agent_kill", project_id=session.state.record.id)
        assert answer["data"]["code"] == "INTERNAL_ERROR"
    assert room.trail.records[-1].outcome == "INTERNAL_ERROR"
