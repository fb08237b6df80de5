"""The real CLI against the scripted model, one test for each kind of scenario."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.harness import DEADLINE_SECONDS

from pocket_agent.demo.demo_process import child_environment
from pocket_agent.demo.scenario import AWKWARD_TEXT
from pocket_agent.demo.scripted_model import ScriptedModel

ARGUMENTS = (
    "-p",
    "--verbose",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
)
Line = dict[str, Any]
Decision = Callable[[Mapping[str, Any]], dict[str, object]]


def allow(_request: Mapping[str, Any]) -> dict[str, object]:
    return {"behavior": "allow"}


def deny(_request: Mapping[str, Any]) -> dict[str, object]:
    return {"behavior": "deny", "message": "not today"}


class Turn:
    """The lines of one turn, from the prompt to its result."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.result = lines[-1]

    @property
    def blocks(self) -> list[Line]:
        """The content blocks of the assistant's messages."""
        return [block for line in self.lines if line["type"] == "assistant" for block in line["message"]["content"]]

    @property
    def tools(self) -> list[str]:
        """The names of the tools that were used."""
        return [block["name"] for block in self.blocks if block["type"] == "tool_use"]

    @property
    def asked(self) -> list[str]:
        """The names of the tools that an approval was asked for."""
        return [line["request"]["tool_name"] for line in self.lines if line["type"] == "control_request"]

    def of(self, kind: str, subtype: str | None = None) -> list[Line]:
        """The lines of a type, and of a subtype if one is given."""
        return [line for line in self.lines if line["type"] == kind and subtype in {None, line.get("subtype")}]


class Agent:
    """A running CLI that is talked to through pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def write(self, line: Mapping[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        await self.process.stdin.drain()

    async def prompt(self, text: str, decide: Decision = allow) -> Turn:
        """Ask, answer each request for an approval with `decide`, and wait for the result."""
        await self.write({"type": "user", "message": {"role": "user", "content": text}})
        lines: list[Line] = []
        while not lines or lines[-1]["type"] != "result":
            line = await self.line()
            lines.append(line)
            if line["type"] == "control_request":
                response = {"subtype": "success", "request_id": line["request_id"], "response": decide(line["request"])}
                await self.write({"type": "control_response", "response": response})
        return Turn(lines)

    async def line(self) -> Line:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            raw = await self.process.stdout.readline()
        assert raw, f"the CLI ended with {self.process.returncode}"
        line: Line = json.loads(raw)
        return line

    async def end(self) -> None:
        assert self.process.stdin is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


def find_claude() -> str:
    """The CLI to test with; tests that need one are skipped without it, but fail in CI."""
    local = Path(__file__).parents[2] / "node_modules" / ".bin" / "claude"
    found = os.environ.get("PA_TEST_CLAUDE") or shutil.which("claude") or (str(local) if local.exists() else "")
    if not found and os.environ.get("CI") == "true":
        pytest.fail("real claude CLI: not found, and CI must not skip these tests")
    if not found:
        pytest.skip("real claude CLI: not found (PATH, PA_TEST_CLAUDE, node_modules)")
    return found


@pytest.fixture
async def agent(model: ScriptedModel, tmp_path: Path) -> AsyncIterator[Agent]:
    """The CLI in a project directory of its own, with nothing but the scripted model to talk to."""
    claude = find_claude()
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        *(claude, *ARGUMENTS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=project,
        env=environment | child_environment(await model.start(), home),
        limit=2**25,
        start_new_session=True,
    )
    running = Agent(process)
    yield running
    await running.end()


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / "project").iterdir() if path.is_file()}


async def test_texts(agent: Agent, model: ScriptedModel) -> None:
    greeting = await agent.prompt("Hello, who are you?")
    assert not greeting.result["is_error"]
    assert "Hello, who are you?" in greeting.result["result"]
    assert greeting.result["usage"]["output_tokens"] > 0
    assert greeting.result["usage"]["cache_read_input_tokens"] > 0
    assert greeting.result["total_cost_usd"] > 0
    words = await agent.prompt("demo:words=300")
    assert len(words.result["result"].split()) == 300
    assert len(words.of("stream_event")) > 20
    lines = await agent.prompt("demo:lines=500")
    assert lines.result["result"].count("\n") == 499
    blocks = await agent.prompt("demo:blocks=12")
    assert len(blocks.of("assistant")) == 12
    assert [record.scenario for record in model.requests] == ["greeting", "words", "lines", "blocks"]


async def test_a_command_that_is_allowed_edited_or_denied(agent: Agent, tmp_path: Path) -> None:
    def edited(request: Mapping[str, Any]) -> dict[str, object]:
        return {"behavior": "allow", "updatedInput": {**request["input"], "command": "echo other > other.txt"}}

    default = await agent.prompt("demo:bash")
    assert (default.asked, default.result["is_error"]) == (["Bash"], False)
    assert files(tmp_path) == {"demo.txt": "Hello from the demo model\n"}
    chosen = await agent.prompt("please demo:bash=echo mine > mine.txt", edited)
    assert chosen.asked == ["Bash"]
    assert files(tmp_path)["other.txt"] == "other\n"
    denied = await agent.prompt("demo:bash=rm demo.txt", deny)
    assert denied.result["result"] == "The tool was refused or failed, so I stop here: not today"
    assert not denied.result["is_error"]
    assert set(files(tmp_path)) == {"demo.txt", "other.txt"}


async def test_a_file_is_written_read_and_edited(agent: Agent, tmp_path: Path) -> None:
    turn = await agent.prompt("demo:edit")
    assert turn.tools == ["Write", "Read", "Edit"]
    assert turn.asked == ["Write", "Edit"]
    (text,) = files(tmp_path).values()
    assert "wrote and edited this" in text
    assert "edited it" in turn.result["result"]
    denied = await agent.prompt("demo:edit", deny)
    assert denied.tools == ["Write"]
    assert "not today" in denied.result["result"]
    assert len(files(tmp_path)) == 1


async def test_tools_in_a_row_and_at_once(agent: Agent, tmp_path: Path) -> None:
    row = await agent.prompt("demo:tools")
    assert (row.tools, row.asked) == (["Bash", "Bash", "Bash"], ["Bash"])
    loop = await agent.prompt("demo:loop=6")
    assert (loop.tools, loop.asked) == (["Bash"] * 6, [])
    assert "step 6 of 6" in loop.result["result"]
    parallel = await agent.prompt("demo:parallel=3")
    assert (parallel.tools, parallel.asked) == (["Bash"] * 3, ["Bash"] * 3)
    assert len({line["message"]["id"] for line in parallel.of("assistant")[:3]}) == 1
    assert {f"demo-parallel-{number}.txt" for number in (1, 2, 3)} <= set(files(tmp_path))


async def test_a_todo_list(agent: Agent) -> None:
    turn = await agent.prompt("demo:todo")
    assert turn.tools == ["ToolSearch", "TodoWrite", "TodoWrite", "TodoWrite"]
    assert turn.result["result"].startswith("The todo list is done.")


async def test_thinking(agent: Agent) -> None:
    turn = await agent.prompt("demo:think")
    assert [block["type"] for block in turn.blocks] == ["thinking", "text"]
    assert turn.result["result"] == "I thought about it."


async def test_an_error_of_the_api_and_the_prompt_after_it(agent: Agent) -> None:
    refused = await agent.prompt("demo:error")
    assert refused.result["is_error"]
    assert "asked to refuse" in refused.result["result"]
    after = await agent.prompt("Are you back?")
    assert not after.result["is_error"]
    assert "Are you back?" in after.result["result"]


async def test_an_overload_that_clears(agent: Agent) -> None:
    turn = await agent.prompt("demo:overload=1")
    (retry,) = turn.of("system", "api_retry")
    assert retry["error_status"] == 529
    assert turn.result["result"] == "The overload cleared after 1 failed tries."
    assert not turn.result["is_error"]


async def test_a_slow_answer_is_interrupted_and_the_next_prompt_is_answered(agent: Agent) -> None:
    await agent.write({"type": "user", "message": {"role": "user", "content": "demo:slow=20m"}})
    while (line := await agent.line())["type"] != "stream_event" or "delta" not in line["event"]:
        continue
    await agent.write({"type": "control_request", "request_id": "1", "request": {"subtype": "interrupt"}})
    while (line := await agent.line())["type"] != "result":
        continue
    assert line["subtype"] == "error_during_execution"
    slow = await agent.prompt("demo:slow=200ms")
    assert slow.result["result"] == "00001 00002"


async def test_a_huge_answer(agent: Agent) -> None:
    turn = await agent.prompt("demo:huge=1MiB")
    assert len(turn.result["result"]) == 2**20


async def test_every_awkward_character_comes_through(agent: Agent) -> None:
    turn = await agent.prompt("demo:awkward")
    assert turn.result["result"] == AWKWARD_TEXT
    again = await agent.prompt("demo:text")
    assert not again.result["is_error"], "the awkward text is part of the conversation now"


async def test_a_conversation_that_is_compacted_goes_on(agent: Agent, model: ScriptedModel) -> None:
    await agent.prompt("demo:lines=50")
    compacted = await agent.prompt("/compact")
    assert compacted.of("system", "compact_boundary")
    after = await agent.prompt("demo:words=5")
    assert after.result["result"] == "the demo model writes one"
    assert [record.scenario for record in model.requests] == ["lines", "side", "words"]
