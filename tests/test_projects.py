"""Which directories can be projects, and what creating and deleting them does."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from pocket_agent import projects
from pocket_agent.errors import (
    FileOperationError,
    InvalidPathError,
    ProjectExistsError,
    ProjectLimitError,
    ProjectNestingError,
    ProjectNotFoundError,
)
from pocket_agent.events import ProjectCreated, ProjectDeleted
from pocket_agent.protocol.requests import WorktreeRequest
from pocket_agent.settings import load_settings
from pocket_agent.storage import Change
from pocket_agent.storage.retention import SettledClock
from tests.harness.absence import absent
from tests.harness.repository import git, repository
from tests.server.room import Room, open_room, until


async def refused(room: Room, path: str, error: type[Exception], says: str | None = None) -> None:
    """The path cannot be a project."""
    before = len(room.projects)
    with pytest.raises(error, match=says):
        await room.projects.create(path)
    assert len(room.projects) == before


async def test_a_directory_becomes_a_project(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        folder = tmp_path / "some project"
        folder.mkdir()
        session = await room.projects.create(str(folder))
        project = session.state.record
        assert (project.path, project.real_path, project.name) == (str(folder), str(folder), "some project")
        assert (project.head, project.first, project.session_id) == (0, 1, None)
        assert room.projects.get(project.id) is session
        assert room.projects.all() == [session]
        assert await room.store.conversations() == [project]
        assert [event.project_id for event in room.seen.of(ProjectCreated)] == [project.id]


@pytest.mark.parametrize("ending", ["", "/", "/.", "/./", "//", "/../project", "/sub/.."])
async def test_the_path_is_kept_byte_for_byte_and_resolved_for_use(tmp_path: Path, ending: str) -> None:
    base = tmp_path / "base"
    (base / "project" / "sub").mkdir(parents=True)
    async with open_room(tmp_path) as room:
        path = f"{base}/project{ending}"
        project = (await room.projects.create(path)).state.record
        assert project.path == path
        assert project.real_path == os.path.realpath(path)
        assert (await room.store.conversations())[0].path == path


@pytest.mark.parametrize(
    "path",
    ["", "project", "./project", "../project", "~/project", "C:\\project", "file:///tmp", "/tmp\0", "\0/tmp", "\n/tmp"],
)
async def test_a_path_that_is_not_absolute(tmp_path: Path, path: str) -> None:
    async with open_room(tmp_path) as room:
        await refused(room, path, InvalidPathError, "absolute")


async def test_paths_that_are_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    async with open_room(tmp_path) as room:
        await refused(room, f"{tmp_path}/missing", InvalidPathError, "no such directory")
        await refused(room, f"{tmp_path}/dangling", InvalidPathError, "no such directory")
        await refused(room, f"{tmp_path}/file", InvalidPathError, "not a directory")
        await refused(room, f"{tmp_path}/pipe", InvalidPathError, "not a directory")
        for path in ("loop", "file/x", "x" * 5000, "x" * 300, "\udcff", "\ud800"):
            await refused(room, f"{tmp_path}/{path}", InvalidPathError)


async def test_a_name_that_is_not_utf8_is_refused_and_not_half_made(tmp_path: Path) -> None:
    """The wire cannot carry it, but a symlink can lead there."""
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102 - pathlib takes no bytes
    (tmp_path / "link").symlink_to(tmp_path / "\udcff")
    async with open_room(tmp_path) as room:
        await refused(room, f"{tmp_path}/\udcff", InvalidPathError, "UTF-8")
        await refused(room, f"{tmp_path}/link", InvalidPathError, "UTF-8")
        assert await room.store.conversations() == []


async def test_no_duplicates_however_they_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "chain").symlink_to("link")
    async with open_room(tmp_path) as room:
        first = (await room.projects.create(str(folder))).state.record
        for path in (folder, f"{folder}/", tmp_path / "link", tmp_path / "chain", f"/{folder}", f"{folder}/../project"):
            with pytest.raises(ProjectExistsError) as caught:
                await room.projects.create(str(path))
            assert caught.value.details == {"project_id": first.id}


async def test_a_symlink_is_resolved_once_and_for_all(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    async with open_room(tmp_path) as room:
        project = (await room.projects.create(str(link))).state.record
        assert (project.path, project.real_path, project.name) == (str(link), str(folder), "project")
        link.unlink()
        assert room.projects.get(project.id).state.record.real_path == str(folder)
        await refused(room, str(folder), ProjectExistsError)


async def test_no_nesting_in_either_direction(tmp_path: Path) -> None:
    middle = tmp_path / "outer" / "middle"
    (middle / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(middle / "inner")
    beside = tmp_path / "outer" / "middle-beside"
    beside.mkdir()
    async with open_room(tmp_path) as room:
        project = (await room.projects.create(str(middle))).state.record
        for path in (tmp_path / "outer", middle / "inner", tmp_path / "link"):
            with pytest.raises(ProjectNestingError) as caught:
                await room.projects.create(str(path))
            assert caught.value.details == {"project_id": project.id}
        await room.projects.create(str(beside))


async def test_allowed_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "project", root / "other", outside, tmp_path / "root-beside"):
        folder.mkdir(parents=True)
    (root / "escape").symlink_to(outside)
    (outside / "back").symlink_to(root / "other")
    (tmp_path / "alias").symlink_to(root)
    async with open_room(tmp_path, projects__allowed_roots=[str(tmp_path / "alias")]) as room:
        for path in (outside, root / "escape", f"{root}/../outside", tmp_path / "root-beside", tmp_path, "/"):
            await refused(room, str(path), InvalidPathError, "allowed_roots")
        await room.projects.create(str(root / "project"))
        await room.projects.create(str(outside / "back"))
        await refused(room, str(root), ProjectNestingError)


async def test_the_servers_own_data_is_no_project(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        (tmp_path / "data" / "inner").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "data")
        for path in (".", "/", "data", "data/inner", "link", "link/inner"):
            await refused(room, str(tmp_path / path), InvalidPathError, "data directory")


async def test_a_directory_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says to every user but root, who runs tests in containers."""
    (tmp_path / "closed").mkdir()
    async with open_room(tmp_path) as room:
        monkeypatch.setattr("pocket_agent.directory.os.access", lambda path, _: path.name != "closed")
        await refused(room, f"{tmp_path}/closed", InvalidPathError, "may not be entered")


async def test_the_limit(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_projects=2) as room:
        first = await room.project("one")
        await room.project("two")
        (tmp_path / "three").mkdir()
        await refused(room, f"{tmp_path}/three", ProjectLimitError, "max_projects")
        await room.projects.delete(first.state.record.project_id)
        await room.projects.create(f"{tmp_path}/three")


async def test_deleting_leaves_the_directory_and_forgets_the_log(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        session = await room.project(entries=5)
        (tmp_path / "project" / "file").write_text("mine")
        project = session.state.record
        await room.projects.delete(project.project_id)
        assert (tmp_path / "project" / "file").read_text() == "mine"
        assert await room.store.conversations() == []
        assert project.id not in room.hub.channels
        assert [event.project_id for event in room.seen.of(ProjectDeleted)] == [project.id]
        with pytest.raises(ProjectNotFoundError):
            room.projects.get(project.id)
        with pytest.raises(ProjectNotFoundError):
            await room.projects.delete(project.project_id)


async def test_a_project_that_is_made_again_is_another_one(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        old = (await room.project(entries=5)).state.record
        await room.projects.delete(old.project_id)
        new = (await room.project()).state.record
        assert new.id != old.id
        assert new.epoch != old.epoch
        assert (new.head, new.first) == (0, 1)
        assert await room.store.read(new, after=0, limit=10, max_bytes=1000) == []


async def test_a_create_that_cannot_be_stored_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: Change) -> None:
        raise FileOperationError("The disk is full.")

    async with open_room(tmp_path) as room:
        (tmp_path / "project").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(room.store, "commit", refuse)
            await refused(room, f"{tmp_path}/project", FileOperationError)
        await room.project()


async def test_a_delete_that_cannot_be_stored_leaves_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise FileOperationError("The disk is full.")

    async with open_room(tmp_path) as room:
        session = await room.project(entries=1)
        project_id = session.state.record.project_id
        with monkeypatch.context() as patch:
            patch.setattr(room.store, "delete_project", refuse)
            with pytest.raises(FileOperationError):
                await room.projects.delete(project_id)
        assert room.projects.get(project_id) is session
        async with room.wire() as wire:
            started = await wire.ask("execute", {"prompt": "hello"}, project_id=project_id)
            assert started["type"] == "execute", "it works as before"
            await wire.ask("agent_kill", project_id=project_id)
        await room.projects.delete(project_id)
        assert await room.store.conversations() == []


async def test_projects_come_back_after_a_restart_in_the_order_of_their_creation(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        names = ["b", "a", "c"]
        made = [(await room.project(name, entries=2)).state.record for name in names]
    async with open_room(tmp_path) as again:
        assert [session.state.record for session in again.projects.all()] == made
        assert [session.state.log.channel.head for session in again.projects.all()] == [2, 2, 2]


async def test_a_clock_that_jumps_does_not_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 days forward for a few seconds, with logs that keep 90."""
    ahead, read = [0.0], asyncio.Event()

    def wall() -> float:
        read.set()
        return time.time() + ahead[0]

    monkeypatch.setattr(projects, "_RETENTION_SECONDS", 0.01)
    monkeypatch.setattr(projects, "SettledClock", lambda known: SettledClock(known, wall=wall))
    async with open_room(tmp_path) as room:
        session = await room.project(entries=10)
        for jump in (0.0, 100 * 86_400.0, 0.0):
            ahead[0] = jump
            for _ in range(2):  # the second reading comes after the pruning by the first
                read.clear()
                await asyncio.wait_for(read.wait(), 60)
        assert session.state.record.first == 1
        assert len(await room.store.read(session.state.record, after=0, limit=20, max_bytes=2**20)) == 10


async def test_retention_settings_take_effect_on_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "_RETENTION_SECONDS", 0.01)
    async with open_room(tmp_path) as room:
        session = await room.project(entries=10)
        changed = load_settings(config=None, environ={}, flags={"data.dir": tmp_path, "storage.max_entries": 3})
        room.live.loaded = changed
        await until(lambda: session.state.record.first > 1)


def _mount(*arguments: str | Path) -> bool:
    return subprocess.run(arguments, check=False).returncode == 0


async def test_a_directory_under_a_second_path_is_the_same(tmp_path: Path) -> None:
    """By a bind mount of itself, of one around it, or of one inside it."""
    for name in ("around/project/inside", "free", "self", "outer", "inner", "room"):
        (tmp_path / name).mkdir(parents=True)
    mounts = {"self": "around/project", "outer": "around", "inner": "around/project/inside"}
    mounted: list[Path] = []
    try:
        for point, source in mounts.items():
            if not _mount("mount", "--bind", tmp_path / source, tmp_path / point):
                absent("mount --bind")
            mounted.append(tmp_path / point)
        (tmp_path / "link").symlink_to(tmp_path / "around/project")
        async with open_room(tmp_path / "room") as room:
            await room.projects.create(str(tmp_path / "around/project"))
            for path in ("self", "outer/project", "link"):
                with pytest.raises(ProjectExistsError):
                    await room.projects.create(str(tmp_path / path))
            for path in ("outer", "inner", "self/inside", "outer/project/inside"):
                with pytest.raises(ProjectNestingError):
                    await room.projects.create(str(tmp_path / path))
            await room.projects.create(str(tmp_path / "free"))
    finally:
        for point_path in reversed(mounted):
            assert _mount("umount", point_path)


async def test_the_settings_of_a_worktree_are_compared_with_the_accepted_ones(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / ".claude").mkdir(parents=True)
    (folder / ".claude" / "settings.json").write_text('{"permissions": {"allow": ["Bash(ls)"]}}')
    repository(folder)
    git(folder, "add", ".claude")
    git(folder, "commit", "--quiet", "--message=settings")
    async with open_room(tmp_path) as room:
        project = (await room.projects.create(str(folder))).state.record
        other = await room.projects.begin(project.project_id, worktree=WorktreeRequest())
        worktree = other.state.record.path
        at, found = await room.projects.inspect(worktree)
        assert (at, len(found.claims), found.new) == (worktree, 1, 0)
        changed = '{"permissions": {"allow": ["Bash(ls)", "Bash(rm)"]}}'
        (Path(worktree) / ".claude" / "settings.json").write_text(changed)
        _, found = await room.projects.inspect(worktree)
        assert (len(found.claims), found.new) == (2, 1)
