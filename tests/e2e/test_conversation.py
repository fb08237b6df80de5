"""Prompts and answers: what streams, what stays, and that both are what the CLI wrote."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.harness.follow import entry_types, follow, lines, stored, until
from tests.harness.scene import Stage, init_of, one_said_by_cli, said_by_cli, scene, state_after, texts, whole

from pocket_agent.client import Frame
from pocket_agent.demo.scenario import AWKWARD_TEXT

pytestmark = pytest.mark.asyncio(loop_scope="session")


def delta(frame: Frame) -> str:
    """The text of a partial frame; empty for other frames."""
    if frame.type != "agent_message" or frame.data["type"] != "stream_event":
        return ""
    return str(frame.data["event"].get("delta", {}).get("text", ""))


async def test_text_streams_live_and_the_complete_line_stays(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.run("demo:words=60")
        partial = [frame for frame in seen if frame.type == "agent_message" and frame.data["type"] == "stream_event"]
        assert len(partial) > 10
        assert all(frame.offset is None for frame in partial)
        assert "".join(map(delta, seen)) == texts(seen)
        assert len(texts(seen).split()) == 60
        log = await stored(here.first, here.project_id)
        assert all(json.loads(line.data).get("type") != "stream_event" for line in log)
        assert lines(seen) == log
        other = await follow(here.two, lambda frame: frame.offset == len(log))
        assert lines(other) == log
        assert [line.offset for line in log] == list(range(1, len(log) + 1))


async def test_who_joins_in_the_middle_gets_the_text_so_far(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here, stage.server.client() as late:
        receipt = await here.first.execute(here.project_id, "demo:slow=2s")
        await follow(here.one, lambda frame: "00003" in delta(frame))
        async with late.subscribe(here.project_id) as stream:
            assert stream.joined is not None
            assert stream.joined.state == "EXECUTING"
            partial = stream.joined.partial
            assert partial is not None
            assert partial.text.startswith("00001 00002 00003")
            rest = await until(stream, "project_state", state="IDLE")
        assert partial.text + "".join(map(delta, rest)) == texts(rest)
        assert texts(rest).split() == [f"{number:05}" for number in range(1, 21)]
        await whole(here.two, receipt.execution_id)
        async with late.subscribe(here.project_id) as stream:
            assert stream.joined is not None
            assert stream.joined.partial is None


async def test_tools_run_in_the_project(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.allow(await here.ask("demo:tools"))
        log = await stored(here.first, here.project_id)
    assert "I used three tools in a row." in texts(seen)
    assert (folder / "demo-tools.txt").exists()
    used = [
        block["input"]["command"]
        for line in log
        if line.type == "agent_message" and json.loads(line.data)["type"] == "assistant"
        for block in json.loads(line.data)["message"]["content"]
        if block["type"] == "tool_use"
    ]
    assert used == ["pwd", "date > demo-tools.txt", "cat demo-tools.txt"]


async def test_the_next_prompt_continues_the_conversation_in_the_same_process(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        first = await here.run("demo:text remember the word sassafras")
        pids = {process.pid for process in here.server.agents()}
        second = await here.run("demo:text what was the word")
        assert {process.pid for process in here.server.agents()} == pids
    assert init_of(first)["session_id"] == init_of(second)["session_id"]
    assert init_of(first)["cwd"] == str(folder.resolve())
    assert any("sassafras" in json.dumps(body["messages"]) for body in stage.model.saw("what was the word"))


async def test_an_error_of_the_api_shows_and_the_next_prompt_runs(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.run("demo:error")
        assert one_said_by_cli(seen, "result")["is_error"] is True
        (error,) = [frame for frame in seen if frame.type == "error"]
        assert error.offset is not None
        assert error.data["code"] == "EXECUTION_FAILED"
        assert "The demo model was asked to refuse this request." in error.data["message"]
        assert state_after(seen) == "ERROR"
        kinds = entry_types(seen)
        assert kinds.index("error") == kinds.index("agent_message/result") + 1
        seen = await here.run("demo:text")
        assert state_after(seen) == "IDLE"
        assert "a plain answer" in texts(seen)


async def test_an_overload_that_clears_is_no_error(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.run("demo:overload")
    assert state_after(seen) == "IDLE"
    assert "The overload cleared" in texts(seen)
    assert [line["subtype"] for line in said_by_cli(seen, "system") if line["subtype"] == "api_retry"] == ["api_retry"]


@pytest.mark.parametrize("prompt", ["demo:awkward", "demo:huge=1MiB"])
async def test_what_the_cli_wrote_arrives_byte_for_byte(stage: Stage, folder: Path, prompt: str) -> None:
    async with scene(stage.server, folder) as here, stage.server.client() as late:
        live = await here.run(prompt)
        log = await stored(here.first, here.project_id)
        async with late.subscribe(here.project_id, since=0) as stream:
            replay = await follow(stream, lambda frame: frame.offset == len(log))
        other = await follow(here.two, lambda frame: frame.offset == len(log))
    assert lines(live) == log
    assert lines(other) == log
    assert lines(replay) == log
    # With the standard parser: half of a surrogate pair is JSON, and no text.
    said = [json.loads(line.data) for line in log if line.type == "agent_message"]
    (answer,) = [line["message"]["content"][0]["text"] for line in said if line["type"] == "assistant"]
    (result,) = [line["result"] for line in said if line["type"] == "result"]
    assert answer == result
    if prompt == "demo:awkward":
        assert answer == AWKWARD_TEXT
    else:
        assert len(answer) == 2**20


async def test_two_projects_run_at_the_same_time_and_do_not_mix(stage: Stage, tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
    async with scene(stage.server, tmp_path / "left") as left, scene(stage.server, tmp_path / "right") as right:
        one, other = await asyncio.gather(left.run("demo:lines=200"), right.run("demo:words=50"))
        logs = [await stored(here.first, here.project_id) for here in (left, right)]
    assert texts(one).count("\n") == 199
    assert len(texts(other).split()) == 50
    assert lines(one) == logs[0]
    assert lines(other) == logs[1]
