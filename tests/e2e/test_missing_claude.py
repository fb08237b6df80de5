"""Without the CLI the server serves everything else, and notices when the CLI comes."""

from pathlib import Path

import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, stored
from tests.harness.scene import scene, state_after, texts
from tests.harness.server import running_server

from pocket_agent.errors import ClaudeNotFoundError


async def test_a_missing_cli_is_said_and_needs_no_restart(tmp_path: Path, folder: Path) -> None:
    binary = tmp_path / "bin" / "claude"
    async with (
        running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(binary)}, flags=["--demo"]) as server,
        scene(server, folder) as here,
    ):
        with pytest.raises(ClaudeNotFoundError, match="npm install") as missing:
            await here.first.execute(here.project_id, "demo:text")
        assert "PA_CLAUDE_BINARY" in missing.value.message
        assert str(tmp_path) not in missing.value.message
        health = await here.second.health()
        assert health.status != "healthy"
        assert not health.claude.available
        (project,) = await here.second.projects()
        assert (project.state, project.queue_depth) == ("IDLE", 0)
        assert await stored(here.second, here.project_id) == []
        assert await here.second.sessions(here.project_id) == []
        await here.second.set_model(here.project_id, "haiku")

        binary.parent.mkdir()
        binary.symlink_to(require_claude())
        seen = await here.run("demo:text")
        assert state_after(seen) == "IDLE"
        assert "a plain answer" in texts(seen)

        async def shows() -> bool:
            return (await here.second.health()).claude.version is not None

        await eventually(shows, "the health of the server shows the version")  # it looks every few seconds
        assert (await here.second.health()).claude.available

        # And it may go again.
        binary.unlink()
        await here.second.new_session(here.project_id)
        with pytest.raises(ClaudeNotFoundError):
            await here.first.execute(here.project_id, "demo:text")
