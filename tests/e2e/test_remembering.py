"""To remember an approval is to choose for the agent, which settings may forbid: with the real CLI's suggestions."""

from pathlib import Path

import pytest
from tests.harness.claude import require_claude
from tests.harness.recorder import RecordingModel
from tests.harness.scene import scene
from tests.harness.server import running_server

from pocket_agent.demo.demo_process import child_environment
from pocket_agent.errors import ForbiddenError


@pytest.mark.parametrize(
    ("setting", "value", "prompt"),
    [
        ("PA_CLAUDE_PERMISSION_MODES", "default,plan", "demo:edit=notes.txt"),
        ("PA_CLAUDE_CLIENT_TOOLS", "Read", "demo:bash=rm -f notes.txt"),
    ],
)
async def test_what_clients_may_not_choose_cannot_be_remembered(
    tmp_path: Path, folder: Path, setting: str, value: str, prompt: str
) -> None:
    binary = require_claude()
    home = tmp_path / "claude-home"
    home.mkdir()
    model = RecordingModel()
    env = {"PA_CLAUDE_BINARY": str(binary), setting: value, **child_environment(await model.start(), home)}
    try:
        async with running_server(tmp_path, env=env) as server, scene(server, folder) as here:
            asked = await here.ask(prompt)
            assert asked.frame.data["suggestions"], "the CLI suggests something to remember"
            with pytest.raises(ForbiddenError, match=setting.removeprefix("PA_CLAUDE_").lower()):
                await here.first.approve(here.project_id, asked.approval_id, remember=True)
            await here.first.approve(here.project_id, asked.approval_id)  # once: it has waited meanwhile
    finally:
        await model.stop()
