"""The sockets of a server: what it says when one cannot be opened, and who is in the way."""

import asyncio
import contextlib
import dataclasses
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import web

from pocket_agent.errors import ConfigurationError, ForbiddenError
from pocket_agent.events import CertificateLoaded, ListenersOpened, SettingIgnored
from pocket_agent.server.guard import Hosts
from pocket_agent.server.limits import Admission
from pocket_agent.server.listener import Listeners, adopt, exporting, listening
from pocket_agent.server.self_signed import make_self_signed
from pocket_agent.settings import LiveSettings, LoadedSettings, Settings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.absence import absent
from tests.harness.server import ServerProcess, free_port, write_standin
from tests.server.room import Recorder

HOLDER = """
import socket, time
taken = socket.create_server(("127.0.0.1", {port}))
print("ready", flush=True)
time.sleep(600)
"""
SOMEBODY = """
import os
from pocket_agent.server.limits import Admission
from pocket_agent.server.listener import _holder
os.setuid({uid})
print(_holder("127.0.0.1", {port}))
"""
NOBODY = 65534


def settings_of(folder: Path, **changed: object) -> LoadedSettings:
    """Settings whose ports are free, unless the test says otherwise."""
    flags = {"data.dir": folder / "data", "server.port": 0, "server.plain_port": 0, "metrics.port": 0}
    return load_settings(
        config=None, environ={}, flags={**flags, **{k.replace("__", "."): v for k, v in changed.items()}}
    )


@contextlib.asynccontextmanager
async def held_port() -> AsyncIterator[tuple[int, int]]:
    """A port that another process listens on, and its process id."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER.format(port=port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.stdout.readline() == b"ready\n"
        yield port, process.pid
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
def seen() -> Iterator[Recorder]:
    """What observers are told."""
    yield Recorder()


def opened(loaded: LoadedSettings, seen: Recorder) -> contextlib.AbstractAsyncContextManager[Listeners]:
    """An application without routes, listened for."""
    hosts = Hosts(loaded.settings, auth=loaded.settings.server.auth)
    return listening(web.Application(), LiveSettings(loaded), seen, Admission(loaded.settings), hosts)


def exported(loaded: LoadedSettings) -> contextlib.AbstractAsyncContextManager[str]:
    """The same, for scrapes."""
    return exporting(web.Application(), LiveSettings(loaded), Recorder(), Admission(loaded.settings))


async def refusal(loaded: LoadedSettings, seen: Recorder) -> str:
    """Why it cannot listen."""
    with pytest.raises(ConfigurationError) as caught:
        async with opened(loaded, seen):
            pass
    return caught.value.message


async def test_addresses_are_told_as_they_are(tmp_path: Path, seen: Recorder) -> None:
    async with opened(settings_of(tmp_path), seen) as found:
        assert found.url.startswith("https://127.0.0.1:")
        assert found.plain_url is not None
        assert found.plain_url.startswith("http://127.0.0.1:")
        assert found.url.rpartition(":")[2] != found.plain_url.rpartition(":")[2]
        assert found.tls is not None
    assert len(seen.of(CertificateLoaded)) == 1


async def test_pages_that_this_machine_alone_reaches_are_not_exposed(tmp_path: Path, seen: Recorder) -> None:
    async with opened(settings_of(tmp_path, server__public_url="https://agent.example"), seen) as found:
        names = [urlsplit(url).hostname or "" for url in found.page_urls]
        assert names[:2] == ["agent.example", "127.0.0.1"]
        assert names[2].endswith(".localhost")
        assert list(found.exposed_urls) == ["https://agent.example"]


async def test_without_tls_there_is_one_listener(tmp_path: Path, seen: Recorder) -> None:
    async with opened(settings_of(tmp_path, server__tls__enabled=False), seen) as found:
        assert found.url.startswith("http://127.0.0.1:")
        assert (found.plain_url, found.tls) == (None, None)
    assert seen.events == [ListenersOpened((found.url,), exposed=(), protected=True)]


async def test_an_address_of_version_6_is_in_brackets(tmp_path: Path, seen: Recorder) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        absent("an IPv6 loopback address")
    loaded = settings_of(tmp_path, server__host="::1", server__tls__enabled=False, metrics__host="::1")
    async with (
        opened(loaded, seen) as found,
        exported(loaded) as url,
    ):
        assert found.url.startswith("http://[::1]:")
        assert url.startswith("http://[::1]:")


async def test_a_taken_port_names_itself_its_setting_and_its_holder(tmp_path: Path, seen: Recorder) -> None:
    async with held_port() as (port, pid):
        name = psutil.Process(pid).name()
        said = await refusal(settings_of(tmp_path, server__port=port), seen)
        assert f"Port {port} on 127.0.0.1" in said
        assert f"{name} (process {pid})" in said
        assert "server.port (PA_SERVER_PORT, --port)" in said
        said = await refusal(settings_of(tmp_path, server__plain_port=port), seen)
        assert f"{name} (process {pid})" in said
        assert "server.plain_port (PA_SERVER_PLAIN_PORT; off switches it off)" in said
        with pytest.raises(ConfigurationError) as caught:
            async with exported(settings_of(tmp_path, metrics__port=port)):
                pass
        assert f"Port {port} on 127.0.0.1" in caught.value.message
        assert f"{name} (process {pid})" in caught.value.message
        assert "metrics.port (PA_METRICS_PORT, --metrics-port)" in caught.value.message


async def test_a_port_of_our_own_process_is_told_too(tmp_path: Path, seen: Recorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = await refusal(settings_of(tmp_path, server__port=other.getsockname()[1]), seen)
    assert f"(process {os.getpid()})" in said


async def test_who_listens_everywhere_is_in_the_way_too(tmp_path: Path, seen: Recorder) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        said = await refusal(settings_of(tmp_path, server__port=other.getsockname()[1]), seen)
    assert f"(process {os.getpid()})" in said


async def test_who_listens_on_another_address_is_not_blamed(tmp_path: Path, seen: Recorder) -> None:
    async with held_port() as (port, pid):
        with socket.socket() as nearby:
            try:
                nearby.bind(("127.0.0.2", port))
            except OSError:
                absent("a second loopback address")
            nearby.listen()
            said = await refusal(settings_of(tmp_path, server__port=port), seen)
    assert f"(process {pid})" in said
    assert str(os.getpid()) not in said


async def test_a_plain_port_that_nobody_asked_for_is_done_without(tmp_path: Path, seen: Recorder) -> None:
    async with held_port() as (port, _):
        loaded = settings_of(tmp_path)
        server = loaded.settings.server.model_copy(update={"plain_port": port})
        settings = loaded.settings.model_copy(update={"server": server})
        sources = {**loaded.sources, "server.plain_port": "default"}
        loaded = dataclasses.replace(loaded, settings=settings, sources=sources)
        async with opened(loaded, seen) as found:
            assert found.plain_url is None
        (ignored,) = seen.of(SettingIgnored)
        assert f"Port {port}" in ignored.reason


async def test_an_address_that_is_not_ours_is_told(tmp_path: Path, seen: Recorder) -> None:
    for host in ("192.0.2.1", "nowhere.invalid"):
        said = await refusal(settings_of(tmp_path, server__host=host), seen)
        assert said.startswith(f"{host} is not an address of this machine")
        assert "server.host" in said
        assert "port" not in said
    with pytest.raises(ConfigurationError, match=r"metrics\.host"):
        async with exported(settings_of(tmp_path, metrics__host="192.0.2.1")):
            pass


@pytest.mark.parametrize("flag", ["server.auth", "server.tls.enabled"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "box.local"])
def test_what_would_let_anybody_in_is_refused_in_words_that_help(flag: str, host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config=None, environ={}, flags={"server.host": host, flag: False})
    said = caught.value.message
    assert flag in said
    assert "only with a loopback host" in said
    assert "pocket-agent pair" in said if flag == "server.auth" else "docs/deployment/proxy.md" in said


NAMED = ("agent.example", "*.agent.example", "*.other.example", "w*.third.example", "*", "Big.Example.")


async def test_names_of_the_users_own_certificate_are_the_servers(tmp_path: Path, seen: Recorder) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, pem in zip((cert, key), make_self_signed(NAMED), strict=True):
        path.write_bytes(pem)
    loaded = settings_of(
        tmp_path, server__tls__cert=cert, server__tls__key=key, server__allowed_hosts="x.other.example"
    )
    hosts = Hosts(loaded.settings, auth=True)
    async with listening(web.Application(), LiveSettings(loaded), seen, Admission(loaded.settings), hosts) as found:
        for name in ("agent.example", "agent.example:8443", "AGENT.example".lower(), "big.example", "x.other.example"):
            hosts.check(name)
        for name in ("y.agent.example", "y.other.example", "third.example", "www.third.example", "evil.example", "*"):
            with pytest.raises(ForbiddenError):
                hosts.check(name)
        ignored = [event.reason.split()[2] for event in seen.of(SettingIgnored)]
        assert ignored == ["*", "*.agent.example", "w*.third.example"], "somebody who uses one is named already"
        for path, pem in zip((cert, key), make_self_signed(["new.example"]), strict=True):
            path.write_bytes(pem)
        assert found.tls is not None
        found.tls.use(found.tls.read(loaded.settings.server.tls, []))
        adopt(found.tls, hosts, seen)
        hosts.check("new.example")
        with pytest.raises(ForbiddenError):
            hosts.check("agent.example")


async def test_a_certificate_that_the_server_has_made_adds_no_names(tmp_path: Path, seen: Recorder) -> None:
    """It stays in use when a name is taken out of the settings."""
    for names in (["once.example"], []):
        loaded = settings_of(tmp_path, server__allowed_hosts=names)
        hosts = Hosts(loaded.settings, auth=True)
        async with listening(web.Application(), LiveSettings(loaded), seen, Admission(loaded.settings), hosts) as found:
            assert found.tls is not None
            assert "once.example" in found.tls.certificate.names
            if names:
                hosts.check("once.example")
            else:
                with pytest.raises(ForbiddenError):
                    hosts.check("once.example")


def test_without_tokens_a_certificate_adds_no_names() -> None:
    hosts = Hosts(Settings(), auth=False)
    assert hosts.certify(["agent.example", "*.agent.example"]) == []
    with pytest.raises(ForbiddenError):
        hosts.check("agent.example")


async def test_a_process_of_another_user_is_told_as_far_as_it_may_be_known(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        absent("root, to be somebody else")
    async with held_port() as (port, _):
        code = SOMEBODY.format(uid=NOBODY, port=port)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(DEADLINE_SECONDS):
            said, _ = await process.communicate()
    assert said.decode().strip() == "a process of another user"


@pytest.mark.parametrize("setting", ["server.port", "metrics.port"])
async def test_a_server_that_cannot_listen_says_why_and_ends(tmp_path: Path, setting: str) -> None:
    async with held_port() as (port, pid):
        metrics_port = port if setting == "metrics.port" else free_port()
        env = {
            "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
            "PA_METRICS_ENABLED": "true",
            "PA_METRICS_PORT": str(metrics_port),
        }
        server = ServerProcess(tmp_path, env=env)
        if setting == "server.port":
            server.port = port
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pocket_agent.cli",
            "serve",
            f"--port={server.port}",
            f"--data-dir={server.data_dir}",
            "--no-tls",
            env={"PATH": os.environ["PATH"], "HOME": str(server.home), **server.env},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            _, said = await process.communicate()
        assert process.returncode == 1
        text = said.decode()
        assert "Traceback" not in text
        for part in (f"Port {port}", f"process {pid}", setting):
            assert part in text
