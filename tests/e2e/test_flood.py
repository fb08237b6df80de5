"""Thousands of handshakes from one address, while a paired client goes on working."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.absence import absent
from tests.harness.server import ServerProcess, running_server, write_standin
from tests.harness.tool import ROOT

ATTACKER = "127.0.0.2"
ANSWERED = 1_000
"""More than the handshakes of one address that get a reply and a line in the log: 200 at once, and a few a second."""


async def flood(server: ServerProcess, handshakes: int) -> asyncio.subprocess.Process:
    """The attacker, at work."""
    arguments = [str(server.port if server.tls_port is None else server.tls_port), ATTACKER, str(handshakes)]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.harness.flood", *arguments), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )


@pytest.mark.skipif(sys.platform != "linux", reason="a machine has one loopback address elsewhere")
@pytest.mark.parametrize("handshakes", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_a_paired_client_works_while_one_address_makes_thousands_of_handshakes(
    tmp_path: Path, handshakes: int
) -> None:
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_LIMITS_EXEMPT_ADDRESSES": "127.0.0.1",
        "PA_LOG_LEVEL": "info",
    }
    folder = tmp_path / "work"
    folder.mkdir()
    async with running_server(tmp_path, env=env) as server, server.client() as client:
        project = await client.create_project(str(folder))
        attacker = await flood(server, handshakes)
        answered = 0
        async with asyncio.timeout(DEADLINE_SECONDS), client.subscribe(project.id) as stream:
            while attacker.returncode is None:
                assert len(await client.projects()) == 1
                answered += 1
                await asyncio.sleep(0.005)
            await client.execute(project.id, "one two three")
            async for frame in stream:
                if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 1:
                    break
        assert attacker.stdout is not None
        came = json.loads(await attacker.stdout.read())
        if came.get("dropped", 0) == handshakes and "Cannot assign" in server.log:
            absent("a second loopback address")
        assert answered > 10
        assert came.get("101", 0) == 0, "nobody came in"
        assert came["dropped"] > handshakes - ANSWERED, came
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{server.port}/readyz") as ready:
            assert ready.status == 200
        rejected = [json.loads(line) for line in server.log.splitlines() if '"connection rejected"' in line]
        assert len(rejected) < ANSWERED, "the log is not flooded either"
        assert sum(line["fields"]["count"] for line in rejected) >= handshakes - ANSWERED
