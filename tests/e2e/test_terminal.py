"""The real CLI in a terminal next to the server: its sessions on every client, and its permission requests."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, until
from tests.harness.recorder import RecordingModel, said
from tests.harness.scene import whole
from tests.harness.server import ServerProcess, running_server
from tests.harness.terminal import Terminal, in_terminal, prepare_home

from pocket_agent.cli.hook import install_hook, remove_hook
from pocket_agent.client import Client, Frame
from pocket_agent.demo.demo_process import child_environment
from pocket_agent.errors import ApprovalNotFoundError, ProcessActiveError
from pocket_agent.model import ExecutionStatus
from pocket_agent.settings import load_settings


@dataclass
class Desk:
    """A server, a client of it that watches a project, and the CLI of its user."""

    server: ServerProcess
    model: RecordingModel
    home: Path
    folder: Path
    environment: Mapping[str, str]
    client: Client
    project_id: str
    pushed: list[Frame] = field(default_factory=list)

    def terminal(self, *flags: str, folder: Path | None = None) -> contextlib.AbstractAsyncContextManager[Terminal]:
        """The CLI in a terminal."""
        argv = [str(require_claude()), *(flags or ("--permission-mode=default",))]
        return in_terminal(argv, folder or self.folder, self.home, self.environment)

    async def until(self, kind: str, found: Callable[[Any], bool] = lambda _: True) -> Frame:
        """The next push of this kind, whose data fits; it is taken away."""

        def fitting() -> list[Frame]:
            return [frame for frame in self.pushed if frame.type == kind and found(frame.data)]

        await eventually(lambda: bool(fitting()), f"{kind} is pushed")
        frame = fitting()[0]
        self.pushed.remove(frame)
        return frame


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """The server with its hooks installed, and the CLI, both with the same home and the scripted model."""
    home, folder = tmp_path / "user", tmp_path / "project"
    folder.mkdir()
    prepare_home(home, folder, tmp_path / "other")
    model = RecordingModel()
    environment = child_environment(await model.start(), home)
    try:
        async with running_server(
            tmp_path / "server", env={"PA_CLAUDE_BINARY": str(require_claude()), **environment}
        ) as server:
            loaded = load_settings(config=None, environ={}, flags={"data.dir": server.data_dir})
            install_hook(loaded, environment)
            pushed: list[Frame] = []
            async with server.client(on_push=pushed.append) as client:
                project_id = (await client.create_project(str(folder))).id
                await client.watch()
                yield Desk(server, model, home, folder, environment, client, project_id, pushed)
    finally:
        await model.stop()


async def test_a_session_of_a_terminal_is_followed_continued_and_handed_back(desk: Desk) -> None:
    assert await desk.client.sessions(desk.project_id, watch=True) == []
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:text a quince")
        begun = await desk.until("sessions_changed", lambda data: any(one["active"] for one in data["sessions"]))
        session_id = terminal.session_id
        (listed,) = begun.data["sessions"]
        assert (listed["session_id"], listed["origin"], listed["turns"]) == (session_id, "terminal", 1)
        await eventually(lambda: terminal.status == "idle", "the turn ends")
        page = await desk.client.session_history(desk.project_id, session_id)
        told = [(one.type, json.loads(bytes(one.message))) for one in page.messages]
        assert told[0] == ("prompt", {**told[0][1], "prompt": "demo:text a quince", "by": "terminal"})
        assert any(kind == "agent_message" and data["type"] == "assistant" for kind, data in told)
        await desk.client.follow_session(desk.project_id, session_id, epoch=page.epoch, after=page.end)
        await terminal.prompt("demo:text a medlar")
        prompts = await desk.until("session_lines", lambda data: "a medlar" in json.dumps(data["messages"]))
        assert prompts.data["active"]
        with pytest.raises(ProcessActiveError, match="terminal"):
            await desk.client.resume(desk.project_id, session_id)
        await eventually(lambda: terminal.status == "idle", "the turn ends")
        terminal.type("/exit")
        await terminal.shows("/exit")
        terminal.type("\r")
        await desk.until("session_lines", lambda data: not data["active"])
    async with desk.client.subscribe(desk.project_id, since=0) as stream:
        await desk.client.resume(desk.project_id, session_id)
        receipt = await desk.client.execute(desk.project_id, "demo:text a rowan")
        await whole(stream, receipt.execution_id)
    (body,) = desk.model.saw("a rowan")
    assert "a quince" in said(body)
    assert "a medlar" in said(body)
    released = await desk.client.release_session(desk.project_id)
    assert released.resume_command == f"cd {desk.folder} && claude --resume={session_id}"
    async with desk.terminal(f"--resume={session_id}") as terminal:
        await terminal.prompt("demo:text a sloe")
        await eventually(lambda: bool(desk.model.saw("a sloe")), "the model is asked")
    assert "a rowan" in said(desk.model.saw("a sloe")[0])


async def test_turns_of_a_terminal_are_in_the_conversation_afterwards_also_after_kills(desk: Desk) -> None:
    async with desk.client.subscribe(desk.project_id, since=0) as stream:
        receipt = await desk.client.execute(desk.project_id, "demo:text a rowan")
        await whole(stream, receipt.execution_id)
        session_id = (await desk.client.release_session(desk.project_id)).session_id
        async with desk.terminal(f"--resume={session_id}") as terminal:
            await terminal.prompt("demo:text a sloe")
            await until(stream, "prompt", by="terminal")  # a client that watches sees it at once
            await desk.server.kill()
            await terminal.prompt("demo:text a bullace")
            await eventually(lambda: terminal.answers == 2, "the CLI keeps both answers")
    for _ in range(2):
        await desk.server.start()
        receipt = await desk.client.execute(desk.project_id, "demo:text a damson", prompt_id="damson")

        async def is_over() -> bool:
            (last, *_) = (await desk.client.executions(desk.project_id)).executions
            return last.status is ExecutionStatus.SUCCESS

        await eventually(is_over, "the next prompt is over")
        await desk.server.kill()
    await desk.server.start()
    page = await desk.client.messages(desk.project_id, limit=1000)
    entries = [(one.type, json.loads(bytes(one.message))) for one in page.messages]
    prompts = [(data["by"], data["prompt"].removeprefix("demo:text ")) for kind, data in entries if kind == "prompt"]
    assert prompts == [("test", "a rowan"), ("terminal", "a sloe"), ("terminal", "a bullace"), ("test", "a damson")]
    assert sum(kind == "agent_message" and data["type"] == "assistant" for kind, data in entries) == 4
    (body,) = desk.model.saw("a damson")
    assert all(word in said(body) for word in ("a rowan", "a sloe", "a bullace"))


async def test_a_client_allows_what_a_terminal_asks(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:bash=touch allowed.txt")
        asked = (await desk.until("approval_requested")).data
        assert (asked["tool_name"], asked["input"]["command"]) == ("Bash", "touch allowed.txt")
        assert asked["terminal"] == {"session_id": terminal.session_id, "directory": str(desk.folder)}
        (waiting,) = (await desk.client.watch()).approvals
        assert waiting.approval.approval_id == asked["approval_id"]
        await eventually(lambda: terminal.status == "waiting", "the CLI shows its dialog")
        resolved = await desk.client.approve(desk.project_id, asked["approval_id"])
        assert resolved.by == "test"
        await eventually((desk.folder / "allowed.txt").exists, "the command runs")
        with pytest.raises(ApprovalNotFoundError, match="allow by test"):
            await desk.client.deny(desk.project_id, asked["approval_id"])
        assert (await desk.client.watch()).approvals == []
    audited = [json.loads(line) for line in (desk.server.data_dir / "audit.log").read_text().splitlines()]
    answers = [one for one in audited if one.get("action") == "approval_respond"]
    assert [(one["outcome"], one["details"]["behavior"]) for one in answers][:1] == [("ok", "allow")]


async def test_a_client_denies_with_a_reason(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:bash=touch denied.txt")
        asked = (await desk.until("approval_requested")).data
        await desk.client.deny(desk.project_id, asked["approval_id"], "not on a Monday")
        await eventually(lambda: bool(desk.model.saw("not on a Monday")), "the model gets the reason")
    assert not (desk.folder / "denied.txt").exists()


async def test_an_answer_in_the_terminal_withdraws_the_approval(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        # The command runs for long: the CLI writes nothing about it before it ends.
        await terminal.prompt("demo:bash=touch local.txt; sleep 600")
        asked = (await desk.until("approval_requested")).data
        await terminal.accept()
        cancelled = (await desk.until("approval_cancelled")).data
        assert cancelled["approval_id"] == asked["approval_id"]
        await eventually((desk.folder / "local.txt").exists, "the command runs")
        with pytest.raises(ApprovalNotFoundError, match="withdrew"):
            await desk.client.approve(desk.project_id, asked["approval_id"])


async def test_the_end_of_the_terminal_withdraws_the_approval(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:bash=touch x.txt")
        await desk.until("approval_requested")
        await eventually(lambda: terminal.status == "waiting", "the CLI waits")
    await desk.until("approval_cancelled")


async def test_two_sessions_ask_at_once(desk: Desk) -> None:
    async with desk.terminal() as first, desk.terminal() as second:
        await asyncio.gather(first.prompt("demo:bash=touch one.txt"), second.prompt("demo:bash=touch two.txt"))
        asked = {
            frame.data["terminal"]["session_id"]: frame.data
            for frame in [await desk.until("approval_requested"), await desk.until("approval_requested")]
        }
        assert set(asked) == {first.session_id, second.session_id}
        await desk.client.approve(desk.project_id, asked[second.session_id]["approval_id"])
        await eventually((desk.folder / "two.txt").exists, "the command of the second runs")
        assert first.status == "waiting"
        await desk.client.approve(desk.project_id, asked[first.session_id]["approval_id"])
        await eventually((desk.folder / "one.txt").exists, "the command of the first runs")


async def test_a_server_that_is_killed_leaves_the_dialog(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:bash=touch after.txt")
        await desk.until("approval_requested")
        await eventually(lambda: terminal.status == "waiting", "the CLI shows its dialog")
        await desk.server.kill()
        await terminal.accept()
        await eventually((desk.folder / "after.txt").exists, "the command runs")
        await terminal.prompt("demo:bash=touch absent.txt")  # no server is there at all
        await terminal.accept()
        await eventually((desk.folder / "absent.txt").exists, "the command runs")
        await desk.server.start()
        await terminal.prompt("demo:bash=touch again.txt")
        async with desk.server.client() as client:

            async def waits() -> bool:
                return bool((await client.watch()).approvals)

            await eventually(waits, "the next server is asked")
            (waiting,) = (await client.watch()).approvals
            await client.approve(desk.project_id, waiting.approval.approval_id)
        await eventually((desk.folder / "again.txt").exists, "the command runs")


async def test_a_directory_that_is_no_project_is_not_shown(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with desk.terminal(folder=other) as terminal:
        await terminal.prompt("demo:bash=touch mine.txt")
        await terminal.accept()
        await eventually((other / "mine.txt").exists, "the command runs")
    assert [frame for frame in desk.pushed if frame.type == "approval_requested"] == []


async def test_removal_restores_the_settings(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path = desk.home / ".claude" / "settings.json"
    remove_hook(desk.environment)
    assert not path.exists()
    mark = desk.folder / "stopped"
    before = f'{{\n  "hooks" : {{"Stop":[ {{"hooks":[{{"type":"command","command":"touch {mark}"}}]}} ] }}}}\r\n'
    path.write_bytes(before.encode())
    loaded = load_settings(config=None, environ={}, flags={"data.dir": desk.server.data_dir})
    install_hook(loaded, desk.environment)
    async with desk.terminal() as terminal:
        await terminal.prompt("demo:bash=touch allowed.txt")
        asked = (await desk.until("approval_requested")).data
        await desk.client.approve(desk.project_id, asked["approval_id"])
        await eventually(mark.exists, "the user's own hook runs")
    remove_hook(desk.environment)
    assert path.read_bytes() == before.encode()
    assert os.fspath(path) in capsys.readouterr().out
