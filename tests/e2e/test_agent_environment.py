"""What an agent's tools find around them: variables, limits, a umask, and nothing else of the server's."""

import contextlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

from tests.harness.claude import require_claude
from tests.harness.recorder import RecordingModel
from tests.harness.scene import scene
from tests.harness.server import running_server

from pocket_agent.demo.demo_process import child_environment
from pocket_agent.model import ExecuteOptions

SECRET = "the-servers-own-secret"
LOOK = "demo:bash=(env; echo ---; umask; ulimit -d; ulimit -t; ls -l /proc/self/fd /proc/$PPID/fd) > seen.txt 2>&1"
BASH = ExecuteOptions(allowed_tools=("Bash",))


@contextlib.asynccontextmanager
async def looking(folder: Path, umask: int, **env: str) -> AsyncIterator[str]:
    """What a command sees that the real CLI runs for the scripted model."""
    binary = require_claude()
    home, project = folder / "claude-home", folder / "project"
    home.mkdir()
    project.mkdir()
    model = RecordingModel()
    known = {"PA_CLAUDE_BINARY": str(binary), **child_environment(await model.start(), home), **env}
    before = os.umask(umask)
    try:
        async with running_server(folder, env=known) as server, scene(server, project) as here:
            await here.run(LOOK, BASH)
            yield (project / "seen.txt").read_text("utf-8")
    finally:
        os.umask(before)
        await model.stop()


async def test_a_tool_of_the_agent_sees_what_is_allowed_and_no_secret_of_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "urls"
    secret.write_text(f"json://127.0.0.1:9/{SECRET}")
    env = {
        "PA_NOTIFICATIONS_URLS": f"json://127.0.0.1:9/{SECRET}",
        "PA_NOTIFICATIONS_URLS_FILE": str(secret),
        "PA_TRACES_HEADERS": f"authorization={SECRET}",
        "PA_CLAUDE_ENVIRONMENT": "CHOSEN=for-agents",
        "PA_CLAUDE_INHERIT": "PATH,HOME,NAMED_*,ANTHROPIC_*,CLAUDE_*,DISABLE_*,NO_PROXY,no_proxy,PA_*",
        "NAMED_TOO": "inherited",
        "DATABASE_PASSWORD": SECRET,
        "POCKET_AGENT_PROCESS": SECRET,
        "CLAUDECODE": SECRET,
    }
    async with looking(tmp_path, 0o022, **env) as seen:
        variables = dict(line.split("=", 1) for line in seen.partition("---")[0].splitlines() if "=" in line)
        assert variables["CHOSEN"] == "for-agents"
        assert variables["NAMED_TOO"] == "inherited"
        assert "DATABASE_PASSWORD" not in variables
        assert [name for name in variables if name.startswith("PA_")] == []
        assert SECRET not in seen


async def test_a_tool_of_the_agent_has_the_agents_limits_and_the_users_umask(tmp_path: Path) -> None:
    async with looking(tmp_path, 0o027, PA_CLAUDE_LIMITS_MEMORY="64GiB", PA_CLAUDE_LIMITS_CPU_TIME="2h") as seen:
        umask, memory, seconds = seen.partition("---\n")[2].splitlines()[:3]
        assert (umask, memory, seconds) == ("0027", str(64 * 2**20), "7200")
        assert (tmp_path / "project" / "seen.txt").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "data" / "pocket-agent.db").stat().st_mode & 0o777 == 0o600
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY, "only the agents'"


async def test_a_tool_of_the_agent_holds_nothing_open_of_the_server(tmp_path: Path) -> None:
    async with looking(tmp_path, 0o022) as seen:
        listed = [line.partition(" -> ")[2] for line in seen.splitlines() if " -> " in line]
        assert listed
        data = [path for path in listed if path.startswith(str(tmp_path / "data"))]
        assert all(path.startswith(str(tmp_path / "data" / "spool")) for path in data), data


async def test_even_all_variables_are_without_the_servers_settings(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_INHERIT": "*", "PA_NOTIFICATIONS_URLS": f"json://127.0.0.1:9/{SECRET}", "OTHER": "inherited"}
    async with looking(tmp_path, 0o022, **env) as seen:
        assert "OTHER=inherited\n" in seen
        assert SECRET not in seen
