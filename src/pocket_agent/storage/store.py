"""The store: what the server knows, in one SQLite database."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import msgspec

from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.model import (
    MAX_OFFSET,
    Approval,
    ApprovalId,
    Credential,
    Device,
    Direction,
    Entry,
    Execution,
    ExecutionId,
    ExecutionSummary,
    Milliseconds,
    Pairing,
    ProcessRecord,
    Project,
    ProjectId,
    SessionRecord,
    Spending,
    Trust,
)
from pocket_agent.storage import device_table, epoch, retention, tables
from pocket_agent.storage.database import (
    DataLock,
    Synchronous,
    connect,
    create_private,
    faults_mapped,
    migrate,
    set_synchronous,
    tighten,
)
from pocket_agent.storage.epoch import outdated, write_mark
from pocket_agent.storage.tables import Table, Value
from pocket_agent.storage.threads import Checkpointer, LogGuard, Reader, Writer

# ----------------------------------------------------------------------
# Changes.


class Change(msgspec.Struct, frozen=True):
    """One atomic unit of what the store is told.

    Attributes:
        project: inserted, or updated whole by its number and id. `first` belongs to the store and is
            never taken from here; number, id, path, real_path and created_at never change.
        entries: appended to `project`'s log. Their offsets follow the stored head without a gap, the
            last one is `project.head`; without entries the head must be the stored one.
        executions: inserted or updated.
        approvals: inserted or updated.
        process: inserted or updated; carries `consumed`, so the log and the spool move together.
        ended_process: the id of a process to forget.
        sessions: inserted or updated.
        spent: added to what is stored.
        trust: replaces what was accepted before.
        admits: an execution that this change queues or starts. The change is refused when the device that gave
            the prompt was revoked, or its credential replaced: whichever commits first holds.
    """

    project: Project | None = None
    entries: tuple[Entry, ...] = ()
    executions: tuple[Execution, ...] = ()
    approvals: tuple[Approval, ...] = ()
    process: ProcessRecord | None = None
    ended_process: str | None = None
    sessions: tuple[SessionRecord, ...] = ()
    spent: tuple[Spending, ...] = ()
    admits: Execution | None = None
    trust: Trust | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write the change inside the caller's transaction.

        Raises:
            InternalError: the entries do not follow the log, or the parts belong to several projects.
            ProjectNotFoundError: the project was deleted.
            ProjectExistsError: a new project's directory is another project's.
            ForbiddenError: the device of `admits` may not give prompts any more.
            sqlite3.Error: the disk refused.
        """
        if self.admits is not None:
            device_table.require_maker(connection, self.admits.device_id, self.admits.generation)
        self._write_log(connection)
        self._check_owner(connection)
        for execution in self.executions:
            tables.EXECUTION.put(connection, execution)
        for approval in self.approvals:
            tables.APPROVAL.put(connection, approval)
        if self.process is not None:
            tables.PROCESS.put(connection, self.process)
        if self.ended_process is not None:
            connection.execute("DELETE FROM process WHERE id = ?", (self.ended_process,))
        for session in self.sessions:
            tables.SESSION.put(connection, session)
        for spent in self.spent:
            tables.add_spending(connection, spent)
        if self.trust is not None:
            tables.TRUST.put(connection, self.trust)

    def _write_log(self, connection: sqlite3.Connection) -> None:
        if self.project is None:
            if self.entries:
                raise InternalError("Entries need their project.")
            return
        start = self.project.head - len(self.entries) + 1
        if any(entry.offset != offset for offset, entry in enumerate(self.entries, start)):
            raise InternalError("The entries' offsets have a gap, or do not end at the project's head.")
        size = sum([len(entry.data) for entry in self.entries])
        tables.put_project(connection, self.project, entries=len(self.entries), size=size)
        tables.append_entries(connection, self.project.number, self.entries)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        """A part of a project that was deleted would stay for ever: nothing would sweep it."""
        parts: tuple[Execution | Approval | SessionRecord, ...]
        parts = (*self.executions, *self.approvals, *self.sessions)
        owners = {part.project_id for part in parts}
        owners |= {part.project_id for part in (self.process, self.trust) if part is not None}
        if self.project is None:
            for project_id in owners:
                tables.require_project(connection, project_id)
        elif owners - {self.project.id}:
            raise InternalError("A change that moves a project cannot touch another one.")


# ----------------------------------------------------------------------
# Queries.


class Query:
    """The reading half of the store; see `Store` for what every method raises."""

    def __init__(self, reader: Reader) -> None:
        """Ask by way of this reader."""
        self._reader = reader

    async def projects(self) -> list[Project]:
        """All projects, the oldest first."""
        return await self._reader.submit(tables.projects)

    async def read(
        self, project: Project, *, after: int, limit: int, max_bytes: int, direction: Direction | None = None
    ) -> list[Entry]:
        """The first entries with an offset above `after`, ascending.

        Args:
            project: whose log.
            after: an offset; 0 for the beginning of what is stored.
            limit: at most so many entries (at least 1).
            max_bytes: at most this many bytes of data, but one entry always if there is one.
            direction: only entries of this one.
        """
        return await self._reader.submit(
            lambda connection: tables.read_entries(
                connection,
                project.number,
                low=after + 1,
                high=MAX_OFFSET,
                limit=limit,
                max_bytes=max_bytes,
                direction=direction,
            )
        )

    async def read_before(
        self, project: Project, *, before: int, limit: int, max_bytes: int, direction: Direction | None = None
    ) -> list[Entry]:
        """The newest entries with an offset below `before`, ascending; else as `read`."""
        return await self._reader.submit(
            lambda connection: tables.read_entries(
                connection,
                project.number,
                low=0,
                high=before - 1,
                limit=limit,
                max_bytes=max_bytes,
                direction=direction,
                newest=True,
            )
        )

    async def offset_at(self, project: Project, timestamp: Milliseconds) -> int:
        """The last stored offset whose time is before `timestamp`; 0 when there is none."""
        return await self._reader.submit(lambda connection: tables.offset_at(connection, project.number, timestamp))

    async def open_executions(self, project_id: ProjectId) -> list[Execution]:
        """A project's executions that are not final, in the order of their position."""
        return await self._reader.submit(lambda connection: tables.open_executions(connection, project_id))

    async def execution(self, execution_id: ExecutionId) -> Execution | None:
        """The execution of this id."""
        return await self._first(tables.EXECUTION, "WHERE id = ?", execution_id)

    async def execution_by_prompt(self, project_id: ProjectId, prompt_id: str) -> Execution | None:
        """The execution that a client asked for with its own `prompt_id`."""
        where = "WHERE project_id = ? AND prompt_id = ?"
        return await self._first(tables.EXECUTION, where, project_id, prompt_id)

    async def last_position(self, project_id: ProjectId) -> int:
        """The position of a project's newest execution; 0 when there is none."""
        where = "WHERE project_id = ? ORDER BY position DESC"
        newest = await self._first(tables.EXECUTION, where, project_id)
        return 0 if newest is None else newest.position

    async def executions(
        self, project_id: ProjectId, *, before: ExecutionId | None, limit: int
    ) -> list[ExecutionSummary]:
        """A project's executions, the newest first.

        Args:
            project_id: whose.
            before: only those from before this one; an unknown one has none before it.
            limit: at most so many (at least 1).
        """
        where = "WHERE project_id = ?"
        parameters: list[str] = [project_id]
        if before is not None:
            where += " AND position < (SELECT position FROM execution WHERE project_id = ? AND id = ?)"
            parameters += [project_id, before]
        rest = f"{where} ORDER BY position DESC LIMIT ?"
        return await self._reader.submit(
            lambda connection: tables.SUMMARY.find(connection, rest, *parameters, max(limit, 1))
        )

    async def last_finished(self, project_id: ProjectId) -> Execution | None:
        """A project's newest execution that ran and is over."""
        where = "WHERE project_id = ? AND finished_at IS NOT NULL AND started_at IS NOT NULL ORDER BY position DESC"
        return await self._first(tables.EXECUTION, where, project_id)

    async def spent_usd(self, day: str) -> float:
        """What all executions of a day (YYYY-MM-DD, local) have cost, in United States dollars."""
        return await self._reader.submit(lambda connection: tables.cost_of(connection, day))

    async def open_approvals(self, project_id: ProjectId) -> list[Approval]:
        """A project's approvals that are pending, or answered but not delivered; the oldest first."""
        return await self._reader.submit(lambda connection: tables.open_approvals(connection, project_id))

    async def approval(self, project_id: ProjectId, approval_id: ApprovalId) -> Approval | None:
        """The approval of this id in this project."""
        return await self._first(tables.APPROVAL, "WHERE project_id = ? AND id = ?", project_id, approval_id)

    async def process(self, project_id: ProjectId) -> ProcessRecord | None:
        """The project's process (the newest, were there several), if one is remembered."""
        where = "WHERE project_id = ? ORDER BY started_at DESC, rowid DESC"
        return await self._first(tables.PROCESS, where, project_id)

    async def trust(self, project_id: ProjectId) -> Trust | None:
        """What was accepted of the project's own settings; None for a project of a version that did not note it."""
        return await self._first(tables.TRUST, "WHERE project_id = ?", project_id)

    async def sessions(self, project_id: ProjectId, limit: int = 100) -> list[SessionRecord]:
        """A project's sessions, the last used first; at most `limit` (at least 1)."""
        where = "WHERE project_id = ? ORDER BY last_active DESC, rowid DESC LIMIT ?"
        return await self._reader.submit(
            lambda connection: tables.SESSION.find(connection, where, project_id, max(limit, 1))
        )

    async def session(self, project_id: ProjectId, session_id: str) -> SessionRecord | None:
        """The session of this id in this project."""
        return await self._first(tables.SESSION, "WHERE project_id = ? AND id = ?", project_id, session_id)

    async def devices(self) -> list[Device]:
        """All devices, the oldest first."""
        return await self._reader.submit(device_table.devices)

    async def open_pairings(self, at: Milliseconds) -> list[Pairing]:
        """The pairing codes that can be redeemed at this time, the oldest first."""
        return await self._reader.submit(lambda connection: device_table.open_pairings(connection, at))

    async def device_by_hash(self, token_hash: str) -> Device | None:
        """The device whose token has this SHA-256."""
        return await self._reader.submit(lambda connection: device_table.device_by_hash(connection, token_hash))

    async def _first(self, table: Table[Value], rest: str, *parameters: object) -> Value | None:
        return await self._reader.submit(lambda connection: table.first(connection, rest, *parameters))


# ----------------------------------------------------------------------
# The store itself: opens the database, owns its threads.


class Store(Query):
    """The one store of a server. Every method but `open` is called on the event loop.

    Unless said otherwise, a method raises FileOperationError when the disk refuses or the database is
    damaged, and InternalError when the store is closed. After a fault has gone, the store goes on.
    """

    def __init__(
        self,
        path: Path,
        lock: DataLock,
        writer: Writer,
        reader: Reader,
        checkpointer: Checkpointer,
        guard: LogGuard,
    ) -> None:
        """Put the parts together; use `open`."""
        super().__init__(reader)
        self._path = path
        self._lock = lock
        self._writer = writer
        self._checkpointer = checkpointer
        self._guard = guard
        self._closed: asyncio.Future[None] | None = None
        self.epochs_renewed = False
        """Whether `open` found that commits can be missing, and gave the projects concerned a new epoch."""
        self.instance = ""
        """Names this store among all others: 8 hexadecimal digits, no secret."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        synchronous: Synchronous = "normal",
        busy_timeout: float = 5.0,
        boot: str | None = None,
        durations: Distribution | None = None,
    ) -> Self:
        """Open the database, making or migrating it if need be. Blocking: before the loop serves.

        Args:
            path: the database's file; its folder is made if there is none.
            synchronous: "normal": what is committed survives a killed server, but the last commits may
                be gone when the power fails (then epochs are renewed); "full": they survive that too.
            busy_timeout: seconds that a commit waits for a lock of another program.
            boot: the boot of the machine, if not the one that `epoch.boot_id` finds.
            durations: where the seconds of each transaction are counted.

        Raises:
            SchemaTooNewError: a newer version of this program wrote the database.
            FileOperationError: another server uses it, or it cannot be used; the message tells.
        """
        with faults_mapped(), ExitStack() as undo:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = DataLock.acquire(path)
            undo.callback(lock.release)
            with suppress(FileExistsError):
                create_private(path)
            connections = []
            for level in ("full", "normal", "normal"):
                connection = connect(path, busy_timeout=busy_timeout, synchronous=level)
                undo.callback(connection.close)
                connections.append(connection)
            writing, reading, moving = connections
            tighten(path)
            migrate(writing)
            renewed = epoch.begin_run(
                writing,
                synchronous=synchronous,
                boot=boot or epoch.boot_id(),
                outdated=outdated(path, writing),
            )
            write_mark(path, writing)
            set_synchronous(writing, synchronous)
            instance = str(epoch.meta(writing)["instance"])
            reading.execute("PRAGMA query_only = ON")
            checkpointer = Checkpointer(moving, path)
            reader = Reader(reading, "store-reader")
            guard = LogGuard(path, reader, checkpointer, busy_timeout=busy_timeout, synchronous=synchronous)
            writer = Writer(writing, checkpointer.after_commit, durations, guard.check)
            store = cls(path, lock, writer, reader, checkpointer, guard)
            undo.pop_all()
        store.epochs_renewed = renewed
        store.instance = instance
        writer.chore(retention.sweep)
        return store

    async def commit(self, change: Change) -> None:
        """Store a change; returns when it is durable (see `open`), raises when nothing of it is stored.

        A caller that is cancelled meanwhile does not take the change back.

        Raises:
            InternalError: the entries do not follow the stored log.
            ProjectNotFoundError: the project was deleted.
            ProjectExistsError: a new project's directory is another project's.
            ForbiddenError: the device of `change.admits` was revoked.
        """
        await self._writer.submit(change.apply)

    async def close(self) -> None:
        """Store what is pending, move it all into the one database file, and note a clean end.

        May be called again. Raises FileOperationError when the end could not be noted; everything is
        closed and given free all the same.
        """
        if self._closed is None:
            self._closed = asyncio.get_running_loop().run_in_executor(None, self._close)
        await asyncio.shield(self._closed)

    def _close(self) -> None:
        with faults_mapped(), ExitStack() as parts:
            parts.callback(self._lock.release)
            parts.callback(self._writer.close, self._finish)
            parts.callback(self._checkpointer.close)
            parts.callback(self._reader.close)

    def _finish(self, connection: sqlite3.Connection) -> None:
        """The last acts of the writer: the clean end is as durable as it can be."""
        self._guard.is_in_place()  # one that was deleted is moved into the database, one of others is left alone
        set_synchronous(connection, "full")
        epoch.end_run(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        write_mark(self._path, connection)

    @property
    def commits(self) -> int:
        """Transactions since the start."""
        return self._writer.commits

    @property
    def changes(self) -> int:
        """Changes (and turns of pruning and sweeping) in these transactions."""
        return self._writer.changes

    @property
    def durations(self) -> Distribution:
        """The seconds that these transactions took."""
        return self._writer.durations

    def size_bytes(self) -> int:
        """The bytes of the database and its write-ahead log on the disk."""
        with faults_mapped():
            files = (self._path, self._path.with_name(self._path.name + "-wal"))
            return sum([file.stat().st_size for file in files if file.exists()])

    def free_bytes(self) -> int:
        """The bytes that the database's file system has left for this user."""
        with faults_mapped():
            found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    async def check(self) -> None:
        """Prove that the store can write and read, by doing both."""
        mark = f"{time.time_ns()}"

        def write(connection: sqlite3.Connection) -> None:
            epoch.set_meta(connection, checked=mark)

        await self._writer.submit(write)
        found = await self._reader.submit(epoch.meta)
        if found["checked"] != mark:
            raise FileOperationError("The database does not return what was stored.", details={"reason": "corrupt"})

    async def next_project_number(self) -> int:
        """A number for a new project; none is ever given twice."""

        def count(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "UPDATE meta SET value = value + 1 WHERE key = 'project_number' RETURNING value"
            ).fetchone()
            number: int = row[0]
            return number

        return await self._writer.submit(count)

    async def delete_project(self, project: Project) -> None:
        """Delete a project at once, its entries and records bit by bit afterwards.

        A later change of the project is refused. What is left when the server ends goes at the next start.

        Raises:
            ProjectNotFoundError: there is no such project.
        """
        await self._writer.submit(lambda connection: retention.delete(connection, project.number, project.id))
        self._writer.chore(retention.sweep)

    async def prune(
        self,
        project: Project,
        *,
        max_entries: int,
        max_bytes: int,
        older_than: Milliseconds,
        batch: int = 500,
        moved: Callable[[int], None] | None = None,
    ) -> int:
        """Delete a project's oldest entries; returns the offset of the first that is left.

        Commits go in between the batches. The newest entry always stays. Final executions and resolved
        approvals from before the log's beginning go too, but the last 1000 executions stay, so that a
        re-sent prompt still finds its own.

        Args:
            project: whose log.
            max_entries: keep at most so many entries; 0 for no limit.
            max_bytes: keep at most so many bytes of data; 0 for no limit.
            older_than: let go of entries from before this time; 0 for no limit.
            batch: rows that are deleted in one turn.
            moved: called after each turn with the offset of the first entry that is left: a turn that fails
                does not bring back what the turns before it have deleted.

        Raises:
            ProjectNotFoundError: the project was deleted (perhaps while this went on).
        """
        rule = retention.Retention(max_entries, max_bytes, older_than, max(batch, 1))
        while True:
            pruned = await self._writer.submit(lambda connection: retention.prune(connection, project.number, rule))
            if moved is not None:
                moved(pruned.first)
            if not pruned.more:
                return pruned.first

    async def settled_time(self) -> float | None:
        """The time, in seconds since the Unix epoch, that retention last went by; None before the first."""
        found = (await self._reader.submit(epoch.meta)).get("settled_time")
        return None if found is None else float(found)

    async def note_settled_time(self, seconds: float) -> None:
        """Store the time that retention goes by, for the next start."""
        await self._writer.submit(lambda connection: epoch.set_meta(connection, settled_time=int(seconds)))

    async def add_device(self, new: Device) -> None:
        """Store a device. Raises ValidationError when one of this name exists."""
        await self._writer.submit(lambda connection: device_table.add_device(connection, new))

    async def touch_device(self, device_id: str, when: Milliseconds, address: str) -> None:
        """Note when and where a device was last seen."""
        await self._writer.submit(lambda connection: device_table.touch_device(connection, device_id, when, address))

    async def rename_device(self, device_id: str, name: str) -> Device | None:
        """Give a device another name and return it; None when there is none.

        Raises:
            ValidationError: another device has this name.
        """
        return await self._writer.submit(lambda connection: device_table.rename_device(connection, device_id, name))

    async def rotate_device(
        self,
        device_id: str,
        token_hash: str,
        credential: Credential = Credential.TOKEN,
        public_key: bytes | None = None,
    ) -> Device | None:
        """As `device.rotate_device`."""
        return await self._writer.submit(
            lambda connection: device_table.rotate_device(connection, device_id, token_hash, credential, public_key)
        )

    async def enroll_device(self, shown: Device, token_hash: str, public_key: bytes | None) -> Device | None:
        """As `device.enroll_device`."""
        return await self._writer.submit(
            lambda connection: device_table.enroll_device(connection, shown, token_hash, public_key)
        )

    async def cancel_pairing(self, pairing_id: str) -> bool:
        """Delete an open pairing code; false when there is none of this id (any more)."""
        return await self._writer.submit(lambda connection: device_table.cancel_pairing(connection, pairing_id))

    async def remove_device(self, device_id: str) -> Device | None:
        """Remove a device and return it; None when there is none of this id."""
        return await self._writer.submit(lambda connection: device_table.remove_device(connection, device_id))

    async def audit_head(self) -> tuple[int, str] | None:
        """The number and the hash of the last record of the audit log that is known; None when none is."""
        return await self._reader.submit(epoch.audit_head)

    async def advance_audit_head(self, seq: int, digest: str) -> None:
        """Remember the last record of the audit log."""
        await self._writer.submit(lambda connection: epoch.advance_audit_head(connection, seq, digest))

    async def remember_settings(self, shown: Mapping[str, object]) -> dict[str, object]:
        """Store settings as they are printed, without secrets; returns those of the run before."""
        return await self._writer.submit(lambda connection: epoch.remember_settings(connection, shown))

    async def add_pairing(self, pairing: Pairing) -> None:
        """Store leave for one device.

        Raises:
            ResourceLimitError: too many wait to be used.
            ForbiddenError: the device that makes it was revoked meanwhile.
        """
        await self._writer.submit(lambda connection: device_table.add_pairing(connection, pairing))

    async def redeem_pairing(
        self, code_hash: str, new: Device, check_maker: Callable[[str | None], None]
    ) -> Device | None:
        """Add a device as its pairing says, and use that up; None when there is no such pairing (any more)."""
        return await self._writer.submit(
            lambda connection: device_table.redeem_pairing(connection, code_hash, new, check_maker)
        )
