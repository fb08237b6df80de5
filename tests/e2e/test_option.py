"""The options of a prompt, as the real CLI takes them: each does its work, and a value stays a value."""

from pathlib import Path

import pytest
from tests.harness.follow import entry_types, until
from tests.harness.recorder import system
from tests.harness.scene import Stage, init_of, scene, state_after, texts

from pocket_agent.errors import InvalidPathError
from pocket_agent.model import ExecuteOptions

pytestmark = pytest.mark.asyncio(loop_scope="session")

FLAG = "--dangerously-skip-permissions"


async def test_an_allowed_tool_runs_without_asking(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.run("demo:bash=touch allowed.txt", ExecuteOptions(allowed_tools=("Bash(touch *)",)))
        assert "approval_requested" not in entry_types(seen)
        assert (folder / "allowed.txt").exists()
        # For that prompt only: the next one has a process of its own, and is asked.
        session = init_of(seen)["session_id"]
        await here.first.execute(here.project_id, "demo:bash=touch asked.txt")
        seen = await until(here.one, "approval_requested")
        assert init_of(seen)["session_id"] == session
        await here.second.deny(here.project_id, seen[-1].data["approval_id"])
        await until(here.one, "project_state", state="IDLE")
    assert not (folder / "asked.txt").exists()


async def test_a_disallowed_tool_is_not_even_offered(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.run("demo:text with all tools")
        await here.run("demo:text without some", ExecuteOptions(disallowed_tools=("Bash", "Write")))
    offered = [{tool["name"] for tool in stage.model.saw(words)[0]["tools"]} for words in ("all tools", "without some")]
    assert {"Bash", "Write", "Read"} <= offered[0]
    assert offered[1] & {"Bash", "Write", "Read"} == {"Read"}


async def test_more_system_prompt_and_more_directories(stage: Stage, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other place"
    other.mkdir()
    text = 'Speak like a "pirate";\nnever $(mind) the quotes.'
    async with scene(stage.server, folder) as here:
        options = ExecuteOptions(append_system_prompt=text, add_dirs=(str(other),))
        seen = await here.run("demo:text for pirates", options)
        assert init_of(seen)["additional_directories"] == [str(other)]
        with pytest.raises(InvalidPathError, match="add_dirs"):
            await here.first.execute(
                here.project_id, "demo:text", options=ExecuteOptions(add_dirs=(str(tmp_path / "none"),))
            )
    assert text in system(stage.model.saw("for pirates")[0])


async def test_a_value_that_looks_like_a_flag_stays_a_value(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        options = ExecuteOptions(
            model=FLAG,
            append_system_prompt=FLAG,
            allowed_tools=(FLAG,),
            disallowed_tools=("--allowed-tools=Bash",),
        )
        await here.first.execute(here.project_id, "demo:bash=touch never.txt for strange flags", options=options)
        seen = await until(here.one, "approval_requested")
        assert init_of(seen)["permissionMode"] == "default"
        assert init_of(seen)["model"] == FLAG
        await here.second.deny(here.project_id, seen[-1].data["approval_id"])
        await until(here.one, "project_state", state="IDLE")
    (body, *_) = stage.model.saw("for strange flags")
    assert FLAG in system(body)
    assert body["model"] == FLAG
    assert not (folder / "never.txt").exists()


@pytest.mark.parametrize("prompt", [FLAG, "-p", "--resume=x demo:text", "- a list\n- of things", "/cost"])
async def test_a_prompt_is_never_a_flag(stage: Stage, folder: Path, prompt: str) -> None:
    async with scene(stage.server, folder) as here:
        seen = await here.run(prompt)
        assert seen[0].data["prompt"] == prompt
        assert init_of(seen)["permissionMode"] == "default"
        assert state_after(seen) == "IDLE"
        assert texts(seen)
