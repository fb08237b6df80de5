"""pocket_agent.conversation.runner: what becomes of a prompt whose process ends."""

import sys
from pathlib import Path

import pytest

from pocket_agent.events import ExecutionFinished, ProcessSpawned
from pocket_agent.model import ExecutionStatus
from tests.harness.server import write_standin
from tests.server.room import open_room

_SHY = f"""#!{sys.executable} -S
import json, sys
if "--version" in sys.argv:
    sys.exit(print("9.9.9"))
asked = []
for line in filter(str.strip, sys.stdin):
    message = json.loads(line)
    if message["type"] == "control_request":
        asked.append(message["request_id"])
        continue
    for request_id in asked:
        answer = {{"subtype": "success", "request_id": request_id, "response": {{}}}}
        print(json.dumps({{"type": "control_response", "response": answer}}), flush=True)
    sys.exit(3)
"""


async def executed(folder: Path, prompt: str, binary: Path | None = None) -> int:
    """Give a prompt that fails; returns how many processes were started for it."""
    program = binary if binary is not None else write_standin(folder)
    async with open_room(folder, claude__binary=program) as room, room.client() as client:
        session = await room.project()
        await client.execute(session.state.record.id, prompt)
        finished = await room.eventually(ExecutionFinished)
        assert (finished.status, finished.code) == (ExecutionStatus.ERROR, "EXECUTION_FAILED")
        assert len(room.seen.of(ExecutionFinished)) == 1
        return len(room.seen.of(ProcessSpawned))


async def test_a_prompt_about_which_nothing_was_said_goes_to_another_process(tmp_path: Path) -> None:
    """What a process answers to the server itself is no word about the prompt."""
    shy = tmp_path / "shy"
    shy.write_text(_SHY)
    shy.chmod(0o700)
    assert await executed(tmp_path, "anything", shy) == 2


@pytest.mark.parametrize("prompt", ["exit 3", "lines 1 exit 3", "crash"])
async def test_a_prompt_that_was_taken_is_not_given_again(tmp_path: Path, prompt: str) -> None:
    assert await executed(tmp_path, prompt) == 1
