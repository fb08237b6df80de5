"""Prompts that wait for their turn, and prompts that are sent twice."""

from pathlib import Path

import pytest
from tests.harness.follow import follow, until
from tests.harness.scene import Stage, rest, said_by_cli, scene, texts, whole

from pocket_agent.errors import ProcessNotFoundError

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_queue_of_three_is_edited_and_runs_in_order(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here, stage.server.client() as late:
        asked = await here.ask("demo:bash=touch zero.txt")
        waiting = [await here.first.execute(here.project_id, f"prompt {name}") for name in ("alpha", "beta", "gamma")]
        assert [(receipt.status, receipt.position) for receipt in waiting] == [
            ("queued", 1),
            ("queued", 2),
            ("queued", 3),
        ]
        told = await follow(here.two, lambda frame: frame.type == "queue_state" and len(frame.data["queue"]) == 3)
        shown = [(item["prompt"], item["position"], item["execution_id"]) for item in told[-1].data["queue"]]
        ids = [receipt.execution_id for receipt in waiting]
        assert shown == [("prompt alpha", 1, ids[0]), ("prompt beta", 2, ids[1]), ("prompt gamma", 3, ids[2])]

        await here.second.cancel_prompt(here.project_id, ids[0])
        await here.second.edit_prompt(here.project_id, ids[2], "prompt delta")
        async with late.subscribe(here.project_id) as stream:
            assert stream.joined is not None
            assert [(item.prompt, item.position) for item in stream.joined.queue] == [
                ("prompt beta", 1),
                ("prompt delta", 2),
            ]

        await here.first.approve(here.project_id, asked.approval_id)
        seen = await rest(here.one, ids[2])
        assert [frame.data["prompt"] for frame in seen if frame.type == "prompt"] == ["prompt beta", "prompt delta"]
        answers = [line["result"] for line in said_by_cli(seen, "result")]
        assert len(answers) == 3
        assert ["prompt beta" in answer for answer in answers] == [False, True, False]
        assert ["prompt delta" in answer for answer in answers] == [False, False, True]
        for over in ids:
            with pytest.raises(ProcessNotFoundError):
                await here.first.edit_prompt(here.project_id, over, "too late")
            with pytest.raises(ProcessNotFoundError):
                await here.first.cancel_prompt(here.project_id, over)
    # Each was a turn of its own: nothing was folded into the running one, and what was withdrawn never got there.
    assert not stage.model.saw("prompt alpha")
    assert not stage.model.saw("prompt gamma")
    assert len(stage.model.saw("prompt beta")) == 2
    assert len(stage.model.saw("prompt delta")) == 1


async def test_a_fault_of_the_account_holds_the_prompts_that_wait(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch zero.txt")
        waiting = [await here.first.execute(here.project_id, prompt) for prompt in ("demo:error=credit", "one", "two")]
        await here.first.approve(here.project_id, asked.approval_id)
        held = await follow(
            here.one, lambda frame: frame.type == "project_state" and frame.data["queue_hold"] is not None
        )
        assert held[-1].data["queue_hold"]["reason"] == "credit"
        assert (held[-1].data["queue_depth"], held[-1].data["state"]) == (2, "ERROR")
        await here.second.resume_queue(here.project_id)
        seen = await rest(here.one, waiting[-1].execution_id)
        assert [frame.data["prompt"] for frame in seen if frame.type == "prompt"] == ["one", "two"]
        assert [line["is_error"] for line in said_by_cli(seen, "result")] == [False, False]


async def test_the_same_prompt_id_is_the_same_execution(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch before.txt")
        prompt = "say it once, pomegranate"

        async def send() -> tuple[str, str]:
            receipt = await here.second.execute(here.project_id, prompt, prompt_id="the-same")
            return receipt.execution_id, receipt.status

        execution_id, status = await send()
        assert status == "queued"
        assert await send() == (execution_id, "queued")
        await here.first.approve(here.project_id, asked.approval_id)
        await until(here.one, "prompt", execution_id=execution_id)
        assert await send() == (execution_id, "started")
        seen = await follow(here.one, lambda frame: frame.type == "project_state" and frame.data["state"] == "IDLE")
        assert "pomegranate" in texts(seen)
        assert await send() == (execution_id, "started")
        other = await here.second.execute(here.project_id, "demo:text", prompt_id="another")
        await whole(here.one, other.execution_id)
        page = await here.first.messages(here.project_id, limit=1000, direction="client")
        assert [message.type for message in page.messages] == ["prompt", "approval_resolved", "prompt", "prompt"]
    assert len(stage.model.saw(prompt)) == 2, "its own turn, and as history of the last one"
