"""An agent that does not read its input: no request waits for it, and it can be ended."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.events import ExecutionFinished, ProcessSpawned
from pocket_agent.model import ExecutionStatus
from tests.server.room import open_room, until

_LONG = "word " + "x" * 4_000_000
_READS_SOME = f"""#!{sys.executable} -S
import os, sys, time
if "--version" in sys.argv:
    sys.exit(print("9.9.9"))
left = 1_500_000
while left > 0:
    left -= len(os.read(0, 65536))
os.write(2, b"enough")
time.sleep(600)
"""


class Stopper:
    """Stops each process as soon as it is started."""

    def emit(self, event: Any) -> None:
        """Stop it."""
        if isinstance(event, ProcessSpawned):
            os.kill(event.pid, signal.SIGSTOP)


@pytest.mark.parametrize("reads", ["nothing", "some"])
@pytest.mark.parametrize("act", ["kill", "interrupt"])
async def test_a_long_prompt_that_is_not_read_can_be_stopped(tmp_path: Path, reads: str, act: str) -> None:
    changed: dict[str, Any] = {"limits__message_size": "8MiB", "claude__interrupt_grace": "1ms"}
    program = tmp_path / "some"
    program.write_text(_READS_SOME)
    program.chmod(0o700)
    if reads == "some":
        changed["claude__binary"] = program
    async with open_room(tmp_path, **changed) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        if reads == "nothing":
            room.observe(Stopper())
        receipt = await client.execute(project_id, _LONG)
        if reads == "some":
            await until(lambda: session._agent.error_output() == "enough")
        current = session.state.current
        assert current is not None
        assert (receipt.status, current.status) == ("started", ExecutionStatus.STARTING)
        queued = await client.execute(project_id, "behind")
        await client.cancel_prompt(project_id, queued.execution_id)
        await (client.kill if act == "kill" else client.interrupt)(project_id)
        assert (await room.eventually(ExecutionFinished)).status is ExecutionStatus.KILLED
        assert not room.projects.capacity.executing


async def test_a_long_prompt_is_noted_as_written_once_it_is_read(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__message_size="8MiB") as room, room.client() as client:
        session = await room.project()
        room.observe(Stopper())
        await client.execute(session.state.record.id, "ask Bash " + _LONG)
        os.kill(room.seen.of(ProcessSpawned)[0].pid, signal.SIGCONT)
        await until(lambda: bool(session.state.approvals))
        assert session.state.current is not None
        assert session.state.current.status is ExecutionStatus.RUNNING


_HOOK = """#!/bin/sh
if [ "$1" != --version ]; then
    echo '{{"type":"system","subtype":"hook_started"}}'
    while [ ! -e {gate} ]; do sleep 0.02; done
fi
exec {program} "$@"
"""


@pytest.mark.parametrize("reported", ["nothing", "hook"])
async def test_a_choice_while_the_agent_is_still_starting(tmp_path: Path, reported: str) -> None:
    """It is neither refused nor waited for, also while a hook for the start runs."""
    gate, hook = tmp_path / "gate", tmp_path / "hook"
    hook.write_text(_HOOK.format(gate=gate, program=tmp_path / "claude"))
    hook.chmod(0o700)
    changed: dict[str, Any] = {"claude__binary": hook} if reported == "hook" else {}
    async with open_room(tmp_path, **changed) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        if reported == "nothing":
            room.observe(Stopper())
        await client.execute(project_id, "ask Bash")
        await until(lambda: bool(session._agent.spool_size) == (reported == "hook"))
        await client.set_model(project_id, "opus")
        await client.set_permission_mode(project_id, "plan")
        assert (session.state.record.model, session.state.work.requested_model) == ("opus", "opus")
        assert session.state.current is not None
        os.kill(room.seen.of(ProcessSpawned)[0].pid, signal.SIGCONT)
        gate.touch()
        await until(lambda: bool(session.state.approvals))
        await client.approve(project_id, next(iter(session.state.approvals)))
        await room.eventually(ExecutionFinished)
        # The process has taken both, so the next prompt needs no other one.
        await client.execute(project_id, "next")
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
        assert len(room.seen.of(ProcessSpawned)) == 1
