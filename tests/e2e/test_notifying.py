"""Notifications of a server as its users run it, to a service on this machine."""

from pathlib import Path

import aiohttp
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, until
from tests.harness.server import free_port, running_server
from tests.notification.receiver import receiving


async def lost(port: int) -> float:
    """How many notifications the metrics say were lost."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = 'pocket_agent_telemetry_dropped_total{signal="notifications"} '
    return float(next(line.removeprefix(name) for line in lines if line.startswith(name)))


async def test_from_the_real_cli_to_a_service_and_to_one_that_is_dead(tmp_path: Path, folder: Path) -> None:
    metrics = free_port()
    async with receiving() as receiver:
        addresses = tmp_path / "addresses"
        addresses.write_text(f"{receiver.url}\njson://me:hunter2@127.0.0.1:{free_port()}/?cto=1&rto=1\n")
        env = {
            "PA_CLAUDE_BINARY": str(require_claude()),
            "PA_METRICS_ENABLED": "true",
            "PA_METRICS_PORT": str(metrics),
            "PA_NOTIFICATIONS_URLS_FILE": str(addresses),
            "PA_NOTIFICATIONS_BASE_URL": "https://agent.example",
            "PA_NOTIFICATIONS_APPROVAL_DELAY": "0s",
            "PA_NOTIFICATIONS_FINISHED_AFTER": "0s",
            "PA_NOTIFICATIONS_PROJECT_PAUSE": "0s",
        }
        async with running_server(tmp_path, env=env, flags=["--demo"]) as server:
            async with server.client() as client:
                project = await client.create_project(str(folder))
                await client.execute(project.id, "demo:bash=touch made.txt")
                await receiver.until(1)
                assert receiver.titles == [f"Approval wanted: {folder.name}"]
                assert f"https://agent.example/p/{project.id}" in receiver.got[0]["message"]
                await server.kill()
                await server.start()
                # What still waits is told once more, by a server that cannot know whether it was.
                await receiver.until(2)
                async with client.subscribe(project.id, since=0) as stream:
                    asked = (await until(stream, "approval_requested"))[-1]
                await client.approve(project.id, str(asked.data["approval_id"]))
                await receiver.until(3)
                assert receiver.titles[1:] == [f"Approval wanted: {folder.name}", f"Finished: {folder.name}"]

                async def is_lost() -> bool:
                    return await lost(metrics) >= 1

                await eventually(is_lost, "what the dead one did not take is counted")
            assert "notification lost" in server.log
            assert "hunter2" not in server.log
            assert "secret-path" not in server.log
            assert "made.txt" not in str(receiver.got)
