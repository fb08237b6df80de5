"""`pocket-agent pair`: links that let devices in."""

import ipaddress
import sys
from pathlib import Path

import aiohttp
import pytest

from pocket_agent.cli.main import main
from pocket_agent.cli.pair import LIMITED_HINT, qr_code
from pocket_agent.server.address import page_urls, reachable_hosts
from pocket_agent.settings import load_settings
from tests.harness.server import ServerProcess, running_server, write_standin


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Call `pocket-agent`; its exit status."""
    monkeypatch.setattr(sys, "argv", ["pocket-agent", *arguments])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_a_link_for_scripts_is_all_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "pair", f"--data-dir={tmp_path / 'data'}") == 0
    link, end = capsys.readouterr().out.split("\n")
    assert end == ""
    assert link.startswith("https://127.0.0.1:8443/pair#")
    assert len(link.partition("#")[2].replace("-", "")) == 12
    database = (tmp_path / "data" / "pocket-agent.db").read_bytes()
    wal = tmp_path / "data" / "pocket-agent.db-wal"
    assert link.partition("#")[2].encode() not in database + (wal.read_bytes() if wal.exists() else b"")


@pytest.mark.parametrize(
    ("setting", "value", "reaches"),
    [
        ("PA_SERVER_HOST", "127.0.0.1", False),
        ("PA_SERVER_HOST", "192.0.2.7", True),
        ("PA_SERVER_PUBLIC_URL", "https://agent.example", True),
    ],
)
def test_people_are_told_when_no_other_device_reaches_the_link(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    setting: str,
    value: str,
    reaches: bool,
) -> None:
    monkeypatch.setenv(setting, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert call(monkeypatch, "pair", f"--data-dir={tmp_path / 'data'}") == 0
    said = capsys.readouterr().out
    assert "It works once, within 5 minutes" in said
    assert "\x1b[97;40m" in said, "a QR code"
    assert LIMITED_HINT not in said
    assert ("Only this machine reaches" in said) is not reaches


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--name", " "], "1 to 100 printable"),
        (["--name", "\x1b[31m"], "1 to 100 printable"),
        (["--project", "nothing"], "No project is called 'nothing'"),
    ],
)
def test_what_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], says: str
) -> None:
    assert call(monkeypatch, "pair", f"--data-dir={tmp_path / 'data'}", *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err


def test_a_qr_code_is_light_on_dark_and_leaves_the_colours_as_they_were() -> None:
    lines = qr_code("https://127.0.0.1:8443/pair#0000-0000-0000").splitlines()
    assert len(lines) > 10
    assert all(line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m") for line in lines)


def test_links_begin_with_the_best_address_for_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = load_settings(config=None, environ={}, flags={"server.host": "0.0.0.0"}).settings
    named = load_settings(
        config=None, environ={}, flags={"server.public_url": "https://Agent.example/", "server.host": "::1"}
    ).settings
    assert page_urls(named, 443, None) == ["https://agent.example", "https://[::1]"]
    monkeypatch.setattr(
        "pocket_agent.server.address._interface_addresses",
        lambda: map(ipaddress.ip_address, ("127.0.0.1", "::1", "172.17.0.1", "192.168.1.5", "2001:db8::5")),
    )
    monkeypatch.setattr("pocket_agent.server.address._outward_addresses", lambda: {ipaddress.ip_address("192.168.1.5")})
    assert page_urls(wide, 8443, "http://127.0.0.1:8080") == [
        "https://192.168.1.5:8443",
        "https://172.17.0.1:8443",
        "https://127.0.0.1:8443",
        "http://pocket-agent.localhost:8080",
    ]
    assert reachable_hosts("::") == ["192.168.1.5", "172.17.0.1", "2001:db8::5", "127.0.0.1", "::1"]
    assert reachable_hosts("192.168.1.5") == ["192.168.1.5"]
    assert reachable_hosts("box.local") == ["box.local"]


async def pair(server: ServerProcess, link: str) -> dict[str, object]:
    """Redeem a link as a program."""
    body = {"code": link.partition("#")[2], "name": "phone", "token": True}
    url = f"http://127.0.0.1:{server.port}/api/pair"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, object] = await answer.json()
    return found


async def test_a_code_made_beside_a_running_server_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}) as server:
        async with server.client() as client:
            project = await client.create_project(str(folder))
        arguments = [f"--data-dir={server.data_dir}", "--name=kitchen", "--view-only", f"--project={folder}"]
        assert call(monkeypatch, "pair", *arguments) == 0
        device = (await pair(server, capsys.readouterr().out.strip()))["device"]
        assert isinstance(device, dict)
        assert device | {"id": ""} == {"id": "", "name": "kitchen", "view_only": True, "projects": [project.id]}
        # To a person it says what a device of some projects can do all the same.
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        for flags, says in (([], True), (["--view-only"], False)):
            assert call(monkeypatch, "pair", f"--data-dir={server.data_dir}", f"--project={folder}", *flags) == 0
            assert (LIMITED_HINT in capsys.readouterr().out) is says


async def test_the_first_start_prints_a_token_and_links_to_pair(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    for file in server.data_dir.iterdir():
        file.unlink()  # the harness has let a device in already
    try:
        await server.start()
        kept = (server.data_dir / "first-device.txt").read_text()  # standard error is no terminal
        shown = [line.split()[-1] for line in kept.splitlines() if "pair a device" in line]
        assert shown[0].startswith(f"http://127.0.0.1:{server.port}/pair#")
        assert "token (shown once)" in kept
        assert "\x1b" not in server.log, "no QR code where nobody can see it"
        assert (await pair(server, shown[0]))["token"]
        await server.stop()
        await server.start()
        assert "/pair#" not in server.log
        assert "another device        pocket-agent pair" in server.log
    finally:
        await server.clean_up()
