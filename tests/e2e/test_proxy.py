"""docs/deployment/proxy.md: its files for Caddy and nginx, run as they stand there but for addresses."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.harness.tool import ROOT, require_tool

from pocket_agent.server.self_signed import make_self_signed

PAGE = (ROOT / "docs" / "deployment" / "proxy.md").read_text("utf-8")
NAME = "agent.example.org"


def block(heading: str) -> str:
    """The first block of code below a heading of the page."""
    found = re.search(rf"^## {heading}\n.*?^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def nginx(folder: Path, port: int, target: int) -> list[str]:
    """The command that runs nginx with the page's block."""
    site = (
        block("nginx")
        .replace("listen 443", f"listen 127.0.0.1:{port}")
        .replace("127.0.0.1:8080", f"127.0.0.1:{target}")
    )
    site = re.sub(r"/etc/letsencrypt/live/[^;]*/fullchain\.pem", str(folder / "cert.pem"), site)
    site = re.sub(r"/etc/letsencrypt/live/[^;]*/privkey\.pem", str(folder / "key.pem"), site)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    return [str(require_tool("nginx")), "-e", "stderr", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def caddy(folder: Path, port: int, target: int) -> list[str]:
    """The command that runs Caddy with the page's block."""
    site = block("Caddy").replace(
        NAME + " {", f"https://{NAME}:{port} {{\n    bind 127.0.0.1\n    tls {folder}/cert.pem {folder}/key.pem"
    )
    site = site.replace("127.0.0.1:8080", f"127.0.0.1:{target}")
    (folder / "Caddyfile").write_text("{\n    admin off\n    auto_https off\n}\n" + site)
    return [str(require_tool("caddy")), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextlib.asynccontextmanager
async def running(command: list[str], folder: Path, port: int) -> AsyncIterator[None]:
    """A program until the block is left, once its port answers."""
    environment = {"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_DATA_HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                assert process.returncode is None, (folder / "proxy.log").read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Resolver(aiohttp.abc.AbstractResolver):
    """Every name stands for this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        """127.0.0.1."""
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing to do."""


async def code_of(server: ServerProcess) -> str:
    """A code that lets one device in."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(server.url, headers=headers) as socket:
        await socket.send_json({"type": "pairing_start", "request_id": "r"})
        answer = await socket.receive_json()
        assert answer["data"]["urls"][0].startswith(f"https://{NAME}")
        return str(answer["data"]["code"])


@pytest.mark.parametrize("made", [nginx, caddy])
async def test_a_browser_gets_in_through_the_proxy_and_nobody_is_taken_in(tmp_path: Path, made: object) -> None:
    assert callable(made)
    port = free_port()
    base = f"https://{NAME}:{port}"
    (tmp_path / "proxy").mkdir()
    cert, key = make_self_signed([NAME])
    (tmp_path / "proxy" / "cert.pem").write_bytes(cert)
    (tmp_path / "proxy" / "key.pem").write_bytes(key)
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_SERVER_PUBLIC_URL": base,
        "PA_SERVER_TRUSTED_PROXIES": "127.0.0.1",
    }
    context = ssl.create_default_context(cadata=cert.decode())
    async with running_server(tmp_path, env=env) as server:
        command = made(tmp_path / "proxy", port, server.port)
        connector = aiohttp.TCPConnector(resolver=Resolver(), ssl=context)
        forged = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Forwarded-Proto": "http"}
        async with (
            running(command, tmp_path / "proxy", port),
            aiohttp.ClientSession(base, connector=connector, headers=forged) as http,
        ):
            page = {"Origin": base}
            body = {"code": await code_of(server), "name": "browser"}
            async with http.post("/api/pair", json=body, headers=page) as answer:
                assert answer.status == 200, await answer.text()
                assert answer.headers["Set-Cookie"].startswith("__Host-")
                assert "Secure" in answer.headers["Set-Cookie"]
            async with http.get("/api/session") as answer:
                assert (await answer.json())["device"]["name"] == "browser"
            async with http.ws_connect("/ws", headers=page) as socket:

                async def listed() -> dict[str, Any]:
                    await socket.send_json({"type": "device_list", "request_id": "r"})
                    devices = (await socket.receive_json())["data"]["devices"]
                    (found,) = [device for device in devices if device["name"] == "browser"]
                    assert (found["current"], found["connections"]) == (True, 1)
                    return dict(found)

                async def seen() -> bool:
                    return (await listed())["last_address"] is not None

                await eventually(seen, "the address is noted")  # nobody who comes in waits for the database
                assert (await listed())["last_address"] == "127.0.0.1", "the client's, not the forged one"
            for origin in ("https://evil.example", f"http://{NAME}:{port}"):
                async with http.get("/ws", headers={"Origin": origin}) as answer:
                    assert answer.status == 403
        assert "6.6.6.6" not in server.log
        assert "server.trusted_proxies" not in server.log
