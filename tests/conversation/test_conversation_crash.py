"""A server that dies at an exact point of an execution; the next one carries out what was promised."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.client import Client
from pocket_agent.conversation.agent import Agent
from pocket_agent.conversation.runner import Runner
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import ApprovalRequested, ExecutionFinished, ProcessSpawned
from pocket_agent.model import ConversationId, ExecuteOptions, ExecutionStatus, StopRequest
from tests.server.room import Room, open_room, until


async def nothing(*_: object, **__: object) -> None:
    """What a server does that has died before it."""


def said(messages: Any, word: bytes) -> int:
    """In how many lines of the agent the word is."""
    lines = [bytes(message.message) for message in messages.messages if message.type == "agent_message"]
    return sum(b'"assistant"' in line and word in line for line in lines)


async def ended(room: Room, client: Client, project_id: ConversationId, word: bytes) -> tuple[str, int]:
    """How the execution ended, and how often it ran."""
    await until(lambda: bool(room.seen.of(ExecutionFinished)))
    (finished,) = room.seen.of(ExecutionFinished)
    return finished.status, said(await client.messages(project_id, limit=1000), word)


@pytest.mark.parametrize("lost", ["send_prompt", "_note_written"])
@pytest.mark.parametrize("process", ["warm", "stopped", "starting"])
async def test_a_stored_prompt_reaches_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, process: str
) -> None:
    """The server dies after the commit of `starting`: before the prompt is written, or before that is stored."""
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        if process != "starting":
            await client.execute(project_id, "lines 1")
            await room.eventually(ExecutionFinished)
            if process == "stopped":
                os.kill(room.seen.of(ProcessSpawned)[0].pid, signal.SIGSTOP)
        else:
            room.observe(_Stopper())
        with monkeypatch.context() as patch:
            patch.setattr(Runner, lost, nothing)
            await client.execute(project_id, "once-only")
            pid = room.seen.of(ProcessSpawned)[0].pid
            # What the CLI does not read now is still there for the next server.
            if process == "warm" and lost == "_note_written":
                await until(lambda: session.state.current is None)
                return
    try:
        async with open_room(tmp_path) as room, room.client() as client:
            os.kill(pid, signal.SIGCONT)
            assert await ended(room, client, project_id, b"once-only") == ("success", 1)
            assert not room.seen.of(ProcessSpawned)
    finally:
        os.kill(pid, signal.SIGCONT)


class _Stopper:
    """Stops each process as soon as it is started, like a machine that is too busy to run it."""

    def emit(self, event: Any) -> None:
        """Stop it."""
        if isinstance(event, ProcessSpawned):
            os.kill(event.pid, signal.SIGSTOP)


@pytest.mark.parametrize("process", ["runs", "gone"])
@pytest.mark.parametrize("stop", StopRequest)
async def test_a_promised_stop_is_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: StopRequest, process: str
) -> None:
    """Also when the agent and its output are gone by the next start."""
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        await client.execute(project_id, "behind")
        await until(lambda: bool(session.state.approvals))
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "end", nothing)
            patch.setattr(Agent, "send", lambda *_: None)
            act = client.kill if stop is StopRequest.KILL else client.interrupt
            await act(project_id, hold_queue=True)
    if process == "gone":
        os.kill(room.seen.of(ProcessSpawned)[0].pid, signal.SIGKILL)
        shutil.rmtree(room.settings.data.dir / "spool")
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        await until(lambda: session.state.current is None)
        (finished,) = room.seen.of(ExecutionFinished)
        assert finished.status is ExecutionStatus.KILLED
        kinds = [message.type for message in (await client.messages(project_id)).messages]
        assert kinds.count("process_killed") == (stop is StopRequest.KILL)
        assert "error" not in kinds
        assert [waiting.prompt for waiting in session.state.queue] == ["behind"]
        await client.resume_queue(project_id)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("prompt", ["idle", "lost", "ask Bash"])
async def test_a_fifo_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, *, found: bool
) -> None:
    """Where the process's own input cannot be found, another process goes on with the conversation."""
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "lines 1")
        await room.eventually(ExecutionFinished)
        with monkeypatch.context() as patch:
            if prompt == "lost":
                patch.setattr(Runner, "send_prompt", nothing)
            if prompt != "idle":
                await client.execute(project_id, prompt)
            if prompt == "ask Bash":
                await until(lambda: bool(session.state.approvals))
            monkeypatch.setattr(room.projects, "close_idle", nothing)
            for fifo in (room.settings.data.dir / "spool").glob("*.in"):
                fifo.unlink()
    if not found:
        monkeypatch.setattr("pocket_agent.claude.spool.sys.platform", "elsewhere")
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        if prompt == "ask Bash":
            # Another process asks anew, after the question of the first.
            await until(lambda: bool(session.state.approvals) and (found or bool(room.seen.of(ApprovalRequested))))
            await client.approve(project_id, list(session.state.approvals)[-1])
        if prompt != "idle":
            finished = await room.eventually(ExecutionFinished)
            assert finished.status is ExecutionStatus.SUCCESS
        await client.execute(project_id, "next-one")
        await until(lambda: session.state.current is None and not session.state.queue)
        page = await client.messages(project_id, limit=1000)
        assert said(page, b"next-one") == 1
        assert said(page, b"lost") == (prompt == "lost")


def record_settings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Records the models and permission modes that the server requests of processes from now on."""
    requested: list[tuple[str, str | None]] = []
    send = Agent.send

    def recorded(agent: Agent, line: bytes) -> Any:
        request = json.loads(line.splitlines()[0]).get("request", {})
        if request.get("subtype") in {"set_model", "set_permission_mode"}:
            requested.append((request["subtype"], request.get("model", request.get("mode"))))
        return send(agent, line)

    monkeypatch.setattr(Agent, "send", recorded)
    return requested


@pytest.mark.parametrize("start", ["cold", "warm"])
async def test_the_options_of_a_prompt_do_not_outlast_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """An adopted process still has the model and the permission mode of its last prompt."""
    requested = record_settings(monkeypatch)
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        if start == "warm":
            await client.execute(project_id, "lines 1")
            await until(lambda: session.state.current is None)
        options = ExecuteOptions(model="opus", permission_mode="acceptEdits")
        await client.execute(project_id, "lines 1", options=options)
        await until(lambda: session.state.current is None)
        monkeypatch.setattr(room.projects, "close_idle", nothing)
    requested.clear()
    async with open_room(tmp_path) as room, room.client() as client:
        for count in (1, 2):
            await client.execute(project_id, "lines 1")
            await until(partial(lambda count: len(room.seen.of(ExecutionFinished)) == count, count))
        assert requested == [("set_model", None), ("set_permission_mode", "default")]
        assert not room.seen.of(ProcessSpawned)


async def test_a_model_that_a_stopped_process_may_take_later_is_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocket_agent.conversation.runner._CONTROL_SECONDS", 0.1)
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "lines 1")
        await room.eventually(ExecutionFinished)
        pid = room.seen.of(ProcessSpawned)[0].pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PocketAgentError, match="does not answer"):
            await client.set_model(project_id, "opus")
        os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()
        requested = record_settings(monkeypatch)
        await client.execute(project_id, "lines 1")
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
        assert requested == [("set_model", None)]
        assert len(room.seen.of(ProcessSpawned)) == 1


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(os.devnull)])
async def test_another_file_in_the_place_of_a_fifo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        await until(lambda: bool(session.state.approvals))
        monkeypatch.setattr(room.projects, "close_idle", nothing)
        for fifo in (room.settings.data.dir / "spool").glob("*.in"):
            fifo.unlink()
            make(fifo)
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        await client.approve(project_id, next(iter(session.state.approvals)))
        assert (await room.eventually(ExecutionFinished)).status is ExecutionStatus.SUCCESS
        assert not room.seen.of(ProcessSpawned)


async def test_a_prompt_that_was_written_by_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CLI ends at the half line, and another process takes the prompt."""
    long = "once-only " + "x" * 3_000_000
    async with open_room(tmp_path, agents_stay=True, limits__message_size="8MiB") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        room.observe(_Stopper())
        await client.execute(project_id, long)
        pid = room.seen.of(ProcessSpawned)[0].pid
        assert session.state.current is not None
        assert session.state.current.status is ExecutionStatus.STARTING
    async with open_room(tmp_path, limits__message_size="8MiB") as room, room.client() as client:
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(PocketAgentError):
            await client.kill(project_id, execution_id="another")
        assert await ended(room, client, project_id, b"once-only") == ("success", 1)


@pytest.mark.parametrize(("line", "lost"), [("init", ""), ("task_started", ""), ("init", "interrupt")])
async def test_an_interrupt_of_work_without_a_prompt_is_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, lost: str
) -> None:
    """The server dies before it interrupts for a prompt, or before the grace period of an agent that ignores it."""
    started = {"type": "system", "subtype": line, "task_id": "t-1", "task_type": "local_agent"}
    printed = json.dumps(started, separators=(",", ":"))
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, f"lines 1 after print {printed} stubborn sleep 600")
        await until(lambda: session.state.works_alone)
        if not lost:
            await client.interrupt(project_id)
        else:
            monkeypatch.setattr(session.loops, lost, nothing)
            await client.execute(project_id, "instead", when="interrupt")
    async with open_room(tmp_path, claude__interrupt_grace="100ms", claude__terminate_grace="100ms") as room:
        session = room.projects.get(project_id)
        await until(lambda: not session.state.is_busy and not session.state.queue)
