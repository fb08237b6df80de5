"""The spool folder is removed under agents that run: what they say still arrives."""

import shutil
from functools import partial
from pathlib import Path

import pytest

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
