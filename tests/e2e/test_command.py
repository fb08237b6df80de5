"""The commands, as scripts call them: processes with arguments, an exit status and output."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually, run, stored, until
from tests.harness.scene import scene
from tests.harness.server import ServerProcess

from pocket_agent import __version__
from pocket_agent.client import Client
from pocket_agent.errors import UnauthorizedError
from pocket_agent.storage.database import database_path


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


async def command(home: Path, *arguments: str, env: dict[str, str] | None = None) -> Outcome:
    """Run `pocket-agent` with a home of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pocket_agent.cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})},
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def test_backup_while_running_and_restore(standin_server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    server, copy = standin_server, tmp_path / "copy.sqlite"
    async with scene(server, folder) as here:
        await run(here.first, here.one, "lines 300")
        await here.first.execute(here.project_id, "sleep 0 ask Bash")
        await until(here.one, "approval_requested")
        log = await stored(here.first, here.project_id)
        (before,) = await here.first.projects()

        done = await command(server.home, "backup", str(copy), f"--data-dir={server.data_dir}")
        assert done.status == 0, done.err
        assert str(copy) in done.out
        again = await command(server.home, "backup", str(copy), f"--data-dir={server.data_dir}")
        assert again.status == 1
        assert "Traceback" not in again.err
        await here.first.kill(here.project_id)
        assert len(await stored(here.first, here.project_id)) > len(log)

    # Restored as the command says: in the place of the database, while the server is stopped.
    assert await server.stop() == 0
    database = database_path(server.data_dir)
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    copy.rename(database)
    await server.start()
    async with server.client() as client:
        (project,) = await client.projects()
        assert project.id == before.id
        # What came after the backup is gone, so offsets of that time must not be taken for those of the new log.
        assert project.epoch != before.epoch
        assert (await stored(client, project.id))[: len(log)] == log


async def test_config_tells_each_setting_and_its_source(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("limits:\n  max_projects: 7\n")
    env = {"PA_EXECUTION_TIMEOUT": "90s"}
    done = await command(tmp_path, "config", "--json", f"--config={file}", f"--data-dir={tmp_path / 'data'}", env=env)
    assert done.status == 0, done.err
    settings = json.loads(done.out)["settings"]
    assert settings["limits.max_projects"]["value"] == 7
    assert str(file) in settings["limits.max_projects"]["source"]
    assert settings["timeouts.execution"]["value"] == 90
    assert "PA_EXECUTION_TIMEOUT" in settings["timeouts.execution"]["source"]
    assert settings["server.port"]["source"] == "default"
    people = await command(tmp_path, "config", f"--config={file}")
    assert people.status == 0
    assert "max_projects: 7" in people.out
    assert not (tmp_path / "data").exists(), "looking changes nothing"

    file.write_text("limits:\n  max_project: 7\n")
    refused = await command(tmp_path, "config", f"--config={file}")
    assert refused.status == 1
    assert "max_project" in refused.err
    assert "2" in refused.err, "the line"
    assert "Traceback" not in refused.err


async def test_schema_and_version(tmp_path: Path) -> None:
    schema, version = await asyncio.gather(command(tmp_path, "schema"), command(tmp_path, "--version"))
    assert (schema.status, version.status) == (0, 0)
    text = schema.out
    json.loads(text)
    for name in ("approval_respond", "project_join", "approval_requested", "queue_state"):
        assert f'"{name}"' in text
    assert version.out.strip() == f"pocket-agent {__version__}"


async def test_a_device_comes_and_goes_while_the_server_runs(standin_server: ServerProcess, folder: Path) -> None:
    server = standin_server
    where = f"--data-dir={server.data_dir}"
    added = await command(server.home, "devices", "add", "phone", "--print-token", where)
    assert added.status == 0, added.err
    token = added.out.strip()
    assert added.out == f"{token}\n", "nothing but the token, for scripts"
    async with Client(server.url, token=token) as phone:
        project = await phone.create_project(str(folder))
        listed, twice = await asyncio.gather(
            command(server.home, "devices", "list", where),
            command(server.home, "devices", "add", "phone", "--print-token", where),
        )
        assert [line.split("\t")[0] for line in listed.out.splitlines()] == ["test", "phone"]
        assert twice.status == 1
        assert token not in listed.out
        revoked = await command(server.home, "devices", "revoke", "phone", where)
        assert revoked.status == 0, revoked.err
        await eventually(lambda: not phone.online, "the connection of the revoked device is closed")
        with pytest.raises(UnauthorizedError):
            await phone.projects()
    with pytest.raises(UnauthorizedError):
        async with Client(server.url, token=token):
            pass
    async with server.client() as other:
        assert [found.id for found in await other.projects()] == [project.id]
    unknown = await command(server.home, "devices", "revoke", "phone", where)
    assert unknown.status == 1
    assert "phone" in unknown.err


async def test_a_second_server_on_the_same_data_is_refused(standin_server: ServerProcess) -> None:
    server = standin_server
    assert server.process is not None
    second = await command(server.home, "serve", "--no-tls", "--port=0", f"--data-dir={server.data_dir}")
    assert second.status == 1
    assert f"process {server.process.pid}" in second.err
    assert "--data-dir" in second.err
    assert "Traceback" not in second.err + second.out
    async with server.client() as client:
        assert await client.projects() == []


@pytest.mark.parametrize(
    ("setting", "flag", "others"),
    [
        ("server.port", "--port", {"PA_METRICS_ENABLED": "false"}),
        ("metrics.port", "--metrics-port", {"PA_SERVER_PORT": "0"}),
    ],
)
async def test_a_taken_port_is_named_with_its_setting(
    tmp_path: Path, setting: str, flag: str, others: dict[str, str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = await command(tmp_path, "serve", "--no-tls", f"--data-dir={tmp_path}", f"{flag}={port}", env=others)
    assert done.status == 1
    variable = f"PA_{setting.replace('.', '_').upper()}"
    for word in (f"Port {port}", setting, variable, flag):
        assert word in done.err
    assert "Traceback" not in done.err + done.out
