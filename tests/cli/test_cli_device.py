"""`pocket-agent devices`: who may connect."""

import sys
from pathlib import Path

import pytest

from pocket_agent.cli.main import main
from pocket_agent.client import Client
from pocket_agent.errors import ForbiddenError, UnauthorizedError
from tests.harness.server import ServerProcess, running_server, write_standin


class Commands:
    """Calls `pocket-agent devices` on one data directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.data_dir = data_dir

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """The exit status and what was printed, on both streams."""
        argv = ["pocket-agent", "devices", *arguments, f"--data-dir={self.data_dir}"]
        self._monkeypatch.setattr(sys, "argv", argv)
        self._capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    """The commands, with no settings but the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return Commands(monkeypatch, capsys, tmp_path / "data")


def test_a_device_is_added_listed_renamed_rotated_and_revoked(devices: Commands) -> None:
    _, token, _ = devices("add", "phone", "--print-token")
    assert token.startswith("pa_")
    assert token.count("\n") == 1
    _, listed, _ = devices("list")
    assert listed.split("\t")[0] == "phone"
    assert listed.rstrip().endswith("last seen never\tmay do everything")
    assert devices("rename", "phone", "kitchen") == (0, "phone is now called kitchen.\n", "")
    _, other, _ = devices("rotate", "kitchen", "--print-token")
    assert other.startswith("pa_")
    assert other != token
    assert devices("revoke", "kitchen") == (0, "kitchen may no longer connect.\n", "")
    assert devices("list") == (0, "", "")


def test_a_token_for_people_says_what_it_is(devices: Commands) -> None:
    _, said, _ = devices("add", "my phone")
    assert said.startswith("Token of my phone (shown once): pa_")


def test_what_a_device_may_do_is_listed(devices: Commands) -> None:
    devices("add", "viewer", "--view-only")
    assert devices("list")[1].rstrip().endswith("only watches")


@pytest.mark.parametrize("command", ["revoke", "rotate", "rename"])
def test_a_name_that_is_nobodys(devices: Commands, command: str) -> None:
    status, out, said = devices(command, "nobody", *(["x"] if command == "rename" else []))
    assert (status, out) == (1, "")
    assert "There is no device named 'nobody'" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "phone"], "already"),
        (["add", "\x1b[31mred"], "printable"),
        (["add", "x\ny"], "printable"),
        (["add", "\u202egnp"], "printable"),
        (["add", "x" * 101], "printable"),
        (["rename", "phone", "other"], "already"),
        (["rename", "phone", "\x07"], "printable"),
        (["add", "guest", "--project", "nothing"], "No project"),
    ],
)
def test_what_cannot_be_is_said_and_disturbs_no_terminal(devices: Commands, arguments: list[str], says: str) -> None:
    devices("add", "phone")
    devices("add", "other")
    status, out, said = devices(*arguments)
    assert (status, out) == (1, "")
    assert says in said
    assert said.rstrip("\n").isprintable()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory for a project."""
    made = tmp_path / "work"
    made.mkdir()
    return made


async def refused(server: ServerProcess, token: str) -> bool:
    """Whether the server does not know this token."""
    try:
        async with Client(server.url, token=token) as client:
            await client.projects()
    except UnauthorizedError:
        return True
    return False


async def test_commands_count_at_once_in_a_running_server(devices: Commands, tmp_path: Path, folder: Path) -> None:
    environment = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=environment) as server, server.client() as client:
        project = await client.create_project(str(folder))
        _, guest, _ = devices("add", "guest", "--view-only", f"--project={folder}", "--print-token")
        async with Client(server.url, token=guest.strip()) as viewer:
            assert [found.id for found in await viewer.projects()] == [project.id]
            with pytest.raises(ForbiddenError):
                await viewer.execute(project.id, "one")
        listed = devices("list")[1]
        assert "from 127.0.0.1\tonly watches; sees only work" in listed
        _, renewed, _ = devices("rotate", "guest", "--print-token")
        assert await refused(server, guest.strip())
        assert not await refused(server, renewed.strip())
        devices("revoke", "guest")
        assert await refused(server, renewed.strip())
