"""Values for the tests of `pocket_agent.storage`."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from pocket_agent.model import (
    Approval,
    ApprovalId,
    ApprovalStatus,
    ConversationRecord,
    Direction,
    Entry,
    ExecuteOptions,
    Execution,
    ExecutionId,
    ExecutionStatus,
    Milliseconds,
    ProcessRecord,
    ProjectState,
    SessionRecord,
    project_of,
)
from pocket_agent.storage import Change, Store

BIG = 2**30
FOREVER = Milliseconds(0)


def new_project(number: int, name: str = "p") -> ConversationRecord:
    """A project with an empty log."""
    return ConversationRecord(
        number=number,
        id=project_of(f"{name}-{number}"),
        path=f"/srv/{name}",
        real_path=f"/real/{name}-{number}",
        name=name,
        state=ProjectState.IDLE,
        session_id=None,
        epoch="0123abcd",
        head=0,
        first=1,
        created_at=Milliseconds(1),
        last_active=Milliseconds(1),
    )


def entry(offset: int, *, size: int = 20, direction: Direction = Direction.CLAUDE) -> Entry:
    """An entry of a known size whose time is ten times its offset."""
    data = b'{"n":%d}' % offset
    return Entry(offset, Milliseconds(offset * 10), direction, "agent_message", data.ljust(size))


def grown(project: ConversationRecord, count: int, *, size: int = 20) -> Change:
    """The change that appends `count` entries."""
    head = project.head + count
    entries = tuple(entry(offset, size=size) for offset in range(project.head + 1, head + 1))
    return Change(record=msgspec.structs.replace(project, head=head), entries=entries)


async def create(store: Store, name: str = "p", *, entries: int = 0, size: int = 20) -> ConversationRecord:
    """A stored project with this many entries."""
    project = new_project(await store.next_project_number(), name)
    await store.commit(Change(record=project))
    if not entries:
        return project
    change = grown(project, entries, size=size)
    await store.commit(change)
    assert change.record is not None
    return change.record


async def stored(store: Store, project: ConversationRecord) -> ConversationRecord:
    """The project as the store has it."""
    return next(found for found in await store.conversations() if found.id == project.id)


async def offsets(store: Store, project: ConversationRecord) -> list[int]:
    """All offsets of a project's log."""
    return [found.offset for found in await store.read(project, after=0, limit=BIG, max_bytes=BIG)]


def execution(project: ConversationRecord, position: int, status: ExecutionStatus, **changes: object) -> Execution:
    """An execution; final ones finished at ten times their position."""
    made = Execution(
        id=ExecutionId(f"e{position}"),
        conversation_id=project.id,
        prompt_id=f"prompt-{position}",
        prompt="do it",
        options=ExecuteOptions(model="opus", allowed_tools=("Bash", "Read")),
        status=status,
        position=position,
        created_at=Milliseconds(position * 10),
        finished_at=Milliseconds(position * 10) if status.is_final else None,
        by="phone",
    )
    return msgspec.structs.replace(made, **changes)


def approval(project: ConversationRecord, name: str, status: ApprovalStatus, **changes: object) -> Approval:
    """An approval that came at time 5."""
    made = Approval(
        id=ApprovalId(name),
        conversation_id=project.id,
        execution_id=ExecutionId("e1"),
        request_id=f"r-{name}",
        request=b'{"tool":"Bash"}',
        status=status,
        created_at=Milliseconds(5),
    )
    return msgspec.structs.replace(made, **changes)


def process(project: ConversationRecord, *, consumed: int = 0, name: str = "proc") -> ProcessRecord:
    """A process record."""
    return ProcessRecord(name, project.id, 4242, "1234.5", "boot", consumed, b"{}", Milliseconds(7))


def session(project: ConversationRecord, name: str, last_active: int) -> SessionRecord:
    """A session of the CLI."""
    return SessionRecord(name, project.project_id, Milliseconds(1), Milliseconds(last_active), "first words")


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Another program that holds the database's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def modes(folder: Path) -> dict[str, int]:
    """The permissions of each file in a folder."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def open_to_all(path: Path) -> None:
    """Let everybody read a file."""
    path.chmod(0o644)


def damage(path: Path) -> None:
    """Overwrite everything in a database but its first page."""
    with path.open("r+b") as file:
        file.seek(0, 2)
        end = file.tell()
        file.seek(4096)
        file.write(b"\xa5" * (end - 4096))
