"""Alerts about single agents, which name the project: real agents, the scripted model, a Prometheus with the rules."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from tests.harness.claude import require_claude
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess
from tests.harness.stack import Stack, load, stack_environment

from pocket_agent.client import Client

THRESHOLDS = {
    "PA_ALERTS_FOR_SCALE": "0",
    "PA_ALERTS_REPEATED_CALLS": "8",
    "PA_ALERTS_SILENCE": "3s",
    "PA_ALERTS_AGENT_MEMORY_RATIO": "0.001",
    "PA_ALERTS_AGENT_CPU_RATIO": "0.01",
}


class Watched(NamedTuple):
    """A server with agents, and the Prometheus that watches it."""

    server: ServerProcess
    stack: Stack

    async def firing(self) -> dict[str, str]:
        """The descriptions of the firing alerts by their names."""
        found = (await self.stack.prometheus.get("alerts"))["alerts"]
        return {
            alert["labels"]["alertname"]: alert["annotations"]["description"]
            for alert in found
            if alert["state"] == "firing"
        }

    async def names(self, alert: str, project: str) -> None:
        """Wait until an alert fires whose text names this project."""

        async def told() -> bool:
            return f"The agent of project {project} on " in (await self.firing()).get(alert, "")

        await eventually(told, f"{alert} names {project}")

    async def resolved(self, alert: str) -> None:
        """Wait until an alert no longer fires."""

        async def silent() -> bool:
            return alert not in await self.firing()

        await eventually(silent, f"{alert} is resolved")


@contextlib.asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """A server and a Prometheus with low thresholds."""
    environment = {
        **stack_environment(folder / "home"),
        **THRESHOLDS,
        "PA_CLAUDE_BINARY": str(require_claude()),
        "PA_HEALTH_INTERVAL": "200ms",
        "PA_SERVER_PLAIN_PORT": "off",
    }
    server = ServerProcess(folder, env=environment, flags=["--demo"])
    settings = load(environment, server.data_dir, server.port).settings
    stack = Stack(folder / "stack", settings)
    stack.render()
    try:
        await server.start()
        await stack.start("prometheus")
        yield Watched(server, stack)
    finally:
        await stack.stop()
        await server.clean_up()


async def run(client: Client, folder: Path, name: str, prompt: str) -> str:
    """Let an agent run a prompt in a new project of this name; returns the project's id."""
    (folder / name).mkdir()
    project = await client.create_project(str(folder / name))
    await client.execute(project.id, prompt)
    return project.id


async def test_alerts_name_the_project_of_the_agent(tmp_path: Path) -> None:
    async with watched(tmp_path) as here, here.server.client() as client:
        asking = await run(client, tmp_path, "asking", "demo:bash")
        busy = await run(client, tmp_path, "busy", "demo:again=10000")
        await here.names("AgentRepeatsItself", "busy")
        await here.names("AgentCpuHigh", "busy")
        assert "AgentMemoryHigh" in await here.firing()
        assert "AgentStalled" not in await here.firing(), "one works, and the other one waits for an approval"
        await client.kill(asking)
        await here.names("AgentMemoryHigh", "busy")
        await client.kill(busy)
        await here.resolved("AgentRepeatsItself")
        stalled = await run(client, tmp_path, "stalled", "demo:stall=50m")
        await here.names("AgentStalled", "stalled")
        await here.names("AgentMemoryHigh", "stalled")
        await client.kill(stalled)
        for alert in ("AgentStalled", "AgentMemoryHigh"):
            await here.resolved(alert)
