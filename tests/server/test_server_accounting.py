"""What executions use is told, stored and kept within a budget, however they end."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.client import Client
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import BudgetExceeded, ExecutionFinished, ExecutionStarted, ToolCompleted, UsageAdded
from pocket_agent.model import Execution, ModelUsage, Spending
from pocket_agent.storage import connection_beside, spending_since
from pocket_agent.storage.database import database_path
from tests.server.room import Room, open_room, until

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
STARTED = {
    "input_tokens": 5,
    "output_tokens": 1,
    "cache_read_input_tokens": 300,
    "cache_creation_input_tokens": 20,
}
SEEN = ModelUsage(OPUS, 5, 1, 300, 20)


def said(**line: Any) -> str:
    """Words of a prompt that let the stand-in print a line."""
    return f"print {json.dumps(line, separators=(',', ':'))}"


def result(cost_usd: float = 0.5, model: str = OPUS, **fields: Any) -> str:
    """A result with figures of one model."""
    figures = {"inputTokens": 10, "outputTokens": 7, "cacheReadInputTokens": 300, "cacheCreationInputTokens": 20}
    usage = {model: {**figures, "costUSD": cost_usd}}
    basic = {"type": "result", "subtype": "success", "is_error": False, "session_id": "s"}
    return said(**basic, model_usage_since_last_result=usage, **fields)


def told(cost_usd: float = 0.5, model: str = OPUS) -> ModelUsage:
    """What such a result tells."""
    return ModelUsage(model, 10, 7, 300, 20, cost_usd)


def message(name: str = "m-1", *blocks: dict[str, Any], parent: str | None = None) -> str:
    """A line for a block of a message."""
    content = list(blocks) or [{"type": "text", "text": "x"}]
    body = {"id": name, "model": OPUS, "content": content, "usage": STARTED}
    return said(type="assistant", message=body, parent_tool_use_id=parent)


OWN = result(0.25, HAIKU, origin={"kind": "task-notification"})
"""The end of a turn that the CLI began by itself."""


class Story:
    """A project in a room, and a client."""

    def __init__(self, room: Room, conversation: Conversation, client: Client) -> None:
        self.room = room
        self.session = conversation
        self.client = client
        self.project_id = conversation.state.record.id

    async def give(self, prompt: str) -> str:
        """Give a prompt; returns the id of its execution."""
        return (await self.client.execute(self.project_id, prompt)).execution_id

    async def run(self, prompt: str) -> ExecutionFinished:
        """Give a prompt, and wait for its end."""
        return await self.end(await self.give(prompt))

    async def end(self, execution_id: str) -> ExecutionFinished:
        """Wait for the end of an execution."""

        def found() -> list[ExecutionFinished]:
            finished: list[ExecutionFinished] = self.room.seen.of(ExecutionFinished)
            return [event for event in finished if event.context.execution_id == execution_id]

        await until(lambda: bool(found()))
        (event,) = found()
        return event

    async def stored(self, execution_id: str) -> Execution:
        """An execution as it is stored."""
        found = await self.room.store.execution(execution_id)  # type: ignore[arg-type]
        assert found is not None
        return found

    def spending(self) -> list[Spending]:
        """The history of spending, as a command beside the server sees it."""
        with connection_beside(database_path(self.room.settings.data.dir)) as connection:
            return spending_since(connection, "2000-01-01")


@contextlib.asynccontextmanager
async def story(folder: Path, **settings: Any) -> AsyncIterator[Story]:
    """A room with a project, the one that is there already or a new one."""
    async with open_room(folder, **settings) as room, room.client() as client:
        known = room.projects.all()
        yield Story(room, known[0] if known else await room.project(), client)


async def test_an_execution_is_told_stored_listed_and_summed_alike(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        event = await here.run(f"{message()} {result()} noresult")
        used = (told(),)
        assert (event.status, event.model, event.usage, event.code) == ("success", OPUS, used, None)
        stored = await here.stored(event.context.execution_id)
        assert (stored.model, stored.usage, stored.incomplete, stored.session_id) == (OPUS, used, False, "s")
        (listed,) = (await here.client.executions(here.project_id)).executions
        assert listed.usage[0].cost_usd == listed.cost_usd == 0.5
        assert (listed.usage[0].input_tokens, listed.status, listed.by) == (10, "success", "test")
        (spent,) = here.spending()
        assert (spent.model, spent.cost_usd, spent.executions, spent.project_name) == (OPUS, 0.5, 1, "project")
        assert (spent.input_tokens, spent.output_tokens) == (10, 7)
        assert (spent.cache_read_tokens, spent.cache_creation_tokens) == (300, 20)
        await here.run(f"{result(0.25)} noresult")
        (spent,) = here.spending()
        assert (spent.cost_usd, spent.executions, spent.input_tokens) == (0.75, 2, 20)
        assert here.room.projects.budget.spent_usd == 0.75
        assert (await here.client.stats()).cost.today_usd == 0.75
        project_id = here.project_id
        await here.client.delete_project(project_id)
        await here.room.store.check()
        assert [(row.project_id, row.cost_usd) for row in here.spending()] == [(project_id, 0.75)]


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("{said} sleep 0", "success", None),
        ("{said} fail", "error", "EXECUTION_FAILED"),
        ("{said} exit 3", "error", "EXECUTION_FAILED"),
        ("{said} crash", "error", "EXECUTION_FAILED"),
        ("{said} sleep 600", "timeout", "EXECUTION_TIMEOUT"),
    ],
)
async def test_an_end_is_told_once_with_what_was_seen(tmp_path: Path, prompt: str, status: str, code: str) -> None:
    lines = f"{message()} {message()} {message('m-2')}"
    async with story(tmp_path) as here:
        running = await here.give(prompt.format(said=lines))
        if status == "timeout":
            await until(lambda: here.session.state.record.head >= 5)  # the prompt, the init and all that it says
            here.room.reload(timeouts__execution="1ms")
        event = await here.end(running)
        here.room.reload(timeouts__execution="10m")
        assert (event.status, event.code) == (status, code)
        # The stand-in's own result tells nothing of models, so that the lines count there too.
        assert event.usage == (ModelUsage(OPUS, 10, 2, 600, 40),)
        stored = await here.stored(event.context.execution_id)
        assert stored.incomplete is (status == "timeout" or "exit" in prompt or "crash" in prompt)
        assert (stored.usage, stored.code) == (event.usage, code)
        (spent,) = here.spending()
        assert (spent.input_tokens, spent.executions) == (10, 1)
        again = await here.run(f"{result()} noresult")
        assert again.usage == (told(),), "what was counted without a result is not counted again"
        assert len(here.room.seen.of(ExecutionFinished)) == len(here.room.seen.of(ExecutionStarted)) == 2


async def test_a_kill_and_an_interrupt_are_told_once(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        for end in (here.client.kill, here.client.interrupt):
            waiting = await here.give(f"{message()} ask Bash")
            await until(lambda: bool(here.session.state.approvals))
            await end(here.project_id)
            event = await here.end(waiting)
            assert event.status == "killed"
            assert event.usage == (SEEN,)
            assert event.model == OPUS
        assert [row.incomplete for row in (await here.client.executions(here.project_id)).executions] == [False, True]
        assert sum(row.executions for row in here.spending()) == 2


async def test_an_agent_that_ended_while_the_server_was_away_is_counted_once(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        running = await here.give(f"{message()} ask Bash")
        await until(lambda: bool(here.session.state.approvals))
        first = len(here.room.seen.of(ExecutionFinished))
    async with story(tmp_path, executions__resume_interrupted="never") as here:
        event = await here.end(running)
        assert (first, event.status, event.usage) == (0, "error", (SEEN,))
        assert (await here.stored(running)).incomplete
        assert [(row.input_tokens, row.executions) for row in here.spending()] == [(5, 1)]
        assert here.room.projects.budget.spent_usd == 0
    async with story(tmp_path) as here:
        assert here.room.seen.of(ExecutionFinished) == []
        assert [row.executions for row in here.spending()] == [1]


async def test_an_execution_whose_process_left_nothing_behind_ends_with_what_was_stored(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        running = await here.give(f"{message()} ask Bash")
        await until(lambda: bool(here.session.state.approvals))
        spools = here.room.settings.data.dir / "spool"
    for left in sorted(spools.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    async with story(tmp_path, executions__resume_interrupted="never") as here:
        event = await here.end(running)
        assert (event.status, event.usage) == ("error", (SEEN,))


async def test_a_prompt_that_cannot_be_started_waits_and_counts_once(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        first = await here.give("ask Bash")
        second = await here.give(f"{message()} sleep 0")
        await until(lambda: bool(here.session.state.approvals))
        folder = Path(here.session.state.record.real_path)
        away = folder.rename(folder.with_name("elsewhere"))
        await here.client.kill(here.project_id)
        assert (await here.end(first)).status == "killed"
        await until(lambda: here.session.state.record.queue_hold is not None)
        hold = here.session.state.record.queue_hold
        assert hold is not None
        assert hold.reason == "directory"
        assert sum(row.executions for row in here.spending()) == 1, "one that has not begun is no execution of that day"
        away.rename(folder)
        assert (await here.end(second)).status == "success"
        assert sum(row.executions for row in here.spending()) == 2


async def test_the_clis_own_turn_ends_no_execution(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        begun = said(type="system", subtype="init", session_id="s", model=OPUS)
        event = await here.run(f"{OWN} sleep 0.1 {begun} {message('m-9')} {result()} noresult")
        assert event.usage == (told(0.25, HAIKU), told())
        assert here.room.seen.of(UsageAdded) == []
        assert {row.model: (row.cost_usd, row.executions) for row in here.spending()} == {
            OPUS: (0.5, 0),
            HAIKU: (0.25, 1),
        }
        assert here.room.projects.budget.spent_usd == 0.75


async def test_what_is_used_after_the_end_belongs_to_the_execution_before(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with story(tmp_path) as here:
        event = await here.run(f"{result()} noresult after metered {gate} 1 {OWN}")
        gate.write_bytes(b"1")
        added = await here.room.eventually(UsageAdded)
        assert (added.context, added.usage) == (event.context, (told(0.25, HAIKU),))
        stored = await here.stored(event.context.execution_id)
        assert (stored.usage, stored.status, stored.incomplete) == ((told(), told(0.25, HAIKU)), "success", False)
        assert sum(row.cost_usd for row in here.spending()) == here.room.projects.budget.spent_usd == 0.75
        assert sum(row.executions for row in here.spending()) == 1


async def test_what_an_idle_process_used_and_never_told_is_counted_at_its_end(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with story(tmp_path) as here:
        event = await here.run(f"{result()} noresult after {message('a-1', parent='t-1')} metered {gate} 1 exit 0")
        gate.write_bytes(b"1")
        added = await here.room.eventually(UsageAdded)
        assert (added.context, added.usage) == (event.context, (SEEN,))
        stored = await here.stored(event.context.execution_id)
        assert (stored.incomplete, stored.usage) == (True, (told().plus(SEEN),))


async def test_a_cli_without_figures_by_model_is_counted_by_differences_within_a_process(tmp_path: Path) -> None:
    def old(total: float) -> str:
        fields = {"usage": STARTED, "total_cost_usd": total, "session_id": "11111111-2222-4333-8444-555555555555"}
        line = said(type="result", subtype="success", is_error=False, **fields)
        return f"{said(type='system', subtype='init', model=OPUS)} {line} noresult"

    async with story(tmp_path) as here:
        costs = [(await here.run(old(total))).usage[0].cost_usd for total in (0.5, 0.75)]
        await here.session.close_if_idle()
        # The same session in another process: its first sum contains what was counted already.
        costs += [(await here.run(old(total))).usage[0].cost_usd for total in (1.75, 2.0)]
        assert costs == [0.5, 0.25, 0.0, 0.25]
        assert here.room.projects.budget.spent_usd == 1.0


@pytest.mark.parametrize("figures", ["-5", "1e999", '"many"', "[1]", "null", '{"claude":{"costUSD":-1}}', "9" * 400])
async def test_wrong_figures_break_nothing(tmp_path: Path, figures: str) -> None:
    async with story(tmp_path) as here:
        fields = ",".join(
            f'"{name}":{figures}' for name in ("usage", "total_cost_usd", "model_usage_since_last_result")
        )
        line = f'{{"type":"result","subtype":"success","is_error":false,"session_id":"s",{fields}}}'
        event = await here.run(f"print {line} noresult")
        assert (event.status, event.usage) == ("success", ())
        assert (await here.run(f"{result()} noresult")).usage == (told(),)
        assert here.room.projects.budget.spent_usd == 0.5


async def test_tools_are_told_by_how_they_ended(tmp_path: Path) -> None:
    def done(name: str, **fields: Any) -> str:
        block = {"type": "tool_result", "tool_use_id": name, **fields}
        meta = [{"id": name, "non_execution_kind": "permission-rule"}] if name == "t-3" else None
        return said(type="user", message={"content": [block]}, tool_result_meta=meta)

    calls = [("t-1", "Bash"), ("t-2", "mcp__mine__read"), ("t-3", "Write")]
    uses = [{"type": "tool_use", "id": name, "name": tool, "input": {}} for name, tool in calls]
    async with story(tmp_path) as here:
        ends = f"{done('t-2', is_error=True)} {done('t-1')} {done('t-3', is_error=True)}"
        event = await here.run(f"{message('m-1', *uses)} {ends} {result()} noresult")
        assert [(told.tool, told.outcome, told.context) for told in here.room.seen.of(ToolCompleted)] == [
            ("mcp__mine__read", "error", event.context),
            ("Bash", "success", event.context),
            ("Write", "denied", event.context),
        ]


async def test_over_budget_new_prompts_are_refused_and_queued_ones_wait_for_the_next_day(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"limits__cost_usd_per_day": 0.4, "limits__refuse_over_budget": True}
    async with story(tmp_path, **settings) as here:
        budget = here.room.projects.budget
        running = await here.give(f"ask Bash {result()} noresult")
        queued = await here.give(f"{result(0.125)} noresult")
        await until(lambda: bool(here.session.state.approvals))
        (approval_id,) = here.session.state.approvals
        await here.client.approve(here.project_id, approval_id)
        assert (await here.end(running)).status == "success", "what runs is not ended"
        exceeded = await here.room.eventually(BudgetExceeded)
        assert (exceeded.spent_usd, exceeded.limit_usd, exceeded.refusing) == (0.5, 0.4, True)
        with pytest.raises(ResourceLimitError, match=r"budget of \$0\.40"):
            await here.give("one more")
        await asyncio.sleep(1.2)  # longer than the pause between two attempts to start
        assert [waiting.id for waiting in here.session.state.queue] == [queued]
        assert len(here.room.seen.of(ExecutionStarted)) == 1
        stats = await here.client.stats()
        assert (stats.cost.today_usd, stats.cost.limit_usd) == (0.5, 0.4)
    async with story(tmp_path, **settings) as here:
        budget = here.room.projects.budget
        assert (budget.spent_usd, budget.refusing) == (0.5, True), "a restart forgets nothing"
        assert [waiting.id for waiting in here.session.state.queue] == [queued]
        budget._clock = lambda: time.time() + 86_400
        assert (await here.end(queued)).status == "success"
        assert here.room.seen.of(BudgetExceeded) == []
    async with story(tmp_path, limits__cost_usd_per_day=0.6) as here:
        assert here.room.projects.budget.spent_usd == 0.625
        assert (await here.run(f"{result()} noresult")).status == "success", "it only tells"


async def test_the_list_is_read_page_by_page(tmp_path: Path) -> None:
    async with story(tmp_path) as here:
        assert (await here.client.executions(here.project_id)).executions == []
        ids = [(await here.run(f"{result()} noresult {'x' * number * 90}")).context.execution_id for number in range(5)]
        page = await here.client.executions(here.project_id, limit=2)
        seen = list(page.executions)
        while page.has_more:
            page = await here.client.executions(here.project_id, limit=2, before=seen[-1].execution_id)
            assert len(page.executions) <= 2
            seen += page.executions
        assert [one.execution_id for one in seen] == ids[::-1]
        assert {len(one.prompt) <= 200 for one in seen} == {True}
        assert seen[0].started_at is not None
        assert (await here.client.executions(here.project_id, limit=5)).has_more is False
        assert (await here.client.executions(here.project_id, before="unknown")).executions == []
        async with here.room.wire() as wire:
            for limit in (0, 201, "many"):
                refused = await wire.ask("execution_list", {"project_id": here.project_id, "limit": limit})
                assert refused["data"]["code"] == "VALIDATION_FAILED"
            refused = await wire.ask("execution_list", {"project_id": "none"})
            assert refused["data"]["code"] == "PROJECT_NOT_FOUND"
