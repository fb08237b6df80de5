"""Prompts for an agent that works, with the real CLI: into the running turn, or instead of it."""

import json
from pathlib import Path

import pytest
from tests.harness.follow import eventually, follow, stored, until
from tests.harness.recorder import said
from tests.harness.scene import Scene, Stage, scene

from pocket_agent.client import Client
from pocket_agent.model import ExecuteOptions

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALLOWED = ExecuteOptions(allowed_tools=("Bash",))


async def statuses(client: Client, project_id: str) -> dict[str, str]:
    """The status of each execution."""
    page = await client.executions(project_id, limit=200)
    return {found.execution_id: str(found.status) for found in page.executions}


async def becomes(here: Scene, wanted: dict[str, str]) -> None:
    """Wait until the executions have these statuses."""

    async def is_so() -> bool:
        found = await statuses(here.second, here.project_id)
        return {key: found.get(key) for key in wanted} == wanted

    await eventually(is_so, f"{wanted}")


async def has_begun(here: Scene) -> None:
    """Wait until the turn has reached the model."""
    await follow(here.one, lambda frame: frame.data.get("status") == "requesting")


async def test_a_prompt_joins_the_running_turn(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "steered").mkdir()
    async with scene(stage.server, tmp_path / "steered") as here:
        first = await here.first.execute(here.project_id, "demo:bash=sleep 2", options=ALLOWED)
        await has_begun(here)
        second = await here.second.execute(here.project_id, "and this joined word", when="now", options=ALLOWED)
        assert (second.status, second.position) == ("steering", 0)
        (prompt,) = [frame for frame in await until(here.one, "prompt") if frame.type == "prompt"]
        assert (prompt.data["execution_id"], prompt.data["steers"]) == (second.execution_id, first.execution_id)
        await becomes(here, {first.execution_id: "success", second.execution_id: "success"})
        results = [line for line in await stored(here.first, here.project_id) if b'"type":"result"' in line.data]
        assert len(results) == 1
        bodies = stage.model.saw("and this joined word")
        assert [said(body).count("and this joined word") for body in bodies] == [1] * len(bodies)


async def test_a_turn_that_ends_first_leaves_the_prompt_a_turn_of_its_own(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    async with scene(stage.server, tmp_path / "late") as here:
        first = await here.first.execute(here.project_id, "demo:slow=2s")
        await has_begun(here)
        second = await here.second.execute(here.project_id, "demo:text", when="now")
        third = await here.second.execute(here.project_id, "demo:text", when="now")
        assert (second.status, third.status) == ("steering", "steering")
        await becomes(here, dict.fromkeys((first.execution_id, second.execution_id, third.execution_id), "success"))
        (project,) = [found for found in await here.second.projects() if found.id == here.project_id]
        assert (project.state, project.queue_depth) == ("IDLE", 0)


async def test_a_waiting_prompt_is_promoted_and_another_one_interrupts(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "promoted").mkdir()
    async with scene(stage.server, tmp_path / "promoted") as here:
        first = await here.first.execute(here.project_id, "demo:slow=600s")
        await has_begun(here)
        second = await here.first.execute(here.project_id, "demo:text")
        third = await here.first.execute(here.project_id, "demo:text")
        await here.second.promote_prompt(here.project_id, third.execution_id)
        found = await statuses(here.second, here.project_id)
        assert (found[second.execution_id], found[third.execution_id]) == ("queued", "steering")
        # Other options do not fit the turn, so the prompt waits, as the next one.
        options = ExecuteOptions(permission_mode="plan")
        fourth = await here.first.execute(here.project_id, "demo:text", when="now", options=options)
        assert (fourth.status, fourth.position) == ("queued", 1)
        last = await here.second.execute(here.project_id, "demo:text", when="interrupt")
        assert (last.status, last.position) == ("queued", 1)
        others = (second, third, fourth, last)
        await becomes(here, {first.execution_id: "killed", **{each.execution_id: "success" for each in others}})
        log = await stored(here.first, here.project_id)
        order = [json.loads(line.data)["execution_id"] for line in log if line.type == "prompt"]
        assert order == [each.execution_id for each in (first, third, last, fourth, second)]
