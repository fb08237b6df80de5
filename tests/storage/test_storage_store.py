"""The store as its callers see it: what goes in comes out, whole or not at all."""

import asyncio
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from pocket_agent.errors import (
    FileOperationError,
    InternalError,
    ProjectExistsError,
    ProjectNotFoundError,
    ValidationError,
)
from pocket_agent.model import (
    ApprovalId,
    ApprovalStatus,
    ConversationRecord,
    Device,
    ExecutionId,
    ExecutionStatus,
    Milliseconds,
    ProjectState,
    project_of,
)
from pocket_agent.storage import Change, Store
from tests.harness import DEADLINE_SECONDS
from tests.storage.sample import (
    BIG,
    approval,
    create,
    entry,
    execution,
    grown,
    modes,
    new_project,
    offsets,
    open_to_all,
    process,
    session,
    stored,
)


async def test_a_project_comes_back_as_it_was_stored(store: Store) -> None:
    project = msgspec.structs.replace(
        new_project(await store.next_project_number()),
        path="/srv/caf\u00e9 \udcff\x00",
        real_path="/real/\udcfe",
        name="\udcfe",
        session_id="s1",
        model="opus",
        permission_mode="plan",
        fork=True,
    )
    await store.commit(Change(record=project))
    assert await store.conversations() == [project]
    moved = msgspec.structs.replace(
        project,
        state=ProjectState.ERROR,
        session_id=None,
        epoch="fedc9876",
        model=None,
        fork=False,
        last_active=Milliseconds(99),
        head=1,
    )
    await store.commit(Change(record=moved, entries=(entry(1),)))
    assert await store.conversations() == [moved]


async def test_every_part_of_a_change_comes_back(store: Store) -> None:
    project = await create(store)
    ran = execution(project, 1, ExecutionStatus.SUCCESS, started_at=Milliseconds(3), waited_ms=4)
    waits = execution(project, 3, ExecutionStatus.QUEUED, prompt_id=None)
    runs = execution(project, 2, ExecutionStatus.RUNNING, spool_offset=12)
    asked = approval(project, "a1", ApprovalStatus.PENDING, execution_id=None)
    given = approval(project, "a2", ApprovalStatus.ALLOWED, answer=b"{}", by="x", resolved_at=Milliseconds(8))
    taken = approval(project, "a3", ApprovalStatus.DENIED, answer=b"{}", delivered=True)
    gone = approval(project, "a4", ApprovalStatus.CANCELLED)
    await store.commit(
        Change(
            executions=(ran, waits, runs),
            approvals=(asked, given, taken, gone),
            process=process(project, consumed=77),
            sessions=(session(project, "old", 1), session(project, "new", 2)),
        )
    )
    assert await store.open_executions(project.id) == [runs, waits]
    assert await store.execution(ran.id) == ran
    assert await store.execution_by_prompt(project.id, "prompt-1") == ran
    assert await store.open_approvals(project.id) == [asked, given]
    assert await store.approval(project.id, taken.id) == taken
    assert await store.process(project.id) == process(project, consumed=77)
    assert [found.id for found in await store.sessions(project.project_id)] == ["new", "old"]
    assert await store.sessions(project.project_id, limit=1) == [session(project, "new", 2)]
    assert await store.session(project.project_id, "old") == session(project, "old", 1)


async def test_what_is_stored_again_is_updated(store: Store) -> None:
    project = await create(store)
    first = execution(project, 1, ExecutionStatus.QUEUED)
    asked = approval(project, "a", ApprovalStatus.PENDING)
    await store.commit(
        Change(
            executions=(first,),
            approvals=(asked,),
            process=process(project),
            sessions=(session(project, "s", 1),),
        )
    )
    done = msgspec.structs.replace(first, status=ExecutionStatus.SUCCESS, prompt="edited", finished_at=Milliseconds(9))
    answered = msgspec.structs.replace(asked, status=ApprovalStatus.ALLOWED, delivered=True)
    await store.commit(
        Change(
            executions=(done,),
            approvals=(answered,),
            process=process(project, consumed=5),
            sessions=(session(project, "s", 2),),
        )
    )
    assert await store.execution(first.id) == done
    assert await store.open_executions(project.id) == []
    assert await store.approval(project.id, asked.id) == answered
    assert await store.open_approvals(project.id) == []
    assert await store.process(project.id) == process(project, consumed=5)
    assert await store.sessions(project.project_id) == [session(project, "s", 2)]
    await store.commit(Change(ended_process="proc"))
    assert await store.process(project.id) is None


async def test_what_is_not_there_is_none(store: Store) -> None:
    nobody = project_of("nobody")
    assert await store.execution(ExecutionId("x")) is None
    assert await store.execution_by_prompt(nobody, "x") is None
    assert await store.approval(nobody, ApprovalId("x")) is None
    assert await store.process(nobody) is None
    assert await store.session(nobody, "x") is None
    assert await store.offset_at(new_project(9), Milliseconds(5)) == 0


async def test_all_is_there_in_the_next_run(database: Path) -> None:
    store = Store.open(database)
    project = await create(store, entries=3)
    await store.close()
    again = Store.open(database)
    assert await again.conversations() == [project]
    assert await offsets(again, project) == [1, 2, 3]
    assert await again.next_project_number() == project.number + 1
    await again.close()
    assert not again.epochs_renewed


async def test_numbers_are_given_once(store: Store) -> None:
    numbers = await asyncio.gather(*(store.next_project_number() for _ in range(50)))
    assert sorted(numbers) == list(range(1, 51))


def _bad_changes(project: ConversationRecord) -> dict[str, Change]:
    replace = msgspec.structs.replace
    return {
        "entries without a project": Change(entries=(entry(4),)),
        "a gap before": Change(record=replace(project, head=5), entries=(entry(5),)),
        "a gap within": Change(record=replace(project, head=6), entries=(entry(4), entry(6))),
        "an overlap": Change(record=project, entries=(entry(3),)),
        "a head beyond": Change(record=replace(project, head=7), entries=(entry(4),)),
        "a head without entries": Change(record=replace(project, head=4)),
        "a head that goes back": Change(record=replace(project, head=2)),
        "another id": Change(record=replace(project, id=project_of("other"))),
        "another number": Change(record=replace(project, number=99)),
        "no number": Change(record=new_project(0, "none")),
        "a new log from the middle": Change(record=replace(new_project(50), head=3, first=4)),
        "another project's part": Change(
            record=project, executions=(execution(new_project(8), 1, ExecutionStatus.QUEUED),)
        ),
        "a prompt_id twice": Change(
            executions=(
                execution(project, 1, ExecutionStatus.QUEUED),
                execution(project, 2, ExecutionStatus.QUEUED, prompt_id="prompt-1"),
            )
        ),
    }


@pytest.mark.parametrize("name", list(_bad_changes(new_project(1))))
async def test_a_change_that_contradicts_the_store_leaves_no_trace(store: Store, name: str) -> None:
    project = await create(store, entries=3)
    bad = _bad_changes(project)[name]
    if bad.record is not None:
        bad = msgspec.structs.replace(bad, process=process(bad.record, consumed=1))
    with pytest.raises(InternalError):
        await store.commit(bad)
    assert await store.conversations() == [project]
    assert await offsets(store, project) == [1, 2, 3]
    assert await store.process(project.id) is None
    assert not await store.executions(project.id, before=None, limit=1)
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1, 2, 3, 4]


async def test_a_directory_is_one_project(store: Store) -> None:
    project = await create(store)
    twin = msgspec.structs.replace(new_project(await store.next_project_number()), real_path=project.real_path)
    with pytest.raises(ProjectExistsError):
        await store.commit(Change(record=twin))
    assert await store.conversations() == [project]


async def test_a_page_begins_and_ends_where_it_should(store: Store) -> None:
    project = await create(store, entries=50, size=100)

    async def after(offset: int, limit: int, max_bytes: int = BIG) -> list[int]:
        page = await store.read(project, after=offset, limit=limit, max_bytes=max_bytes)
        return [found.offset for found in page]

    async def before(offset: int, limit: int, max_bytes: int = BIG) -> list[int]:
        page = await store.read_before(project, before=offset, limit=limit, max_bytes=max_bytes)
        return [found.offset for found in page]

    assert await after(0, 3) == [1, 2, 3]
    assert await after(48, 10) == [49, 50]
    assert await after(50, 10) == []
    assert await after(-5, 2) == [1, 2]
    assert await after(10, 20, 350) == [11, 12, 13]
    assert await after(10, 20, 0) == [11]
    assert await after(10, -1) == [11]
    assert await after(2**70, 5) == []
    assert await after(-(2**70), 1) == [1]
    assert await before(10, 3) == [7, 8, 9]
    assert await before(3, 10) == [1, 2]
    assert await before(1, 10) == []
    assert await before(-3, 10) == []
    assert await before(2**70, 2) == [49, 50]
    assert await before(30, 20, 250) == [28, 29]
    assert await before(30, 20, 1) == [29]


async def test_a_page_is_of_its_own_project(store: Store) -> None:
    one = await create(store, "one", entries=3)
    two = await create(store, "two", entries=2)
    three = await create(store, "three", entries=4)
    assert await offsets(store, two) == [1, 2]
    assert [e.offset for e in await store.read_before(two, before=99, limit=99, max_bytes=BIG)] == [1, 2]
    assert await offsets(store, one) == [1, 2, 3]
    assert await offsets(store, three) == [1, 2, 3, 4]


async def test_data_comes_back_byte_for_byte(store: Store) -> None:
    project = await create(store)
    awkward = [b"", b"\x00", bytes(range(256)), b"\xff\xfe", "\u2028\U0001f600".encode(), b"x" * 200_000]
    entries = tuple(msgspec.structs.replace(entry(offset), data=data) for offset, data in enumerate(awkward, 1))
    await store.commit(Change(record=msgspec.structs.replace(project, head=len(entries)), entries=entries))
    assert await store.read(project, after=0, limit=99, max_bytes=BIG) == list(entries)


async def test_the_time_of_a_log_is_found(store: Store) -> None:
    project = await create(store)
    times = [10, 20, 20, 20, 30]
    entries = tuple(
        msgspec.structs.replace(entry(offset), timestamp=Milliseconds(time)) for offset, time in enumerate(times, 1)
    )
    await store.commit(Change(record=msgspec.structs.replace(project, head=5), entries=entries))
    found = {time: await store.offset_at(project, Milliseconds(time)) for time in (0, 10, 11, 20, 21, 30, 31)}
    assert found == {0: 0, 10: 0, 11: 1, 20: 1, 21: 4, 30: 4, 31: 5}


async def test_devices_are_kept_by_name_and_hash(store: Store) -> None:
    phone = Device("d1", "phone", "aa", Milliseconds(1))
    await store.add_device(phone)
    await store.add_device(Device("d2", "laptop", "bb", Milliseconds(2)))
    with pytest.raises(ValidationError, match="phone"):
        await store.add_device(Device("d3", "phone", "cc", Milliseconds(3)))
    assert await store.device_by_hash("aa") == phone
    assert await store.device_by_hash("cc") is None
    await store.touch_device("d1", Milliseconds(9), "192.0.2.7")
    seen = msgspec.structs.replace(phone, last_seen=Milliseconds(9), last_address="192.0.2.7")
    assert [device.id for device in await store.devices()] == ["d1", "d2"]
    assert await store.remove_device("d1") == seen
    assert await store.remove_device("d1") is None
    assert await store.device_by_hash("aa") is None


async def test_a_closed_store_says_so(database: Path) -> None:
    store = Store.open(database)
    project = await create(store)
    pending = [asyncio.ensure_future(store.commit(grown(project, 1)))]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    await asyncio.gather(*pending)
    await store.close()
    for late in (
        store.commit(Change()),
        store.conversations(),
        store.check(),
        store.prune(project, max_entries=1, max_bytes=0, older_than=Milliseconds(0)),
    ):
        with pytest.raises(InternalError, match="closed"):
            await late
    assert not database.with_name(database.name + "-wal").exists()
    again = Store.open(database)
    assert (await stored(again, project)).head == 1
    await again.close()


async def test_no_thread_outlives_the_store(database: Path) -> None:
    store = Store.open(database)
    names = {thread.name for thread in threading.enumerate()}
    assert {"store-writer", "store-reader", "store-checkpoint"} <= names
    await store.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store-")]


async def test_a_second_server_is_refused_until_the_first_is_gone(database: Path) -> None:
    first = Store.open(database)
    with pytest.raises(FileOperationError, match=f"process {os.getpid()}.*--data-dir") as caught:
        Store.open(database)
    assert str(database.parent) not in caught.value.message
    await first.close()
    await Store.open(database).close()


async def test_the_files_are_private_whatever_the_umask(database: Path) -> None:
    before = os.umask(0)
    try:
        store = Store.open(database)
        await create(store, entries=2)
    finally:
        os.umask(before)
    name = database.name
    assert modes(database.parent) == {f"{name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock", ".mark")}
    await store.close()


async def test_a_database_that_others_could_read_is_taken_from_them(database: Path) -> None:
    await Store.open(database).close()
    open_to_all(database)
    store = Store.open(database)
    assert modes(database.parent)[database.name] == 0o600
    await store.close()


async def test_sizes_are_those_of_the_disk(store: Store, database: Path) -> None:
    before = store.size_bytes()
    await create(store, entries=200, size=1000)
    assert store.size_bytes() >= before + 200_000
    free = shutil.disk_usage(database.parent).free
    assert abs(store.free_bytes() - free) < max(free // 2, 2**30)


async def test_a_check_writes_and_reads(store: Store) -> None:
    before = store.commits
    await store.check()
    assert store.commits == before + 1


async def test_a_deleted_project_is_gone_with_all_that_it_had(store: Store) -> None:
    project = await create(store, entries=1300)
    other = await create(store, "other", entries=2)
    parts = Change(
        executions=(execution(project, 1, ExecutionStatus.SUCCESS),),
        approvals=(approval(project, "a", ApprovalStatus.PENDING),),
        process=process(project),
        sessions=(session(project, "s", 1),),
    )
    await store.commit(parts)
    await store.delete_project(project)
    assert await store.conversations() == [other]
    assert await store.process(project.id) is None
    for late in (grown(project, 1), Change(record=project), Change(record=new_project(project.number)), parts):
        with pytest.raises(ProjectNotFoundError):
            await store.commit(late)
    with pytest.raises(ProjectNotFoundError):
        await store.delete_project(project)
    with pytest.raises(ProjectNotFoundError):
        await store.prune(project, max_entries=1, max_bytes=0, older_than=Milliseconds(0))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await store.session(project.project_id, "s") or await offsets(store, project):
            await store.check()
    assert await store.execution(ExecutionId("e1")) is None
    assert await store.approval(project.id, ApprovalId("a")) is None
    assert await offsets(store, other) == [1, 2]
    fresh = await create(store, "p", entries=1)
    assert fresh.number > other.number


async def test_the_sweep_of_a_deleted_project_goes_on_in_the_next_run(database: Path) -> None:
    store = Store.open(database)
    project = await create(store, entries=3000)
    deleting = asyncio.ensure_future(store.delete_project(project))
    await asyncio.sleep(0)
    await store.close()
    await deleting
    again = Store.open(database)
    assert await again.conversations() == []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await offsets(again, project):
            await again.check()
    await again.close()
