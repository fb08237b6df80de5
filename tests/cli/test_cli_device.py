"""`pocket-agent devices`: who may connect."""

import asyncio
import io
import json
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from pocket_agent.cli.device import show
from pocket_agent.cli.main import main
from pocket_agent.cli.pair import pair
from pocket_agent.client import Client
from pocket_agent.errors import ForbiddenError, UnauthorizedError
from pocket_agent.server.auth import new_device
from pocket_agent.settings import load_settings
from pocket_agent.storage import add_device, connection_beside, device_named
from pocket_agent.storage.database import database_path
from tests.harness.follow import eventually
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


def test_devices_are_a_table_for_people(devices: Commands) -> None:
    devices("add", "phone")
    devices("add", "viewer", "--view-only")
    loaded = load_settings(config=None, environ={}, flags={"data.dir": devices.data_dir})
    shown = io.StringIO()
    show(loaded, as_json=False, console=Console(file=shown, force_terminal=True, width=120))
    rows = [[part.strip() for part in line.split("│")[1:-1]] for line in shown.getvalue().splitlines() if "│" in line]
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("phone", "never", "may do everything"),
        ("viewer", "never", "only watches"),
    ]


def test_where_there_are_none_people_are_told_how_to_begin(devices: Commands) -> None:
    loaded = load_settings(config=None, environ={}, flags={"data.dir": devices.data_dir})
    shown = io.StringIO()
    show(loaded, as_json=False, console=Console(file=shown, force_terminal=True, color_system=None, width=120))
    assert "pocket-agent pair" in shown.getvalue()


def test_devices_are_json_for_programs(devices: Commands) -> None:
    _, token, _ = devices("add", "viewer", "--view-only", "--print-token")
    _, listed, _ = devices("list", "--json")
    (found,) = json.loads(listed)["devices"]
    assert found | {"id": "", "created_at": ""} == {
        "id": "",
        "name": "viewer",
        "created_at": "",
        "last_seen": None,
        "last_address": None,
        "view_only": True,
        "projects": None,
        "paired_by": None,
        "credential": "token",
        "bound": False,
    }
    assert json.loads(listed)["pairings"] == []
    assert token.strip() not in listed


@pytest.mark.parametrize(
    ("typed", "says"),
    [("Phone", "'phone'?"), ("phome", "'phone'?"), ("x", "devices list"), ("\x1b[31m", "devices list")],
)
def test_a_name_that_is_nearly_somebodys_revokes_nobody(devices: Commands, typed: str, says: str) -> None:
    devices("add", "phone")
    devices("add", "desk")
    status, _, said = devices("revoke", typed)
    assert status == 1
    assert says in said
    assert said.rstrip("\n").isprintable()
    assert len(devices("list")[1].splitlines()) == 2


def test_names_that_differ_in_their_case_are_two(devices: Commands) -> None:
    devices("add", "phone")
    devices("add", "PHONE")
    assert "'phone' or 'PHONE'?" in devices("revoke", "Phone")[2]
    devices("revoke", "PHONE")
    assert devices("list")[1].startswith("phone\t")


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
        async with Client(server.url, token=guest.strip()) as viewer:
            await viewer.projects()
            _, renewed, _ = devices("rotate", "guest", "--print-token")
            await eventually(lambda: not viewer.online, "what the old token has opened is closed")
        assert await refused(server, guest.strip())
        async with Client(server.url, token=renewed.strip()) as viewer:
            await viewer.projects()
            devices("revoke", "guest")
            await eventually(lambda: not viewer.online, "the connections of the revoked device are closed")
        assert await refused(server, renewed.strip())


async def test_the_name_of_a_project_disturbs_no_terminal(devices: Commands, tmp_path: Path, folder: Path) -> None:
    """Who may make projects chooses how their directories are called."""
    hostile = folder / "\x1b]0;title\x07\x1b[2Jred\nnext\u202e"
    hostile.mkdir()
    environment = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=environment) as server, server.client() as client:
        project = await client.create_project(str(hostile))
    devices("add", "guest", f"--project={project.id}")
    status, listed, _ = devices("list")
    assert status == 0
    assert len(listed.splitlines()) == 2
    assert all(part.isprintable() for line in listed.split("\n") for part in line.split("\t"))
    assert "sees only" in listed


async def test_a_revoked_devices_prompts_are_named_withdrawn_and_killed(
    devices: Commands, tmp_path: Path, folder: Path
) -> None:
    environment = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=environment) as server, server.client() as client:
        project = await client.create_project(str(folder))
        for name, flags in (("one", ()), ("two", ("--kill",))):
            _, token, _ = devices("add", name, "--print-token")
            async with Client(server.url, token=token.strip()) as phone:
                running = await phone.execute(project.id, "sleep 600")
                queued = await phone.execute(project.id, "print later")
            status, said, printed = await asyncio.to_thread(devices, "revoke", name, *flags)
            assert (status, said) == (0, f"{name} may no longer connect.\n")
            assert running.execution_id in printed
            assert ("Killed in work" in printed) == bool(flags), printed
            if not flags:
                assert "Still running in work" in printed
                assert "sleep 600" in printed
                await client.kill(project.id)

            async def over() -> bool:
                page = await client.executions(project.id)
                found = {one.execution_id: one.status for one in page.executions}
                assert found[queued.execution_id] != "running", "it never starts"  # noqa: B023 - awaited at once
                return found[queued.execution_id] in {"cancelled", "error"} and found[running.execution_id] in {  # noqa: B023 - awaited at once
                    "killed",
                    "error",
                    "cancelled",  # paused, since its process was lost, and withdrawn with its device
                }

            await eventually(over, "both are over")
    _, printed, _ = devices("list")
    assert "one" not in printed


def test_the_devices_that_it_let_in_are_named_or_revoked(devices: Commands) -> None:
    for name, flags in (("one", ()), ("two", ("--paired",))):
        devices("add", name)
        with connection_beside(database_path(devices.data_dir)) as connection:
            maker = device_named(connection, name)
            assert maker is not None
            guest, _ = new_device(f"guest of {name}")
            add_device(connection, msgspec.structs.replace(guest, paired_by=maker.id))
        status, said, printed = devices("revoke", name, *flags)
        assert status == 0
        listed = devices("list")[1]
        if flags:
            assert said == f"{name} may no longer connect.\nguest of {name} may no longer connect.\n"
            assert f"guest of {name}" not in listed
        else:
            assert f"It paired: guest of {name}." in printed
            assert listed.startswith(f"guest of {name}\t")
            devices("revoke", f"guest of {name}")


def test_an_open_code_is_listed_and_cancelled(devices: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    devices("list")
    loaded = load_settings(config=None, environ={}, flags={"data.dir": devices.data_dir})
    pair(loaded, name="tablet", view_only=True, wanted=())
    _, listed, _ = devices("list")
    words = listed.split("\t")
    assert words[0].startswith("open code ")
    assert words[1] == "made on this machine"
    code = words[0].removeprefix("open code ")
    (found,) = json.loads(devices("list", "--json")[1])["pairings"]
    assert (found["id"], found["name"], found["view_only"], found["made_by"]) == (code, "tablet", True, None)
    assert devices("cancel", code) == (0, f"The pairing code {code} is void.\n", "")
    assert devices("list") == (0, "", "")
    assert devices("cancel", code)[0] == 1


def test_commands_are_carried_out_when_the_audit_log_cannot_be_written(devices: Commands) -> None:
    """A new token is shown, which is stored nowhere, and all paired devices are revoked."""
    log = devices.data_dir / "audit.log"
    log.mkdir(parents=True)
    for action in ("add", "rotate"):
        status, token, said = devices(action, "one", "--print-token")
        assert (status, token[:3], "Is a directory" in said) == (0, "pa_", True)
    with connection_beside(database_path(devices.data_dir)) as connection:
        maker = device_named(connection, "one")
        assert maker is not None
        second, _ = new_device("second")
        add_device(connection, msgspec.structs.replace(second, paired_by=maker.id))
    status, printed, said = devices("revoke", "one", "--paired")
    assert (status, printed.count("may no longer connect"), "Is a directory" in said) == (0, 2, True)
    with connection_beside(database_path(devices.data_dir)) as connection:
        assert device_named(connection, "second") is None
