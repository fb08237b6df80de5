"""What runs inside the agent, with the real CLI: tasks, the context window, MCP servers, checkpoints of files."""

import json
from pathlib import Path

import pytest
from tests.harness.follow import eventually, follow, until
from tests.harness.scene import Scene, Stage, scene

from pocket_agent.client import Frame
from pocket_agent.errors import ProcessActiveError, ProcessNotFoundError
from pocket_agent.model import ExecuteOptions

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a-header-that-is-secret"


async def test_the_agent_reports_its_context_and_its_servers(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    server = {"type": "http", "url": "http://127.0.0.1:9/x", "headers": {"Authorization": SECRET}}
    options = ExecuteOptions(mcp_config=json.dumps({"mcpServers": {"broken": server}}))
    async with scene(stage.server, tmp_path / "reports") as here:
        with pytest.raises(ProcessNotFoundError, match="does not run"):
            await here.first.report(here.project_id, "context")
        await here.run("demo:text", options)
        context = (await here.first.report(here.project_id, "context")).context
        assert context is not None
        assert 0 < context.total_tokens < context.max_tokens
        assert {part.kind for part in context.categories} > {"used"}
        reply = await here.first.request("agent_report", {"report": "mcp"}, project_id=here.project_id)
        assert [found["name"] for found in reply.data["mcp_servers"]] == ["broken"]
        assert reply.data["mcp_servers"][0]["status"] in {"failed", "pending"}
        assert SECRET.encode() not in reply.raw
        # An account with a key has no windows.
        assert (await here.first.report(here.project_id, "usage")).usage_windows == []


async def has_status(here: Scene, execution_id: str, status: str) -> None:
    """Wait until an execution has a status."""

    async def is_so() -> bool:
        page = await here.second.executions(here.project_id)
        return {found.execution_id: found.status for found in page.executions}[execution_id] == status

    await eventually(is_so, status)


async def test_the_files_are_set_back(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "rewound"
    folder.mkdir()
    note, edits = folder / "note.md", ExecuteOptions(permission_mode="acceptEdits")
    async with scene(stage.server, folder) as here:
        first = await here.first.execute(here.project_id, "demo:edit=note.md", options=edits)
        await has_status(here, first.execution_id, "success")
        dry = await here.first.rewind_files(here.project_id, first.execution_id, dry_run=True)
        assert (dry.can_rewind, dry.files, dry.deletions > 0) == (True, [str(note)], True)
        assert note.exists()
        second = await here.first.execute(here.project_id, "demo:slow=600s", options=edits)
        with pytest.raises(ProcessActiveError, match="Rewinding"):
            await here.first.rewind_files(here.project_id, first.execution_id)
        await here.first.interrupt(here.project_id)
        await has_status(here, second.execution_id, "killed")
        done = await here.first.rewind_files(here.project_id, first.execution_id)
        assert done.can_rewind
        assert not note.exists()


async def test_a_task_shows_its_progress_and_is_ended(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    async with scene(stage.server, tmp_path / "tasks") as here:
        await here.first.execute(here.project_id, "demo:agent=demo:loop=3")

        def has_progressed(frame: Frame) -> bool:
            return frame.type == "project_state" and any(task["tokens"] > 0 for task in frame.data["tasks"])

        (task,) = (await follow(here.one, has_progressed))[-1].data["tasks"]
        assert task["type"] == "local_agent"
        assert task["started_at"] is not None
        assert (task["tool_uses"] > 0, task["last_tool"]) == (True, "Bash")
        await until(here.one, "project_state", tasks=[])

        with pytest.raises(ProcessNotFoundError, match="no such task"):
            await here.first.stop_task(here.project_id, task["task_id"])
        await here.first.execute(
            here.project_id, "demo:background=sleep 600", options=ExecuteOptions(allowed_tools=("Bash",))
        )
        running = await follow(here.one, lambda frame: bool(frame.data.get("tasks")) and frame.type == "project_state")
        await here.first.stop_task(here.project_id, running[-1].data["tasks"][0]["task_id"])
        await until(here.one, "project_state", tasks=[])
