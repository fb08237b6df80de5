"""What a newcomer does first: a project, a prompt, an approval, a kill, a restart."""

import asyncio
from pathlib import Path

from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess

from pocket_agent.client import Frame, Subscription


async def until(stream: Subscription, kind: str, **data: object) -> list[Frame]:
    """The frames up to one of this type whose data has these values, which is the last."""
    frames: list[Frame] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for frame in stream:
            frames.append(frame)
            if frame.type == kind and all(frame.data.get(name) == value for name, value in data.items()):
                return frames
    raise AssertionError("the stream ended")


async def test_prompt_approval_and_a_second_client(demo_server: ServerProcess, folder: Path) -> None:
    async with demo_server.client() as first, demo_server.client() as second:
        project = await first.create_project(str(folder))
        async with first.subscribe(project.id) as one, second.subscribe(project.id) as two:
            await until(one, "project_joined")
            receipt = await first.execute(project.id, "demo:bash")
            assert receipt.status == "started"
            asked = (await until(two, "approval_requested"))[-1]
            await second.approve(project.id, asked.data["approval_id"])
            seen = await until(one, "project_state", state="IDLE")
    entries = [frame for frame in seen if frame.offset is not None]
    assert [frame.offset for frame in entries] == list(range(1, len(entries) + 1))
    assert entries[0].type == "prompt"
    assert [frame.type for frame in entries if frame.type.startswith("approval")] == [
        "approval_requested",
        "approval_resolved",
    ]
    # The CLI says behind the result that it is done with the prompt; that may come now or later.
    assert "result" in [entry.data.get("type") for entry in entries[-2:]]
