"""Settings that come into a project later, with the real CLI: a `git pull` brings a hook, and nobody was asked yet."""

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from tests.e2e.test_hostile_project import left
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, follow
from tests.harness.recorder import RecordingModel
from tests.harness.scene import Scene, scene, whole
from tests.harness.server import running_server

from pocket_agent.client import Frame
from pocket_agent.demo.demo_process import child_environment

EVENTS = ("SessionStart", "UserPromptSubmit", "PostToolUse", "Stop", "SessionEnd", "ConfigChange")


def git(folder: Path, *words: str) -> None:
    """Run git without anybody's settings."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def settings(project: Path, remark: str = "") -> str:
    """Settings whose hooks leave a file behind, and a rule."""
    commands = {event: f"touch '{project}/ran-{event}' # {remark}" for event in EVENTS}
    hooks = {event: [{"hooks": [{"type": "command", "command": command}]}] for event, command in commands.items()}
    return json.dumps({"hooks": hooks, "permissions": {"allow": ["Bash(touch:*)"]}})


def push(upstream: Path, project: Path, remark: str) -> None:
    """Commit settings and a command upstream."""
    (upstream / ".claude" / "commands").mkdir(parents=True, exist_ok=True)
    (upstream / ".claude" / "settings.json").write_text(settings(project, remark))
    body = f"---\nallowed-tools: Bash\n---\nSee !`touch '{project}/ran-typed'`"
    (upstream / ".claude" / "commands" / "go.md").write_text(body)
    git(upstream, "add", ".")
    git(upstream, "commit", "-m", remark)


class Home:
    """The home of the CLI's user, with a hook of the user's own that says when the CLI has noticed other settings."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "claude-home"
        self._noticed = self.path / "noticed"
        (self.path / ".claude").mkdir(parents=True)
        hook = {"type": "command", "command": f"touch '{self._noticed}'"}
        own = {"hooks": {"ConfigChange": [{"hooks": [hook]}]}}
        (self.path / ".claude" / "settings.json").write_text(json.dumps(own))

    async def notices(self) -> None:
        """Wait until the CLI has noticed a change."""
        await eventually(self._noticed.exists, "the CLI notices the change")
        self._noticed.unlink()


@contextlib.asynccontextmanager
async def opened(folder: Path, home: Home, project: Path) -> AsyncIterator[Scene]:
    """Two clients on the project, whose agent is the real CLI."""
    binary = require_claude()
    model = RecordingModel()
    env = {"PA_CLAUDE_BINARY": str(binary), **child_environment(await model.start(), home.path)}
    try:
        async with running_server(folder, env=env) as server, scene(server, project) as here:
            yield here
    finally:
        await model.stop()


def is_held(frame: Frame) -> bool:
    """Whether the queue is on hold until somebody accepts the settings."""
    return frame.type == "queue_state" and (frame.data.get("queue_hold") or {}).get("reason") == "trust"


async def test_a_hook_that_a_pull_brings_runs_once_it_is_accepted_and_not_before(tmp_path: Path) -> None:
    home, upstream, project = Home(tmp_path), tmp_path / "upstream", tmp_path / "project"
    upstream.mkdir()
    git(upstream, "init")
    (upstream / ".claude").mkdir()
    (upstream / ".claude" / "settings.json").write_text("{}")
    git(upstream, "add", ".")
    git(upstream, "commit", "-m", "begin")
    git(tmp_path, "clone", str(upstream), str(project))
    async with opened(tmp_path, home, project) as here:
        await here.run("demo:text one")
        for remark in ("one", "two"):  # with the hooks of the first, the CLI by itself would run one for the second
            push(upstream, project, remark)
            git(project, "pull")
            await home.notices()
        receipt = await here.first.execute(here.project_id, "/go")
        assert receipt.status == "queued"
        await follow(here.one, is_held)
        # The process of the first prompt ends here; it knows nothing of the new hooks.
        await here.first.new_session(here.project_id)
        assert left(project) == set()
        shown = await here.first.inspect_all(str(project))
        said = {claim.text.partition(":")[0] for claim in shown.claims[: shown.new]}
        assert said == {*EVENTS, "Bash(touch", "allowed-tools", "shell, when its name is typed"}
        await here.first.trust_project(here.project_id, shown.hash)
        await whole(here.one, receipt.execution_id)
        assert left(project) >= {"SessionStart", "UserPromptSubmit", "typed"}


async def test_a_process_keeps_to_the_settings_with_which_it_was_started(tmp_path: Path) -> None:
    """Whatever changes on the disk during its turn; by itself the CLI takes it up at once."""
    home, project = Home(tmp_path), tmp_path / "project"
    (project / ".claude").mkdir(parents=True)
    (project / ".claude" / "settings.json").write_text("{}")
    async with opened(tmp_path, home, project) as here:
        asked = await here.ask("demo:bash=touch began")
        (project / ".claude" / "settings.json").write_text(settings(project))
        await home.notices()
        await here.allow(asked)
        assert (project / "began").exists()
        assert left(project) == set()


async def test_an_answer_that_is_remembered_writes_nothing_that_would_be_asked_for(tmp_path: Path) -> None:
    """Rules of "always" live as long as the process, so the next start asks for nothing."""
    home, project = Home(tmp_path), tmp_path / "project"
    project.mkdir()
    async with opened(tmp_path, home, project) as here:
        asked = await here.ask("demo:bash=touch began")
        assert asked.frame.data["suggestions"][0]["destination"] == "localSettings"
        await here.first.approve(here.project_id, asked.approval_id, remember=True)
        await here.run("demo:bash=touch began")
        await here.first.new_session(here.project_id)
        await here.run("demo:text next")
        assert not (project / ".claude").exists()
