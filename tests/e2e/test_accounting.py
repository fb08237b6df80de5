"""The figures of executions equal the real CLI's own, to the token, whatever happens to the server between."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.harness.follow import end_of, eventually, follow, until
from tests.harness.scene import Scene, Stage, init_of, rest, said_by_cli, scene, whole
from tests.harness.server import ServerProcess

from pocket_agent.client import Frame
from pocket_agent.demo import scenario
from pocket_agent.demo.model_request import Question
from pocket_agent.demo.scenario import SCENARIOS, Message, Reply, Scenario, Text, ToolUse, say
from pocket_agent.protocol.requests import ExecutionData
from pocket_agent.storage import connection_beside, spending_since
from pocket_agent.storage.database import database_path

FIELDS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_creation_tokens": "cacheCreationInputTokens",
}
_SONNET = "claude-sonnet-5-5"


def totals(result: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The tokens of a session by model, as the CLI sums them up."""
    return {
        model: {ours: figures[theirs] for ours, theirs in FIELDS.items()}
        for model, figures in result["modelUsage"].items()
    }


def sums(rows: Sequence[Any]) -> dict[str, dict[str, int]]:
    """The same out of figures by model."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        model = found.setdefault(row.model, dict.fromkeys(FIELDS, 0))
        for field in FIELDS:
            model[field] += getattr(row, field)
    return found


def used(executions: Sequence[ExecutionData]) -> list[Any]:
    """The figures of executions, model by model."""
    return [figures for execution in executions for figures in execution.usage]


async def listed(here: Scene) -> list[ExecutionData]:
    """The executions of the project, newest first."""
    return (await here.first.executions(here.project_id)).executions


def result_of(frames: Sequence[Frame]) -> dict[str, Any]:
    """The last result among the frames."""
    return said_by_cli(frames, "result")[-1]


def logged(server: ServerProcess, message: str) -> list[dict[str, Any]]:
    """The server's log lines of one kind."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line["fields"] for line in lines if line["msg"] == message]


async def test_the_sums_are_the_clis_own(demo_server: ServerProcess, folder: Path) -> None:
    async with scene(demo_server, folder) as here:
        await here.run("demo:text")
        await here.run("demo:loop=2")
        await here.first.set_model(here.project_id, "sonnet")
        await here.run("demo:text")
        asked = await here.ask("demo:bash=touch made.txt")
        await demo_server.kill()
        await demo_server.start()
        last = result_of(await here.allow(asked))
        assert len(last["modelUsage"]) == 2
        executions = await listed(here)
        assert sums(used(executions)) == totals(last)
        assert sum(one.cost_usd for one in executions) == pytest.approx(last["total_cost_usd"], abs=1e-9)
        assert [one.model for one in executions][:2] == [_SONNET] * 2

        # Another process, whose first sum contains all of the above.
        assert await demo_server.stop() == 0
        await demo_server.start()
        last = result_of(await here.run("demo:text again"))
        assert last["result_index"] == 0
        executions = await listed(here)
        assert (len(executions), [one.incomplete for one in executions]) == (5, [False] * 5)
        assert sums(used(executions)) == totals(last)
        cost = last["total_cost_usd"]
        assert sum(one.cost_usd for one in executions) == pytest.approx(cost, abs=1e-9)
        assert max(one.cost_usd for one in executions) < last["total_cost_usd"] / 2

        with connection_beside(database_path(demo_server.data_dir)) as connection:
            spent = spending_since(connection, "2000-01-01")
        assert sums(spent) == totals(last)
        assert sum(row.cost_usd for row in spent) == pytest.approx(cost, abs=1e-9)
        assert sum(row.executions for row in spent) == 5
        assert (await here.first.stats()).cost.today_usd == pytest.approx(cost, abs=1e-9)

    told = logged(demo_server, "Execution completed")
    read = [figures for model in totals(last).values() for name, figures in model.items() if name != "output_tokens"]
    assert sum(line["prompt_tokens"] for line in told) == sum(read)
    assert sum(line["completion_tokens"] for line in told) == sum(
        model["output_tokens"] for model in totals(last).values()
    )
    assert sum(line["cost_usd"] for line in told) == pytest.approx(last["total_cost_usd"], abs=1e-5)


async def test_an_error_a_denial_an_interrupt_and_a_kill(demo_server: ServerProcess, folder: Path) -> None:
    async with scene(demo_server, folder) as here:
        model = init_of(await here.run("demo:error"))["model"]
        (failed,) = await listed(here)
        assert (failed.status, failed.code, failed.usage) == ("error", "EXECUTION_FAILED", [])
        assert (failed.model, failed.incomplete) == (model, False)

        asked = await here.ask("demo:bash=touch denied.txt")
        await here.first.deny(here.project_id, asked.approval_id)
        last = result_of(await rest(here.one, asked.execution_id))
        assert sums(used(await listed(here))) == totals(last)

        receipt = await here.first.execute(here.project_id, "demo:slow=60s")
        await until(here.one, "prompt", execution_id=receipt.execution_id)
        await follow(here.one, lambda frame: frame.data.get("event", {}).get("type") == "content_block_delta")
        await here.first.interrupt(here.project_id)
        last = result_of(await rest(here.one, receipt.execution_id))
        assert last["usage"]["input_tokens"] == 0, "what the CLI itself leaves out"
        interrupted, *others = await listed(here)
        assert (interrupted.status, interrupted.incomplete) == ("killed", False)
        assert interrupted.usage[0].input_tokens > 0
        assert sums(used([interrupted, *others])) == totals(last)

        receipt = await here.first.execute(here.project_id, "demo:slow=60s")
        await until(here.one, "prompt", execution_id=receipt.execution_id)
        await follow(here.one, lambda frame: frame.data.get("event", {}).get("type") == "content_block_delta")
        await here.first.kill(here.project_id)
        killed, *others = await listed(here)
        assert (killed.status, killed.incomplete, killed.cost_usd) == ("killed", True, 0)
        assert (killed.model, killed.usage[0].output_tokens) == (model, 1)
        assert killed.usage[0].input_tokens > 0

        last = result_of(await here.run("demo:text"))
        after, *_ = await listed(here)
        assert sums(used([after])) == {model: {ours: usage_of(last)[theirs] for ours, theirs in FIELDS.items()}}
    assert [(line["tool"], line["outcome"]) for line in logged(demo_server, "tool completed")] == [("Bash", "denied")]


async def test_what_is_used_after_the_end_finds_its_execution_after_a_restart(
    standin_server: ServerProcess, folder: Path
) -> None:
    def result(cost_usd: float, **fields: Any) -> str:
        figures = {"claude-opus-5-5": {"inputTokens": 10, "outputTokens": 7, "costUSD": cost_usd}}
        line = {"type": "result", "is_error": False, "model_usage_since_last_result": figures, **fields}
        return f"print {json.dumps(line, separators=(',', ':'))}"

    async with scene(standin_server, folder) as here:
        own = result(0.25, origin={"kind": "task-notification"})
        receipt = await here.first.execute(here.project_id, f"{result(0.5)} noresult after sleep 1 {own}")
        await end_of(here.one, receipt.execution_id)
        await standin_server.kill()
        await standin_server.start()

        async def is_counted() -> bool:
            return [one.cost_usd for one in await listed(here)] == [0.75]

        await eventually(is_counted, "what was used meanwhile is counted")
        assert (await here.first.stats()).cost.today_usd == 0.75


def usage_of(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of the only model of a turn."""
    (figures,) = result["model_usage_since_last_result"].values()
    found: dict[str, Any] = figures
    return found


def helper(question: Question, argument: str) -> Reply:
    """Begins a task in the background; the answer to what the CLI says when that is done is slow."""
    if question.step == 0 and "task-notification" not in question.prompt:
        task = {"description": "d", "prompt": "demo:loop=2", "subagent_type": "general-purpose"}
        return Message((Text("I ask a helper."), ToolUse("Agent", task)))
    return say("The helper works.")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_task_in_the_background_is_counted_and_ends_no_other_execution(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario, "SCENARIOS", {**SCENARIOS, "helper": Scenario(helper)})
    async with scene(stage.server, folder) as here:
        receipt = await here.first.execute(here.project_id, "demo:helper")
        seen = await whole(here.one, receipt.execution_id)
        if not any(line.get("origin") for line in said_by_cli(seen, "result")):
            seen += await follow(here.one, lambda frame: bool(frame.data.get("origin")))
        own = result_of(seen)
        assert own["origin"]["kind"] == "task-notification"
        assert own["is_error"] is False

        async def is_counted() -> bool:
            return sums(used(await listed(here))) == totals(own)

        await eventually(is_counted, "what the task used is counted")
        (execution,) = await listed(here)
        assert execution.cost_usd == pytest.approx(own["total_cost_usd"], abs=1e-9)
        last = result_of(await here.run("demo:text"))
        assert sums(used(await listed(here))) == totals(last)
        assert [one.status for one in await listed(here)] == ["success"] * 2
