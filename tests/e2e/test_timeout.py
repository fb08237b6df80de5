"""How long things may take: an execution, an idle process; and what does not count."""

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import entry_types, eventually, until
from tests.harness.scene import init_of, rest, scene, state_after, whole
from tests.harness.server import ServerProcess, running_server

SETTINGS = "timeouts: {execution: 1h, idle: 500ms}"


@pytest.fixture
async def hasty_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with short times."""
    env = {"PA_CLAUDE_BINARY": str(require_claude())}
    async with running_server(tmp_path, env=env, flags=["--demo"], settings=SETTINGS) as server:
        yield server


async def test_an_execution_ends_in_time_but_an_approval_may_take_forever(
    hasty_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    async with scene(hasty_server, folder) as here, scene(hasty_server, tmp_path / "slow") as other:
        asked = await here.ask("demo:bash=touch patient.txt")
        slow = await other.first.execute(other.project_id, "demo:slow=600s")
        await until(other.one, "agent_message", type="stream_event")
        await hasty_server.reload("timeouts: {execution: 1s, idle: 500ms}")
        seen = await until(other.one, "project_state", state="ERROR")
        (error,) = [frame for frame in seen if frame.type == "error"]
        assert error.offset is not None
        assert error.data["code"] == "EXECUTION_TIMEOUT"
        assert error.data["details"]["execution_id"] == slow.execution_id
        await hasty_server.reload(SETTINGS)
        assert state_after(await other.run("demo:text")) == "IDLE"

        # This one began before, so it has been there for longer than the limit was for a while.
        await here.second.approve(here.project_id, asked.approval_id)
        seen = await rest(here.one, asked.execution_id)
        assert state_after(seen) == "IDLE"
        assert "error" not in entry_types(seen)
    assert (folder / "patient.txt").exists()


async def test_an_idle_process_is_closed_and_the_next_prompt_resumes(hasty_server: ServerProcess, folder: Path) -> None:
    async with scene(hasty_server, folder) as here:
        sessions = set()
        for _ in range(2):
            receipt = await here.first.execute(here.project_id, "demo:text")
            process = hasty_server.agent(here.project_id)
            seen = await whole(here.one, receipt.execution_id)
            sessions.add(init_of(seen)["session_id"])
            await eventually(lambda: has_none(hasty_server, here.project_id), "the idle process is closed")
            assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            assert state_after(seen) == "IDLE"
        assert len(sessions) == 1
        assert (await here.first.projects())[0].state == "IDLE"


def has_none(server: ServerProcess, project_id: str) -> bool:
    """Whether a project has no process."""
    try:
        server.agent(project_id)
    except psutil.NoSuchProcess:
        return True
    return False
