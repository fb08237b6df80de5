"""docs/deployment/tls.md, carried out: a certificate of one's own CA, and its renewal without downtime."""

import asyncio
import contextlib
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, write_standin
from tests.harness.tool import ROOT, require_tool
from tests.harness.up import Up

from pocket_agent.client import Client

PAGE = ROOT / "docs" / "deployment" / "tls.md"
NAME = "agent.home"
"""The name in the certificate of the page."""


class Authority:
    """The page's commands, in a directory.

    Attributes:
        ca: the authority's certificate.
        cert, key: the server's.
    """

    def __init__(self, folder: Path) -> None:
        require_tool("openssl")
        folder.mkdir()
        self._folder = folder
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        (block,) = re.findall(r"```sh\n(openssl req -x509.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        found, self._issue = block.split("cat > names.ext", 1)
        self._run(found)
        self.issue()

    def issue(self) -> None:
        """Make the server's certificate, or its successor."""
        self._run(f"cat > names.ext{self._issue}")

    def _run(self, script: str) -> None:
        subprocess.run(["sh", "-eu", "-c", script], cwd=self._folder, check=True, capture_output=True)

    @property
    def serial(self) -> int:
        """Of the server's certificate."""
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).serial_number


class Secured:
    """A server with a certificate of that authority.

    Attributes:
        authority: the authority.
        server: the server, which reads copies of the files.
        context: trusts the authority alone.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self._cert, self._key = folder / "cert.pem", folder / "key.pem"
        self.install()
        env = {
            "PA_CLAUDE_BINARY": str(write_standin(folder)),
            "PA_METRICS_ENABLED": "true",
            "PA_METRICS_PORT": str(free_port()),
            "PA_TLS_CERT": str(self._cert),
            "PA_TLS_KEY": str(self._key),
            "PA_MONITORING_CA_FILE": str(self.authority.ca),
            "PA_MONITORING_SERVER_NAME": NAME,
        }
        self.server = ServerProcess(folder, env=env)
        self.server.tls_port = free_port()
        self.context = ssl.create_default_context(cafile=str(self.authority.ca))

    def install(self) -> None:
        """Put the certificate and its key where the server reads them, as certbot's hook does it."""
        for source, target in ((self.authority.cert, self._cert), (self.authority.key, self._key)):
            shutil.copy(source, f"{target}.new")
            Path(f"{target}.new").replace(target)

    async def served(self) -> int:
        """The serial number of the certificate that a new connection gets; it is checked under its name."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.tls_port, ssl=self.context, server_hostname=NAME
        )
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(found).serial_number


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    made = Secured(tmp_path)
    try:
        await made.server.start()
        yield made
    finally:
        await made.server.clean_up()


async def test_clients_trust_a_certificate_of_ones_own_authority(secured: Secured) -> None:
    assert await secured.served() == secured.authority.serial
    url = f"wss://127.0.0.1:{secured.server.tls_port}/ws"
    async with Client(url, token=secured.server.token, ssl=secured.authority.ca) as client:
        assert (await client.stats()).connections.active == 1


async def test_a_renewal_is_noticed_by_nobody(secured: Secured, tmp_path: Path) -> None:
    folder = tmp_path / "monitoring"
    folder.mkdir()
    env = {name: value for name, value in secured.server.env.items() if name.startswith(("PA_M", "PA_T"))}
    prober = Up(folder, {**env, "PA_SERVER_PORT": str(secured.server.tls_port)}, ("prometheus-blackbox-exporter",))
    await prober.render(f"--data-dir={secured.server.data_dir}")
    try:
        await prober.start()
        await prober.answers("BLACKBOX")
        assert await probed(prober, secured) == {"websocket_check": 1.0, "http_check": 1.0}
        async with connected(secured) as socket:
            first = secured.authority.serial
            secured.authority.issue()
            secured.install()
            assert secured.authority.serial != first
            assert await secured.served() == first, "nobody has told the server yet"
            assert secured.server.process is not None
            secured.server.process.send_signal(signal.SIGHUP)

            async def renewed() -> bool:
                return await secured.served() == secured.authority.serial

            await eventually(renewed, "new connections get the new certificate")
            await socket.send_json({"type": "project_list", "request_id": "1"})
            async with asyncio.timeout(DEADLINE_SECONDS):
                answer = await socket.receive_json()
            assert answer["type"] == "project_list_response", "the connection from before is the same"
        assert await probed(prober, secured) == {"websocket_check": 1.0, "http_check": 1.0}
    finally:
        await prober.clean_up()


@contextlib.asynccontextmanager
async def connected(secured: Secured) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    """A connection that does not come back by itself."""
    url = f"https://127.0.0.1:{secured.server.tls_port}/ws"
    headers = {"Authorization": f"Bearer {secured.server.token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(url, ssl=secured.context, headers=headers) as socket:
        yield socket


async def probed(prober: Up, secured: Secured) -> dict[str, float]:
    """What each probe says."""
    address = f"127.0.0.1:{secured.server.tls_port}"
    found = {}
    async with aiohttp.ClientSession() as http:
        for module, target in (("websocket_check", address), ("http_check", f"https://{address}/livez")):
            url = f"http://127.0.0.1:{prober.port('BLACKBOX')}/probe"
            async with http.get(url, params={"module": module, "target": target}) as answer:
                (value,) = re.findall(r"^probe_success (\S+)$", await answer.text(), re.MULTILINE)
            found[module] = float(value)
    return found
