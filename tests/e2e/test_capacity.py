"""More projects than the machine carries at a time."""

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import until
from tests.harness.scene import init_of, scene, state_after, texts, whole
from tests.harness.server import ServerProcess, running_server


@pytest.fixture
async def small_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that runs one execution at a time and keeps two processes."""
    env = {
        "PA_CLAUDE_BINARY": str(require_claude()),
        "PA_LIMITS_MAX_EXECUTIONS": "1",
        "PA_CLAUDE_MAX_PROCESSES": "2",
    }
    async with running_server(tmp_path, env=env, flags=["--demo"]) as server:
        yield server


async def test_one_execution_at_a_time_and_two_processes(small_server: ServerProcess, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    async with (
        scene(small_server, tmp_path / "a") as a,
        scene(small_server, tmp_path / "b") as b,
        scene(small_server, tmp_path / "c") as c,
    ):
        # B waits for the slot that A holds.
        asked = await a.ask("demo:bash=touch first.txt")
        receipt = await b.first.execute(b.project_id, "demo:text in b")
        assert (receipt.status, receipt.position) == ("queued", 1)
        told = await until(b.two, "queue_state")
        assert [item["execution_id"] for item in told[-1].data["queue"]] == [receipt.execution_id]
        await a.allow(asked)
        seen = await whole(b.one, receipt.execution_id)
        assert state_after(seen) == "IDLE"

        # A third process takes the place of the least recently used one.
        assert {process.pid for process in small_server.agents()} == {
            small_server.agent(a.project_id).pid,
            small_server.agent(b.project_id).pid,
        }
        session = (await a.first.sessions(a.project_id))[0].session_id
        assert "a plain answer" in texts(await c.run("demo:text in c"))
        with pytest.raises(psutil.NoSuchProcess):
            small_server.agent(a.project_id)
        small_server.agent(b.project_id)
        # Its conversation goes on all the same, and now B is the one that was not used for longest.
        seen = await a.run("demo:text once more")
        assert init_of(seen)["session_id"] == session
        with pytest.raises(psutil.NoSuchProcess):
            small_server.agent(b.project_id)
        assert len(small_server.agents()) == 2
