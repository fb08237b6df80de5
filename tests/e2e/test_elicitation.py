"""Questions of MCP servers to the user, with the real CLI: answered once, by any client, also after a restart."""

from pathlib import Path

import pytest
from tests.harness.follow import follow, until
from tests.harness.question import FORM, answer_of, ask
from tests.harness.scene import Stage, rest, said_by_cli, scene
from tests.harness.server import ServerProcess

from pocket_agent.errors import ApprovalNotFoundError, ValidationError

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_another_client_fills_the_form_in(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await ask(here, FORM)
        shown = asked.frame.data
        assert (shown["tool_name"], shown["description"]) == ("Elicitation", FORM["message"])
        assert shown["input"]["mcp_server_name"] == "crm"
        assert list(shown["input"]["requested_schema"]["properties"]) == list(FORM["requestedSchema"]["properties"])
        state = (await until(here.two, "project_state", pending_approvals=1))[-1]
        assert state.data["state"] == "EXECUTING"

        with pytest.raises(ValidationError, match="content"):
            await here.second.approve(here.project_id, asked.approval_id)
        content = {"name": "Ada\nByron", "size": 3, "kind": "old"}
        await here.second.accept(here.project_id, asked.approval_id, content)
        with pytest.raises(ApprovalNotFoundError):
            await here.first.deny(here.project_id, asked.approval_id)
        seen = await rest(here.one, asked.execution_id)
        assert answer_of(seen) == {"action": "accept", "content": content}
        (resolved,) = [frame.data for frame in seen if frame.type == "approval_resolved"]
        assert (resolved["behavior"], resolved["content"]) == ("allow", content)
    audit = (stage.server.data_dir / "audit.log").read_text("utf-8")
    assert asked.approval_id in audit
    assert "Byron" not in audit


async def test_a_question_is_declined_or_closed(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        for cancel, action in ((False, "decline"), (True, "cancel")):
            asked = await ask(here, FORM)
            await here.second.deny(here.project_id, asked.approval_id, cancel=cancel)
            assert answer_of(await rest(here.one, asked.execution_id)) == {"action": action}


async def test_an_address_is_shown_until_the_user_is_done_there(stage: Stage, folder: Path) -> None:
    url = "https://crm.example/login?state=1"
    question = {"mode": "url", "message": "Log in.", "url": url, "elicitationId": "e-1", "complete": True}
    async with scene(stage.server, folder) as here:
        asked = await ask(here, question)
        assert (asked.frame.data["input"]["mode"], asked.frame.data["input"]["url"]) == ("url", url)
        await here.second.accept(here.project_id, asked.approval_id)
        seen = await rest(here.one, asked.execution_id)
        assert answer_of(seen) == {"action": "accept"}
        ended = [line for line in said_by_cli(seen, "system") if line["subtype"] == "elicitation_complete"]
        assert [line["elicitation_id"] for line in ended] == ["e-1"]


async def test_an_interrupt_withdraws_the_question(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await ask(here, FORM)
        await here.first.interrupt(here.project_id)
        seen = await follow(here.one, lambda frame: frame.type == "approval_cancelled")
        assert seen[-1].data["approval_id"] == asked.approval_id
        with pytest.raises(ApprovalNotFoundError):
            await here.second.accept(here.project_id, asked.approval_id, {"name": "x"})
        await until(here.one, "project_state", state="IDLE")


@pytest.mark.asyncio(loop_scope="function")  # that of its server and model
async def test_a_question_outlives_the_server(demo_server: ServerProcess, folder: Path) -> None:
    async with scene(demo_server, folder) as here:
        asked = await ask(here, FORM)
        await demo_server.kill()
        await demo_server.start()
        await here.second.accept(here.project_id, asked.approval_id, {"name": "Ada"})
        seen = await rest(here.one, asked.execution_id)
        assert answer_of(seen) == {"action": "accept", "content": {"name": "Ada"}}
        assert [frame.type for frame in seen].count("approval_resolved") == 1
