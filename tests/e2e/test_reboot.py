"""A restart of the machine or of a container whose PID 1 is the server, with the real CLI: its process is gone."""

from functools import partial
from pathlib import Path

import pytest
from tests.harness.follow import eventually, until
from tests.harness.recorder import said
from tests.harness.scene import Scene, Stage, own_stage, scene

from pocket_agent.storage import connection_beside
from pocket_agent.storage.database import database_path


async def reboot(stage: Stage, *, boot: str | None) -> None:
    """Kill the server and its agents, and start it again.

    In a container whose PID 1 was the server the boot of the machine is the same (`boot` is None).
    """
    server = stage.server
    await server.kill()
    for agent in server.agents():
        agent.kill()
    if boot is not None:
        with connection_beside(database_path(server.data_dir)) as connection, connection:
            connection.execute("UPDATE process SET boot_id = ?", (boot,))
            connection.execute("UPDATE meta SET value = ? WHERE key = 'boot_id'", (boot,))
    await server.start()


async def statuses(here: Scene) -> list[str]:
    """The status of each execution, oldest first."""
    page = await here.second.executions(here.project_id)
    return [str(found.status) for found in reversed(page.executions)]


async def become(here: Scene, *wanted: str) -> None:
    """Wait until the executions have these statuses."""

    async def is_so() -> bool:
        return await statuses(here) == list(wanted)

    await eventually(is_so, f"{wanted}")


def is_stored(folder: Path, message_id: str) -> bool:
    """Whether a transcript of the CLI below a folder has a message."""
    return any(message_id in path.read_text() for path in folder.glob("*/.claude/projects/*/*.jsonl"))


@pytest.mark.parametrize("boot", ["another", None], ids=["machine", "container"])
async def test_what_follows_a_reboot_is_a_setting(tmp_path: Path, boot: str | None) -> None:
    async with own_stage(tmp_path) as stage:
        for setting in ("ask", "always", "never"):
            stage.server.env["PA_EXECUTIONS_RESUME_INTERRUPTED"] = setting
            (tmp_path / setting).mkdir()
            async with scene(stage.server, tmp_path / setting) as here:
                first = await here.first.execute(here.project_id, f"first-{setting} demo:bash=touch x")
                await here.first.execute(here.project_id, f"second-{setting} demo:text")
                await until(here.one, "approval_requested")
                # A prompt that the CLI has not stored yet is given again, and asks again.
                stored = partial(is_stored, tmp_path, first.execution_id)
                await eventually(stored, "the transcript has the prompt")
                await reboot(stage, boot=boot)
                if setting == "ask":
                    await become(here, "interrupted", "queued")
                    (project,) = [one for one in await here.second.projects() if one.id == here.project_id]
                    assert project.queue_hold is not None
                    assert (project.queue_hold.reason, project.pending_approvals) == ("lost", 0)
                    await here.second.resume_queue(here.project_id)
                await become(here, "error" if setting == "never" else "success", "success")
            *_, last = (said(body) for body in stage.model.bodies if f"second-{setting}" in said(body))
            assert [last.count(f"{word}-{setting}") for word in ("first", "second")] == [1, 1]
            continued = 0 if setting == "never" else 1
            assert last.count("Your process was lost before you had finished") == continued, setting


async def test_a_prompt_that_its_session_may_lack_reaches_the_model(tmp_path: Path, folder: Path) -> None:
    """The CLI is lost just after it has taken the prompt; it writes its session with a delay."""
    async with (
        own_stage(tmp_path, PA_EXECUTIONS_RESUME_INTERRUPTED="always") as stage,
        scene(stage.server, folder) as here,
    ):
        for before, word in enumerate(("one", "two", "three")):
            receipt = await here.first.execute(here.project_id, f"{word} demo:slow=300ms")
            await until(here.one, "agent_message", state="started", command_uuid=receipt.execution_id)
            stage.server.agent(here.project_id).kill()
            await become(here, *["success"] * (before + 1))
            *_, last = (said(body) for body in stage.model.bodies)
            assert last.count(f"{word} demo:slow") == 1, "it continues with its prompt"
