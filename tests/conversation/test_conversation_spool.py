"""The spool of agents that run is removed, replaced or truncated: what they say still arrives."""

import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.conversation import agent
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import ExecutionFinished, ProcessSpawned
from pocket_agent.model import ExecutionStatus
from tests.server.room import Room, open_room, until


def _have_finished(room: Room, count: int) -> bool:
    return len(room.seen.of(ExecutionFinished)) == count


@pytest.mark.parametrize("folder", [True, False])
async def test_a_warm_agent_is_still_heard(tmp_path: Path, *, folder: bool) -> None:
    """Whether the folder or the files alone are removed, and also once another agent has made the folder anew."""
    async with open_room(tmp_path) as room, room.client() as client:
        one, two = await room.project("one"), await room.project("two")
        await client.execute(one.state.record.id, "lines 3")
        await room.eventually(ExecutionFinished)
        spool = room.settings.data.dir / "spool"
        if folder:
            shutil.rmtree(spool)
        else:
            for file in spool.iterdir():
                file.unlink()
        for count, session in enumerate((one, two, one, two), 2):
            await client.execute(session.state.record.id, "lines 3")
            await until(partial(_have_finished, room, count))
        assert {event.status for event in room.seen.of(ExecutionFinished)} == {ExecutionStatus.SUCCESS}
        assert len(room.seen.of(ProcessSpawned)) == 2


@pytest.mark.parametrize("size", [0, 500])
async def test_output_that_was_truncated(tmp_path: Path, size: int) -> None:
    """Each later line arrives, and none that was there before the cut arrives again."""
    async with open_room(tmp_path) as room, room.client() as client:
        project_id = (await room.project()).state.record.id
        await client.execute(project_id, "lines 10 sleep 0.5 after-the-cut")
        await until(lambda: room.hub.channels[project_id].head > 10)
        for output in (room.settings.data.dir / "spool").glob("*.out"):
            os.truncate(output, size)
        assert (await room.eventually(ExecutionFinished)).status is ExecutionStatus.SUCCESS
        page = await client.messages(project_id, limit=100)
        lines = [bytes(message.message) for message in page.messages if message.type == "agent_message"]
        for word in (b'"number": 1,', b'"number": 10,', b"after-the-cut"):
            assert sum(word in line for line in lines if b"init" not in line) == 1


async def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """A prompt waits with the reason, and the next server starts."""
    spool = tmp_path / "data" / "spool"
    async with open_room(tmp_path) as room, room.client() as client:
        project_id = (await room.project()).state.record.id
        spool.touch()
        with pytest.raises(ResourceLimitError, match="their folder is another file"):
            await client.execute(project_id, "lines 3")
    async with open_room(tmp_path) as room, room.client() as client:
        spool.unlink()
        await client.execute(project_id, "lines 3")
        assert (await room.eventually(ExecutionFinished)).status is ExecutionStatus.SUCCESS


@pytest.mark.parametrize("part", ["SpoolReader", "SpoolWriter"])
async def test_too_many_open_files_when_an_agent_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The prompt is not at fault: the client may try again, and no agent is left behind."""

    def fail(name: Path, *_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        spool = room.settings.data.dir / "spool"
        original = getattr(agent, part)

        def started(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(agent, part, original)
            with monkeypatch.context() as patch:
                patch.setattr("pocket_agent.claude.spool.os.open", fail)
                return original(*args, **options)

        monkeypatch.setattr(agent, part, started)
        with pytest.raises(ResourceLimitError, match="Too many open files"):
            await client.execute(project_id, "lines 3")
        assert list(spool.iterdir()) == []
        await client.execute(project_id, "lines 3")
        assert (await room.eventually(ExecutionFinished)).status is ExecutionStatus.SUCCESS
        assert len(list(spool.iterdir())) == 3
