"""docs/security.md, carried out: what is to be looked at, and what to do when a phone is lost."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from tests.harness import DEADLINE_SECONDS, manual
from tests.harness.server import ServerProcess, free_port, started, write_standin
from tests.harness.tool import ROOT, require_tool

from pocket_agent.client import Client
from pocket_agent.errors import UnauthorizedError

TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")


def lines(heading: str) -> list[tuple[str, str]]:
    """The commands under a heading, each with the comment that says what has to come."""
    (block,) = [block for block in manual.blocks(TEXT, "sh") if block.section == heading]
    pairs = [re.split(r"\s+#\s?", line, maxsplit=1) for line in block.text.splitlines()]
    return [(pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs]


async def output(server: ServerProcess, command: str) -> str:
    """What a command of the page prints for this server."""
    for shown, own in ((":8443", f":{server.tls_port}"), ("~/.local/share/pocket-agent", str(server.data_dir))):
        command = command.replace(shown, own)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(server.home),
            "PA_DATA_DIR": str(server.data_dir),
        },
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        printed, _ = await process.communicate()
    assert process.returncode == 0, command
    return printed.decode().strip()


def secured(folder: Path) -> ServerProcess:
    """A server that speaks TLS."""
    server = ServerProcess(folder, env={"PA_CLAUDE_BINARY": str(write_standin(folder))})
    server.tls_port = free_port()
    return server


async def test_what_the_page_says_comes(tmp_path: Path) -> None:
    require_tool("curl")
    async with started(secured(tmp_path)) as server:
        for command, expected in lines("Harden it"):
            assert await output(server, command) == expected.strip(), command


async def test_a_lost_phone_is_let_go_of(tmp_path: Path, folder: Path) -> None:
    async with started(secured(tmp_path)) as server:
        token = server.add_device("phone")
        async with Client(server.url, token=token) as phone:
            await phone.create_project(str(folder))
        listed, revoked, verified, noted = [
            await output(server, command) for command, _ in lines("When a phone is lost")
        ]
        assert "phone" in listed
        assert "phone" in revoked
        assert "none was changed" in verified
        assert '"action":"project_create"' in noted
        with pytest.raises(UnauthorizedError):
            async with Client(server.url, token=token) as phone:
                await phone.projects()
