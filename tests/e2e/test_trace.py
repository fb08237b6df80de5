"""One trace from the client's prompt to the tool: the real server, the real CLI and a collector."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.claude import require_claude
from tests.harness.collector import Collected, Collector, collecting
from tests.harness.follow import eventually, until
from tests.harness.recorder import RecordingModel
from tests.harness.scene import Scene, scene
from tests.harness.server import ServerProcess, free_port, running_server

from pocket_agent.demo.demo_process import child_environment
from pocket_agent.model import ExecuteOptions

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = f"00-{TRACE}-b7ad6b7169203331-01"
MILLISECOND = 10**6
SECRET = "hidden-word"


class Traced(NamedTuple):
    """A server that traces, with the real CLI, and the collector of both."""

    server: ServerProcess
    collector: Collector


@contextlib.asynccontextmanager
async def traced(folder: Path, collector: Collector, **environ: str) -> AsyncIterator[Traced]:
    """A server with these settings and variables."""
    binary = require_claude()
    home = folder / "claude-home"
    home.mkdir()
    model = RecordingModel()
    env = {
        "PA_CLAUDE_BINARY": str(binary),
        "PA_TRACES_ENABLED": "true",
        "PA_TRACES_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **child_environment(await model.start(), home),
        **environ,
    }
    try:
        async with running_server(folder, env={name: value for name, value in env.items() if value}) as server:
            yield Traced(server, collector)
    finally:
        await model.stop()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector that works."""
    async with collecting() as collector:
        yield collector


@pytest.fixture
async def here(tmp_path: Path, folder: Path, collector: Collector) -> AsyncIterator[Scene]:
    """A project in a server that traces everything."""
    async with traced(tmp_path, collector) as stage, scene(stage.server, folder) as here:
        yield here


async def run(here: Scene, prompt: str, *, traceparent: str | None = None) -> str:
    """Give a prompt that needs no approval and wait for its end; returns the execution's id."""
    receipt = await here.first.execute(here.project_id, prompt, traceparent=traceparent)
    await until(here.one, "prompt", execution_id=receipt.execution_id)
    await until(here.one, "project_state", state="IDLE")
    return receipt.execution_id


async def execution(collector: Collector, execution_id: str) -> Collected:
    """The span of an execution."""

    def look() -> list[Collected]:
        roots = collector.named("claude.execute")
        return [span for span in roots if span.attributes["execution.id"] == execution_id]

    await eventually(lambda: bool(look()), "the span of the execution is there")
    (root,) = look()
    return root


async def tree(collector: Collector, root: Collected, *names: str) -> list[Collected]:
    """All spans of a trace, once there is one of each of these names and each hangs below the root."""

    def look() -> list[Collected]:
        return [span for span in collector.spans if span.trace_id == root.trace_id]

    def loose() -> list[Collected]:
        ids = {span.span_id for span in look()}
        return [span for span in look() if span.parent_id not in ids]

    await eventually(lambda: set(names) <= {span.name for span in look()}, f"{names} are there")
    await eventually(lambda: loose() == [root], "every span has its parent")
    assert len({span.span_id for span in look()}) == len(look())
    return look()


def within(spans: Iterable[Collected], parent: Collected) -> None:
    """The server's own spans lie within their parent; the CLI goes on for a moment after its result."""
    for span in spans:
        late = 0 if span.scope == parent.scope else 500 * MILLISECOND
        assert parent.start - late <= span.start <= span.end <= parent.end + late, (span, parent)


async def test_two_prompts_of_one_process_are_two_traces(here: Scene, collector: Collector) -> None:
    cold = await execution(collector, await run(here, "demo:text"))
    agent = here.server.agent(here.project_id)
    warm = await execution(collector, await run(here, "demo:text"))
    assert here.server.agent(here.project_id).pid == agent.pid
    assert cold.trace_id != warm.trace_id
    for root, start in ((cold, "claude.spawn"), (warm, "claude.warm_start")):
        spans = await tree(collector, root, "claude_code.interaction", "claude_code.llm_request", start, "claude.queue")
        children = [span for span in spans if span.parent_id == root.span_id]
        within(children, root)
        names = [span.name for span in children]
        assert names.count("claude_code.interaction") == names.count("claude.queue") == names.count(start) == 1
        assert names.count("claude.commit") == root.attributes["storage.commits"] > 0
        assert names.count("claude.first_message") == 1
        assert root.parent_id == ""
        assert root.status == 0


async def test_an_approval_and_the_tool_that_it_blocked(here: Scene, collector: Collector) -> None:
    asked = await here.ask("demo:bash=touch made.txt")
    await asyncio.sleep(0.2)
    await here.allow(asked)
    root = await execution(collector, asked.execution_id)
    spans = await tree(collector, root, "claude_code.tool.blocked_on_user", "claude_code.tool.execution")
    by_name = {span.name: span for span in spans}
    approval, blocked = by_name["claude.approval"], by_name["claude_code.tool.blocked_on_user"]
    assert approval.parent_id == root.span_id
    within([approval], root)
    assert approval.attributes["gen_ai.tool.name"] == "Bash"
    assert approval.attributes["approval.behavior"] == "allow"
    assert blocked.parent_id == by_name["claude_code.tool"].span_id
    # Both are the wait for the same answer, seen from either side of the pipe.
    assert blocked.start - 500 * MILLISECOND < approval.start < approval.end < blocked.end + 500 * MILLISECOND
    assert approval.end - approval.start >= 150 * MILLISECOND
    assert root.attributes["execution.waited_seconds"] >= 0.15


async def test_attributes(here: Scene, collector: Collector) -> None:
    frames = await here.run("demo:text", ExecuteOptions(model="claude-sonnet-4-5"))
    (result,) = [frame.data for frame in frames if frame.data.get("type") == "result"]
    root = (await collector.until("claude.execute"))[0]
    usage = result["usage"]
    read, created = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    assert root.attributes["project.id"] == here.project_id
    assert root.attributes["session.id"] == root.attributes["gen_ai.conversation.id"] == result["session_id"]
    assert root.attributes["execution.status"] == "success"
    assert root.attributes["gen_ai.provider.name"] == "anthropic"
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["gen_ai.request.model"] == "claude-sonnet-4-5"
    assert root.attributes["gen_ai.response.model"].startswith("claude-sonnet-4-5")
    assert root.attributes["gen_ai.usage.input_tokens"] == usage["input_tokens"] + read + created
    assert root.attributes["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert root.attributes["execution.cost_usd"] == pytest.approx(result["total_cost_usd"], abs=1e-6)
    assert root.resource["service.name"] == "pocket-agent-server"
    own = (await collector.until("claude_code.interaction"))[0]
    assert own.resource["service.name"] == "claude-code"
    assert own.resource["project.id"] == here.project_id


async def test_the_clients_span_is_the_parent(here: Scene, collector: Collector) -> None:
    root = await execution(collector, await run(here, "demo:text", traceparent=CLIENT))
    assert (root.trace_id, root.parent_id) == (TRACE, CLIENT.split("-")[2])
    spans = await tree(collector, root, "claude_code.llm_request")
    assert {span.trace_id for span in spans} == {TRACE}
    assert collector.one("claude_code.interaction").parent_id == root.span_id


async def test_what_the_client_does_not_sample_gives_no_span(here: Scene, collector: Collector) -> None:
    """Neither a process that is started for it, nor one that was traced before, nor the next prompt's trace."""
    dropped = [await run(here, "demo:text", traceparent=CLIENT[:-2] + "00")]
    kept = [await run(here, "demo:text")]
    dropped.append(await run(here, "demo:text", traceparent=CLIENT[:-2] + "00"))
    kept.append(await run(here, "demo:text"))
    roots = [await execution(collector, execution_id) for execution_id in kept]
    await collector.until("claude_code.interaction", 2)
    await here.server.stop()
    assert {span.trace_id for span in collector.spans} == {root.trace_id for root in roots}
    assert len(collector.named("claude_code.interaction")) == len(collector.named("claude.execute")) == 2


async def test_a_ratio_of_0_leaves_it_to_the_client(tmp_path: Path, folder: Path, collector: Collector) -> None:
    async with traced(tmp_path, collector, PA_TRACES_SAMPLE_RATIO="0") as stage, scene(stage.server, folder) as here:
        await run(here, "demo:text")
        root = await execution(collector, await run(here, "demo:text", traceparent=CLIENT))
        await tree(collector, root, "claude_code.interaction")
        await stage.server.stop()
    assert {span.trace_id for span in collector.spans} == {TRACE}


@pytest.mark.parametrize("point", ["the approval", "the tool"])
async def test_killed_and_started_again(here: Scene, collector: Collector, point: str) -> None:
    await run(here, "demo:text")
    asked = await here.ask("demo:bash=touch made.txt; sleep 1")
    if point == "the tool":
        await here.first.approve(here.project_id, asked.approval_id)
        await eventually((here.folder / "made.txt").exists, "the tool runs")
    await here.server.kill()
    await here.server.start()
    if point == "the approval":
        await here.first.approve(here.project_id, asked.approval_id)
    await until(here.one, "project_state", state="IDLE")
    root = await execution(collector, asked.execution_id)
    spans = await tree(collector, root, "claude_code.tool.execution", "claude_code.interaction")
    within([span for span in spans if span.parent_id == root.span_id], root)
    assert len([span for span in spans if span.name == "claude.execute"]) == 1
    last = await execution(collector, await run(here, "demo:text"))
    await tree(collector, last, "claude_code.interaction", "claude.warm_start")


async def test_an_error(here: Scene, collector: Collector) -> None:
    receipt = await here.first.execute(here.project_id, "demo:error")
    await until(here.one, "project_state", state="ERROR")
    root = await execution(collector, receipt.execution_id)
    assert (root.status, root.message) == (2, "EXECUTION_FAILED")
    assert root.attributes["error.type"] == "EXECUTION_FAILED"
    await tree(collector, root, "claude_code.llm_request")


async def test_a_prompt_that_waited_and_one_that_was_withdrawn(here: Scene, collector: Collector) -> None:
    asked = await here.ask("demo:bash=touch made.txt")
    second = await here.first.execute(here.project_id, "demo:text")
    third = await here.first.execute(here.project_id, "demo:text")
    await here.first.cancel_prompt(here.project_id, third.execution_id)
    await asyncio.sleep(0.2)
    await here.first.approve(here.project_id, asked.approval_id)
    waited = await execution(collector, second.execution_id)
    await tree(collector, waited, "claude.queue", "claude_code.interaction")
    (queue,) = [span for span in collector.named("claude.queue") if span.trace_id == waited.trace_id]
    within([queue], waited)
    assert queue.end - queue.start >= 150 * MILLISECOND
    withdrawn = await execution(collector, third.execution_id)
    assert withdrawn.attributes["execution.status"] == "cancelled"
    await tree(collector, withdrawn)


async def test_nothing_that_was_said_or_done_is_exported(tmp_path: Path, folder: Path, collector: Collector) -> None:
    """Neither the prompt nor the command, its output, the answer or the token, whatever the environment says."""
    telling = {f"OTEL_LOG_{name}": "1" for name in ("USER_PROMPTS", "TOOL_DETAILS", "TOOL_CONTENT", "RAW_API_BODIES")}
    headers = {"PA_TRACES_HEADERS": f"authorization=Bearer {SECRET}-token"}
    async with traced(tmp_path, collector, **telling, **headers) as stage, scene(stage.server, folder) as here:
        asked = await here.ask(f"{SECRET} demo:bash=echo {SECRET} > {SECRET}.txt; cat {SECRET}.txt")
        await here.allow(asked)
        await here.run(f"demo:echo {SECRET}")
        root = await execution(collector, asked.execution_id)
        await tree(collector, root, "claude_code.tool.execution", "claude_code.interaction")
        await stage.server.stop()
    assert len(collector.requests) > 1
    assert SECRET.encode() not in b"".join(request.body for request in collector.requests)
    assert {request.headers["authorization"] for request in collector.requests} == {f"Bearer {SECRET}-token"}
    assert {request.path for request in collector.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert f"{SECRET}-token" not in stage.server.log


async def test_the_standard_variables_alone(tmp_path: Path, folder: Path, collector: Collector) -> None:
    environ = {
        "PA_TRACES_ENABLED": "",
        "PA_TRACES_ENDPOINT": "",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "team.name=a%20b",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
    }
    async with traced(tmp_path, collector, **environ) as stage, scene(stage.server, folder) as here:
        root = await execution(collector, await run(here, "demo:text"))
        spans = await tree(collector, root, "claude_code.interaction")
    assert (root.resource["service.name"], root.resource["team.name"]) == ("mine", "a b")
    assert {span.resource["service.name"] for span in spans} == {"mine", "claude-code"}
    assert {span.resource["team.name"] for span in spans} == {"a b"}


async def test_metrics_and_events_of_the_agents(here: Scene, collector: Collector) -> None:
    await here.allow(await here.ask("demo:bash=false && touch made.txt"))
    failed = await here.first.execute(here.project_id, "demo:error")
    await until(here.one, "project_state", state="ERROR")
    await execution(collector, failed.execution_id)
    await here.server.stop()
    assert {point.name for point in collector.points} >= {"claude_code.token.usage", "claude_code.active_time.total"}
    assert {point.cumulative for point in collector.points} == {True}
    assert {point.resource["service.name"] for point in collector.points} == {"claude-code"}
    assert {point.attributes["project.id"] for point in collector.points} == {here.project_id}
    # As the dashboard asks for them.
    events = {record.name: record.attributes for record in collector.records}
    assert events["api_request"].keys() >= {"model", "duration_ms"}
    assert (events["api_error"]["status_code"], "model" in events["api_error"]) == (400, True)
    tool = events["tool_result"]
    assert (tool["tool_name"], tool["success"], "duration_ms" in tool) == ("Bash", "false", True)


async def test_without_metrics_and_events(tmp_path: Path, folder: Path, collector: Collector) -> None:
    environ = {"PA_TRACES_AGENT_METRICS": "false"}
    async with traced(tmp_path, collector, **environ) as stage, scene(stage.server, folder) as here:
        root = await execution(collector, await run(here, "demo:text"))
        await tree(collector, root, "claude_code.interaction")
        await stage.server.stop()
    assert {request.path for request in collector.requests} == {"/v1/traces"}


async def test_without_the_agents(tmp_path: Path, folder: Path, collector: Collector) -> None:
    async with traced(tmp_path, collector, PA_TRACES_AGENTS="false") as stage, scene(stage.server, folder) as here:
        await execution(collector, await run(here, "demo:text"))
        await stage.server.stop()
    assert {span.resource["service.name"] for span in collector.spans} == {"pocket-agent-server"}


async def test_an_agent_from_before_tracing_is_replaced(tmp_path: Path, folder: Path, collector: Collector) -> None:
    async with traced(tmp_path, collector, PA_TRACES_ENABLED="false") as stage, scene(stage.server, folder) as here:
        await run(here, "demo:text")
        agent = stage.server.agent(here.project_id)
        await stage.server.kill()
        stage.server.env["PA_TRACES_ENABLED"] = "true"
        await stage.server.start()
        assert stage.server.agent(here.project_id).pid == agent.pid
        root = await execution(collector, await run(here, "demo:text"))
        await tree(collector, root, "claude_code.interaction", "claude.spawn")


@pytest.mark.parametrize("fault", ["dead", "hanging", "refusing"])
async def test_a_bad_collector_changes_nothing_for_the_user(
    tmp_path: Path, folder: Path, collector: Collector, fault: str
) -> None:
    environ = {"PA_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}"} if fault == "dead" else {}
    environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "3600000"  # an hour, for the server and the CLI: no exit may wait for it
    collector.hangs, collector.status = fault == "hanging", 403 if fault == "refusing" else 200
    async with traced(tmp_path, collector, **environ) as stage, scene(stage.server, folder) as here:
        for _ in range(2):
            await run(here, "demo:text")
        agent = stage.server.agent(here.project_id)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await stage.server.stop() == 0
        await eventually(lambda: not agent.is_running(), "the agent has ended")
        await eventually(lambda: "spans lost" in stage.server.log, "the loss is told")
    assert collector.spans == []
