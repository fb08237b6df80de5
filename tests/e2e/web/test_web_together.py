"""Two browsers side by side see the same, whatever either of them does."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.harness.browser import PHONE, WAIT_MS
from tests.harness.follow import eventually, stored
from tests.harness.scene import Stage
from tests.harness.screen import Screen, screen, told

from pocket_agent.client import Client
from pocket_agent.model import project_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def same(client: Client, project_id: str, *screens: Screen) -> None:
    """Every screen shows what is stored, each entry in its place and nothing else."""
    expected = told(await stored(client, project_id))

    async def agree() -> bool:
        return [await one.told() for one in screens] == [expected] * len(screens)

    await eventually(agree, f"all screens show {json.dumps(expected)[:400]}")


async def test_two_browsers_stay_the_same(stage: Stage, browser: Browser, folder: Path) -> None:
    async with (
        stage.server.client() as client,
        screen(browser, stage.server, "desk") as desk,
        screen(browser, stage.server, "phone", size=PHONE) as phone,
    ):
        project_id = (await client.create_project(str(folder))).id
        await desk.open(project_id)
        await phone.open(project_id)
        await expect(desk.page.locator(".conversation-head .badge")).to_contain_text("2")

        # An approval, asked for by one and answered by the other.
        await desk.send("demo:bash=touch together.txt")
        for one in (desk, phone):
            await expect(one.dock).to_contain_text("touch together.txt", timeout=WAIT_MS)
        await phone.answer("Allow")
        await expect(desk.dock).to_contain_text("Allowed by phone")
        for one in (desk, phone):
            await one.is_idle()
            await expect(one.dock).to_be_hidden(timeout=WAIT_MS)
        await same(client, project_id, desk, phone)

        # The queue, changed by both.
        await desk.send("demo:slow=60s")
        await desk.says_state("Working")
        for prompt in ("first of two", "second of two"):
            await phone.send(prompt)
        for one in (desk, phone):
            await expect(one.queue).to_have_count(2, timeout=WAIT_MS)
        await desk.queue.nth(1).get_by_role("button", name="Change").click()
        await desk.page.get_by_label("Edit the queued prompt").fill("demo:text changed")
        await desk.button("Save").click()
        for one in (desk, phone):
            await expect(one.queue.nth(1)).to_contain_text("demo:text changed", timeout=WAIT_MS)
        await phone.queue.nth(0).get_by_role("button", name="Withdraw").click()
        for one in (desk, phone):
            await expect(one.queue).to_have_count(1, timeout=WAIT_MS)

        # The text that is being written, on both; and an interruption, which holds the queue until it is resumed.
        for one in (desk, phone):
            await expect(one.page.locator(".said.live")).to_contain_text("00003", timeout=WAIT_MS)
        await phone.button("Stop").click()
        for one in (desk, phone):
            await expect(one.page.get_by_role("button", name="Run", exact=True)).to_be_visible(timeout=WAIT_MS)
            await expect(one.queue).to_have_count(1)
        await desk.page.get_by_role("button", name="Run", exact=True).click()
        for one in (desk, phone):
            await one.is_idle()
            await expect(one.queue).to_have_count(0)
            await one.says("This is a plain answer of the demo model.")
            await expect(one.page.locator(".said.live")).to_have_count(0)
        await same(client, project_id, desk, phone)

        # The end of it all.
        await desk.choose("Delete the project")
        await expect(desk.page.get_by_role("dialog")).to_contain_text(str(folder))
        await desk.button("Delete").click()
        await expect(desk.page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)
        await expect(phone.page.get_by_text("Project not found")).to_be_visible(timeout=WAIT_MS)
        assert folder.is_dir()


async def test_a_project_that_runs_is_not_deleted_and_says_why(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.send("demo:slow=60s")
        await seen.says_state("Working")
        await seen.choose("Delete the project")
        await seen.button("Delete").click()
        await expect(seen.page.get_by_role("alert")).to_contain_text("while the agent runs something")
        await seen.button("Cancel").click()
        await seen.choose("Kill the execution")
        await seen.button("Kill").click()
        await seen.is_idle()
        await seen.says("The execution was killed.")


async def test_a_project_that_another_makes_appears(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project_id = (await client.create_project(str(folder))).id
        row = seen.page.locator(".project", has_text=str(folder))
        await expect(row).to_contain_text("Idle", timeout=WAIT_MS)
        await client.execute(project_id, "demo:bash=touch x")
        await expect(row).to_contain_text("Waiting for approval", timeout=WAIT_MS)
        await client.execute(project_id, "and then this")
        await expect(row).to_contain_text("1 in the queue", timeout=WAIT_MS)
        await client.kill(project_id)
        await until_idle(client, project_id)
        await client.delete_project(project_id)
        await expect(row).to_be_hidden(timeout=WAIT_MS)


async def until_idle(client: Client, project_id: str) -> None:
    """Wait until nothing runs or waits in a project."""

    async def look() -> bool:
        (state,) = [one for one in await client.projects() if one.id == project_id]
        return state.state != "EXECUTING" and state.queue_depth == 0

    await eventually(look, "nothing runs")


async def test_projects_are_searched_by_name_and_path(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        for name in ("apple-pie", "apple-tree", "pear-tree", "plum"):
            (tmp_path / name).mkdir()
            await client.create_project(str(tmp_path / name))
        rows = seen.page.locator(".project")
        await expect(rows.filter(has_text=str(tmp_path))).to_have_count(4)
        await seen.page.keyboard.press("/")
        await seen.page.keyboard.type("tree apple")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("apple-tree")
        await seen.page.get_by_role("searchbox").fill("nothing like it")
        await expect(seen.page.get_by_text("No matching project.")).to_be_visible()


async def test_a_device_that_may_only_watch_sees_everything_and_can_do_nothing(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    async with (
        stage.server.client() as client,
        screen(browser, stage.server, "wall", view_only=True) as wall,
    ):
        project_id = (await client.create_project(str(folder))).id
        await expect(wall.page.get_by_role("button", name="New project")).to_be_hidden()
        await wall.open(project_id)
        await expect(wall.page.get_by_text("This device may only watch.")).to_be_visible()
        await expect(wall.prompt_field).to_be_hidden()
        await client.execute(project_id, "demo:bash=touch watched.txt")
        await expect(wall.dock).to_contain_text("touch watched.txt", timeout=WAIT_MS)
        await expect(wall.dock).to_contain_text("another device has to answer")
        await expect(wall.dock.get_by_role("button", name="Allow")).to_be_hidden()
        (waiting,) = [one for one in (await client.watch()).approvals if one.project_id == project_id]
        await client.approve(project_id, waiting.approval.approval_id)
        await wall.is_idle()
        await wall.says("Allowed by test")


async def test_a_device_that_is_limited_to_a_project_is_offered_nothing_that_is_refused(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    async with stage.server.client() as client:
        project = await client.create_project(str(folder))
        async with screen(browser, stage.server, "guest", size=PHONE, projects=(project_of(project.id),)) as guest:
            await expect(guest.button("New project")).to_have_count(0)
            await expect(guest.page.get_by_role("link", name="Dashboard")).to_have_count(0)
            await guest.open(project.id)
            await guest.page.get_by_role("button", name="Permission mode:").click()
            choices = guest.page.get_by_role("dialog").get_by_role("radio")
            await expect(choices).to_have_count(2)
            await guest.page.get_by_label("Plan").click()
            await expect(guest.page.get_by_role("button", name="Permission mode: Plan")).to_be_visible(timeout=WAIT_MS)
            await guest.go("/dashboard")
            limited = guest.page.get_by_text("This device may only see some projects")
            await expect(limited).to_be_visible(timeout=WAIT_MS)
        await client.delete_project(project.id)
