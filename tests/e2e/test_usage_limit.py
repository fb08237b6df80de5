"""A usage limit of the account, with the real CLI: the queue waits, and continues in order, once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.follow import eventually, lines, stored, until
from tests.harness.recorder import said
from tests.harness.scene import Scene, Stage, own_stage, rest, scene, texts

from pocket_agent.client import Frame
from pocket_agent.errors import ProcessNotFoundError


@pytest.fixture
async def subscribed(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server whose CLI takes the account for a subscription."""
    async with own_stage(tmp_path, subscription=True) as stage:
        yield stage


async def hold_reason(here: Scene) -> str | None:
    """Why the queue of the only project is on hold."""
    (project,) = await here.second.projects()
    return project.queue_hold.reason if project.queue_hold is not None else None


def prompts(frames: list[Frame]) -> list[tuple[str, str | None]]:
    """The prompts that were given to the agent, and why they continue one."""
    return [(frame.data["prompt"], frame.data.get("continues")) for frame in frames if frame.type == "prompt"]


async def test_a_limit_in_the_middle_of_a_queue(subscribed: Stage, folder: Path) -> None:
    """It survives a restart while it waits, and each prompt reaches the model once."""
    async with scene(subscribed.server, folder) as here:
        receipts = [await here.first.execute(here.project_id, prompt) for prompt in ("demo:slow=1s", "demo:limit=4s")]
        last = await here.first.execute(here.project_id, "demo:text")
        paused = (await until(here.one, "execution_paused"))[-1]
        assert paused.data["execution_id"] == receipts[1].execution_id
        assert (paused.data["reason"], paused.data["until"] is not None) == ("usage_limit", True)
        (project,) = await here.second.projects()
        assert project.queue_hold is not None
        assert (project.state, project.queue_depth, project.queue_hold.until) == ("IDLE", 2, paused.data["until"])
        assert {window.window: window.status for window in project.usage_windows}["five_hour"] == "rejected"
        waiting = {
            found.execution_id: found.status for found in (await here.second.executions(here.project_id)).executions
        }
        assert waiting[receipts[1].execution_id] == "waiting"
        await subscribed.server.kill()
        await subscribed.server.start()

        (project,) = await here.second.projects()
        assert {window.window for window in project.usage_windows} >= {"seven_day"}
        frames = await until(here.one, "prompt", execution_id=receipts[1].execution_id)
        frames += await until(here.one, "prompt", execution_id=last.execution_id)
        frames += await rest(here.one, last.execution_id)
        log = await stored(here.first, here.project_id)
        ended = {found.execution_id: found for found in (await here.second.executions(here.project_id)).executions}
        assert {found.status for found in ended.values()} == {"success"}
        assert ended[receipts[1].execution_id].waited_ms > 0
        assert "The usage limit has been reset, and I continued." in texts(frames)
        assert [line.offset for line in log] == list(range(1, len(log) + 1))
        assert lines(frames) == log[-len(lines(frames)) :]
        given = [line for line in log if line.type == "prompt"]
        assert len(given) == 4
        assert prompts(frames)[-2][1] == "usage_limit"
        assert prompts(frames)[-1] == ("demo:text", None)
        final = subscribed.model.bodies[-1]
        assert said(final).count("demo:limit=4s") == 1
        assert said(final).count("A usage limit stopped you") == 1


async def test_it_can_be_started_at_once_and_cancelled(subscribed: Stage, folder: Path) -> None:
    async with scene(subscribed.server, folder) as here:
        first = await here.first.execute(here.project_id, "demo:limit=600s")
        second = await here.first.execute(here.project_id, "demo:text")
        await until(here.one, "execution_paused", execution_id=first.execution_id)
        with pytest.raises(ProcessNotFoundError, match="paused"):
            await here.second.edit_prompt(here.project_id, first.execution_id, "another")
        later = await here.second.execute(here.project_id, "demo:text")
        assert (later.status, later.position) == ("queued", 3)

        # The limit is still there, so it waits again.
        await here.second.resume_queue(here.project_id)
        await until(here.one, "execution_paused", execution_id=first.execution_id)
        await here.second.cancel_prompt(here.project_id, first.execution_id)
        assert await hold_reason(here) == "usage_limit"
        subscribed.model.lift_limit()
        await here.second.resume_queue(here.project_id)
        wanted = {first.execution_id: "cancelled", second.execution_id: "success", later.execution_id: "success"}

        async def is_over() -> bool:
            found = (await here.second.executions(here.project_id)).executions
            return {execution.execution_id: execution.status for execution in found} == wanted

        await eventually(is_over, "the prompts behind the cancelled one have run")
        assert await hold_reason(here) is None
