"""The store: what the server knows, in one SQLite database."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import msgspec

from pocket_agent import model
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.model import ConversationId, ConversationRecord, Direction, Execution, Milliseconds, ProjectId
from pocket_agent.storage import database, device_table, epoch, retention, tables
from pocket_agent.storage.database import DataLock, Synchronous, faults_mapped
from pocket_agent.storage.tables import Table, Value
from pocket_agent.storage.threads import Checkpointer, FileGuard, Reader, Writer


class Change(msgspec.Struct, frozen=True):
    """One atomic change of the store.

    Attributes:
        record: inserted, or updated whole by its number and id. `first` belongs to the store and is
            never taken from here; number, id, path, real_path and created_at never change.
        entries: appended to the log of `record`. Their offsets follow the stored head without a gap, the
            last one is `record.head`; without entries the head must be the stored one.
        executions: inserted or updated.
        approvals: inserted or updated.
        process: inserted or updated; carries `consumed`, so the log and the spool move together.
        ended_process: the id of a process to delete.
        sessions: inserted or updated.
        spent: added to what is stored.
        trust: replaces what was accepted before.
        admits: an execution that this change queues or starts. The change is refused when the device that gave
            the prompt was revoked, or its credential replaced: the first of the two commits decides.
    """

    record: ConversationRecord | None = None
    entries: tuple[model.Entry, ...] = ()
    executions: tuple[Execution, ...] = ()
    approvals: tuple[model.Approval, ...] = ()
    process: model.ProcessRecord | None = None
    ended_process: str | None = None
    sessions: tuple[model.SessionRecord, ...] = ()
    spent: tuple[model.Spending, ...] = ()
    admits: Execution | None = None
    trust: model.Trust | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write the change inside the caller's transaction; raises as `Store.commit`, and sqlite3.Error."""
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
        if self.record is None:
            if self.entries:
                raise InternalError("Entries need their project.")
            return
        start = self.record.head - len(self.entries) + 1
        if any(entry.offset != offset for offset, entry in enumerate(self.entries, start)):
            raise InternalError("The entries' offsets have a gap, or do not end at the project's head.")
        size = sum([len(entry.data) for entry in self.entries])
        tables.put_project(connection, self.record, entries=len(self.entries), size=size)
        tables.append_entries(connection, self.record.number, self.entries)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        """Refuse parts of a deleted conversation: nothing would ever sweep them."""
        parts = (*self.executions, *self.approvals, *((self.process,) if self.process is not None else ()))
        owners: set[model.ConversationId] = {part.conversation_id for part in parts}
        projects = {part.project_id for part in (*self.sessions, self.trust) if part is not None}
        if self.record is None:
            for conversation_id in owners | projects:
                tables.require_project(connection, conversation_id)
        elif owners - {self.record.id} or projects - {self.record.project_id}:
            raise InternalError("A change that moves a conversation cannot touch another one.")


class Store:
    """The one store of a server: opens the database and owns its threads. Methods run on the event loop.

    Unless said otherwise, a method raises FileOperationError when the disk refuses or the database is
    damaged, and InternalError when the store is closed. After a fault has gone, the store goes on.

    Attributes:
        epochs_renewed: whether `open` found that commits can be missing, and gave the projects concerned a new epoch.
        instance: identifies this store: 8 hexadecimal digits, no secret.
    """

    def __init__(
        self, path: Path, lock: DataLock, writer: Writer, reader: Reader, checkpointer: Checkpointer, guard: FileGuard
    ) -> None:
        self._path = path
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._checkpointer = checkpointer
        self._guard = guard
        self._closed: asyncio.Future[None] | None = None
        self.epochs_renewed = False
        self.instance = ""

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
            path: the database's file; its folder is made if it does not exist.
            synchronous: "normal": committed data survives a killed server, but the last commits may
                be gone when the power fails (then epochs are renewed); "full": they survive that too.
            busy_timeout: seconds that a commit waits for a lock of another program.
            boot: the boot of the machine, if not the one that `epoch.boot_id` finds.
            durations: counts the seconds of each transaction.

        Raises:
            SchemaTooNewError: a newer version of this program wrote the database.
            FileOperationError: another server uses it, or it cannot be used; the message says which.
        """
        with faults_mapped(), ExitStack() as undo:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = DataLock.acquire(path)
            undo.callback(lock.release)
            with suppress(FileExistsError):
                database.create_private(path)
            connections = []
            for level in ("full", "normal", "normal"):
                connection = database.connect(path, busy_timeout=busy_timeout, synchronous=level)
                undo.callback(connection.close)
                connections.append(connection)
            writing, reading, moving = connections
            database.tighten(path)
            database.migrate(writing)
            outdated = epoch.outdated(path, writing)
            boot = boot or epoch.boot_id()
            renewed = epoch.begin_run(writing, synchronous=synchronous, boot=boot, outdated=outdated)
            epoch.write_mark(path, writing)
            database.set_synchronous(writing, synchronous)
            instance = str(epoch.meta(writing)["instance"])
            reading.execute("PRAGMA query_only = ON")
            checkpointer = Checkpointer(moving, path)
            reader = Reader(reading, "store-reader")
            guard = FileGuard(path, reader, checkpointer, busy_timeout=busy_timeout, synchronous=synchronous)
            writer = Writer(writing, checkpointer.after_commit, durations, guard.check)
            store = cls(path, lock, writer, reader, checkpointer, guard)
            undo.pop_all()
        store.epochs_renewed = renewed
        store.instance = instance
        writer.chore(retention.sweep)
        return store

    async def commit(self, change: Change) -> None:
        """Store a change; returns when it is durable (see `open`), raises when nothing of it is stored.

        The change is stored even if the caller is cancelled while it waits.

        Raises:
            InternalError: the entries do not follow the stored log, or the parts belong to several projects.
            ProjectNotFoundError: the project was deleted.
            ProjectExistsError: a new project's directory is another project's.
            ForbiddenError: the device of `change.admits` was revoked.
        """
        await self._writer.submit(change.apply)

    async def close(self) -> None:
        """Store what is pending, move it all into the one database file, and record a clean end.

        May be called again. Raises FileOperationError when the end could not be recorded; everything is
        closed and released all the same.
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
        # A deleted log is moved into the database; files of another program are left alone.
        self._guard.is_in_place()
        database.set_synchronous(connection, "full")
        epoch.end_run(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        epoch.write_mark(self._path, connection)

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
        await self._writer.submit(epoch.set_meta, checked=mark)
        found = await self._reader.submit(epoch.meta)
        if found["checked"] != mark:
            raise FileOperationError("The database does not return what was stored.", details={"reason": "corrupt"})

    # Projects and their logs.

    async def conversations(self) -> list[ConversationRecord]:
        """All conversations of all projects, the oldest first; a main one is before the others of its project."""
        return await self._reader.submit(tables.conversations)

    async def next_project_number(self) -> int:
        """A number for a new conversation; no number is given twice."""
        return await self._writer.submit(tables.next_project_number)

    async def delete_project(self, project: ConversationRecord) -> None:
        """Delete a conversation at once, with the main one its whole project; entries and records go bit by bit.

        A later change of it is refused. What is left when the server ends is deleted after the next start.

        Raises:
            ProjectNotFoundError: there is no such conversation.
        """
        await self._writer.submit(retention.delete, project.number, project.id)
        self._writer.chore(retention.sweep)

    async def read(
        self, project: ConversationRecord, *, after: int, limit: int, max_bytes: int, direction: Direction | None = None
    ) -> list[model.Entry]:
        """The first entries of a project with an offset above `after` (0: from the oldest stored), ascending.

        Args:
            limit: at most this many entries (at least 1).
            max_bytes: at most this many bytes of data, but always one entry if there is one.
            direction: only entries of this one.
        """
        return await self._reader.submit(
            tables.read_entries,
            project.number,
            low=after + 1,
            high=model.MAX_OFFSET,
            limit=limit,
            max_bytes=max_bytes,
            direction=direction,
        )

    async def read_before(
        self,
        project: ConversationRecord,
        *,
        before: int,
        limit: int,
        max_bytes: int,
        direction: Direction | None = None,
    ) -> list[model.Entry]:
        """The newest entries with an offset below `before`, ascending; else as `read`."""
        return await self._reader.submit(
            tables.read_entries,
            project.number,
            low=0,
            high=before - 1,
            limit=limit,
            max_bytes=max_bytes,
            direction=direction,
            newest=True,
        )

    async def offset_at(self, project: ConversationRecord, timestamp: Milliseconds) -> int:
        """The last stored offset whose time is before `timestamp`; 0 when there is none."""
        return await self._reader.submit(tables.offset_at, project.number, timestamp)

    async def prune(
        self,
        project: ConversationRecord,
        *,
        max_entries: int,
        max_bytes: int,
        older_than: Milliseconds,
        batch: int = 500,
        moved: Callable[[int], None] | None = None,
    ) -> int:
        """Delete a project's oldest entries; returns the offset of the first that is left.

        Other commits run between the batches. The newest entry always stays. Final executions and resolved
        approvals from before the log's beginning are deleted too, but the last 1000 executions stay, so that a
        re-sent prompt still finds its own.

        Args:
            project: whose log.
            max_entries: entries to keep at most; 0 for no limit.
            max_bytes: bytes of data to keep at most; 0 for no limit.
            older_than: delete entries from before this time; 0 for no limit.
            batch: rows that are deleted in one turn.
            moved: called after each turn with the offset of the first entry that is left: a turn that fails
                does not bring back what the turns before it have deleted.

        Raises:
            ProjectNotFoundError: the project was deleted, perhaps during the pruning.
        """
        rule = retention.Retention(max_entries, max_bytes, older_than, max(batch, 1))
        while True:
            pruned = await self._writer.submit(retention.prune, project.number, rule)
            if moved is not None:
                moved(pruned.first)
            if not pruned.more:
                return pruned.first

    async def usage_windows(self) -> tuple[model.UsageWindow, ...]:
        """The usage limits of the account, as they were stored last; those that cannot be read count as none."""
        stored = (await self._reader.submit(epoch.meta)).get("usage_windows")
        try:
            return msgspec.json.decode(str(stored or "[]"), type=tuple[model.UsageWindow, ...])
        except msgspec.DecodeError:
            return ()

    async def note_usage_windows(self, windows: Sequence[model.UsageWindow]) -> None:
        """Store the usage limits of the account."""
        await self._writer.submit(epoch.set_meta, usage_windows=msgspec.json.encode(windows).decode())

    async def settled_time(self) -> float | None:
        """The time, in seconds since the Unix epoch, that retention last went by; None before the first."""
        found = (await self._reader.submit(epoch.meta)).get("settled_time")
        return None if found is None else float(found)

    async def note_settled_time(self, seconds: float) -> None:
        """Store the time that retention goes by, for the next start."""
        await self._writer.submit(epoch.set_meta, settled_time=int(seconds))

    async def stray_worktrees(self) -> list[model.StrayWorktree]:
        """The worktrees that had no conversation when they were noted."""
        return list((await self._reader.submit(epoch.stray_worktrees)).values())

    async def note_worktrees(self, strays: Sequence[model.StrayWorktree] = (), *, settled: Sequence[str] = ()) -> None:
        """As `epoch.note_worktrees`."""
        await self._writer.submit(epoch.note_worktrees, strays, settled=settled)

    # Executions, approvals, processes, sessions.

    async def open_executions(self, conversation_id: ConversationId) -> list[Execution]:
        """A conversation's executions that are not final, in the order of their position."""
        return await self._reader.submit(tables.open_executions, conversation_id)

    async def execution(self, execution_id: model.ExecutionId) -> Execution | None:
        """The execution of this id."""
        return await self._first(tables.EXECUTION, "WHERE id = ?", execution_id)

    async def makers(self, project_id: ProjectId, ids: Sequence[str]) -> dict[str, str]:
        """The devices that gave the prompts of these executions of a project, by their ids."""
        return await self._reader.submit(tables.makers, project_id, ids)

    async def execution_by_prompt(self, conversation_id: ConversationId, prompt_id: str) -> Execution | None:
        """The execution that a client asked for with its own `prompt_id`."""
        return await self._first(
            tables.EXECUTION, "WHERE conversation_id = ? AND prompt_id = ?", conversation_id, prompt_id
        )

    async def executions(
        self, conversation_id: ConversationId, *, before: model.ExecutionId | None, limit: int
    ) -> list[model.ExecutionSummary]:
        """At most `limit` (at least 1) of a conversation's executions, the newest first.

        Args:
            before: only those from before this one; an unknown one has none before it.
        """
        where = "WHERE conversation_id = ?"
        parameters: list[str] = [conversation_id]
        if before is not None:
            where += " AND position < (SELECT position FROM execution WHERE conversation_id = ? AND id = ?)"
            parameters += [conversation_id, before]
        rest = f"{where} ORDER BY position DESC LIMIT ?"
        return await self._reader.submit(tables.SUMMARY.find, rest, *parameters, max(limit, 1))

    async def last_finished(self, conversation_id: ConversationId) -> Execution | None:
        """A conversation's newest execution that ran and is over."""
        where = (
            "WHERE conversation_id = ? AND finished_at IS NOT NULL AND started_at IS NOT NULL ORDER BY position DESC"
        )
        return await self._first(tables.EXECUTION, where, conversation_id)

    async def spent_usd(self, days: int) -> list[tuple[str, float]]:
        """What all executions of each of the last days (YYYY-MM-DD, local) with costs have cost; the oldest first."""
        return await self._reader.submit(tables.cost_by_day, days)

    async def open_approvals(self, conversation_id: ConversationId) -> list[model.Approval]:
        """A conversation's approvals that are pending, or answered but not delivered; the oldest first."""
        return await self._reader.submit(tables.open_approvals, conversation_id)

    async def approval(self, conversation_id: ConversationId, approval_id: model.ApprovalId) -> model.Approval | None:
        """The approval of this id in this conversation."""
        return await self._first(tables.APPROVAL, "WHERE conversation_id = ? AND id = ?", conversation_id, approval_id)

    async def process(self, conversation_id: ConversationId) -> model.ProcessRecord | None:
        """The conversation's process (the newest, were there several), if one is stored."""
        return await self._first(
            tables.PROCESS, "WHERE conversation_id = ? ORDER BY started_at DESC, rowid DESC", conversation_id
        )

    async def trust(self, project_id: ProjectId) -> model.Trust | None:
        """What was accepted of the project's own settings; None for a project of a version that did not store it."""
        return await self._first(tables.TRUST, "WHERE project_id = ?", project_id)

    async def sessions(self, project_id: ProjectId, limit: int = 100) -> list[model.SessionRecord]:
        """A project's sessions, the last used first; at most `limit` (at least 1)."""
        where = "WHERE project_id = ? ORDER BY last_active DESC, rowid DESC LIMIT ?"
        return await self._reader.submit(tables.SESSION.find, where, project_id, max(limit, 1))

    async def session(self, project_id: ProjectId, session_id: str) -> model.SessionRecord | None:
        """The session of this id in this project."""
        return await self._first(tables.SESSION, "WHERE project_id = ? AND id = ?", project_id, session_id)

    async def _first(self, table: Table[Value], rest: str, *parameters: object) -> Value | None:
        return await self._reader.submit(table.first, rest, *parameters)

    # Devices, pairing codes, and facts about the server; see `device_table` and `epoch`.

    async def devices(self) -> list[model.Device]:
        """All devices, the oldest first."""
        return await self._reader.submit(device_table.devices)

    async def device_by_hash(self, token_hash: str) -> model.Device | None:
        """The device whose token has this SHA-256."""
        return await self._reader.submit(device_table.device_by_hash, token_hash)

    async def add_device(self, new: model.Device) -> None:
        """Store a device. Raises ValidationError when one of this name exists."""
        await self._writer.submit(device_table.add_device, new)

    async def touch_device(self, device_id: str, when: Milliseconds, address: str) -> None:
        """Record when and where a device was last seen."""
        await self._writer.submit(device_table.touch_device, device_id, when, address)

    async def rename_device(self, device_id: str, name: str) -> model.Device | None:
        """Rename and return a device; None when it does not exist. Raises ValidationError when the name is taken."""
        return await self._writer.submit(device_table.rename_device, device_id, name)

    async def rotate_device(
        self,
        device_id: str,
        token_hash: str,
        credential: model.Credential = model.Credential.TOKEN,
        public_key: bytes | None = None,
    ) -> model.Device | None:
        """As `device_table.rotate_device`."""
        return await self._writer.submit(device_table.rotate_device, device_id, token_hash, credential, public_key)

    async def enroll_device(
        self, shown: model.Device, token_hash: str, public_key: bytes | None
    ) -> model.Device | None:
        """As `device_table.enroll_device`."""
        return await self._writer.submit(device_table.enroll_device, shown, token_hash, public_key)

    async def remove_device(self, device_id: str) -> model.Device | None:
        """Remove a device and return it; None when it does not exist."""
        return await self._writer.submit(device_table.remove_device, device_id)

    async def remove_devices(self, device_id: str, *, paired: bool) -> list[model.Device]:
        """As `device_table.remove_devices`: all of them or none."""
        return await self._writer.submit(device_table.remove_devices, device_id, paired=paired)

    async def open_pairings(self, at: Milliseconds) -> list[model.Pairing]:
        """The pairing codes that can be redeemed at this time, the oldest first."""
        return await self._reader.submit(device_table.open_pairings, at)

    async def add_pairing(self, pairing: model.Pairing) -> None:
        """Store a pairing code.

        Raises:
            ResourceLimitError: too many codes are open.
            ForbiddenError: the device that makes it was revoked.
        """
        await self._writer.submit(device_table.add_pairing, pairing)

    async def redeem_pairing(
        self, code_hash: str, new: model.Device, check_maker: Callable[[str | None], None]
    ) -> model.Device | None:
        """Use up a pairing code and add its device; None when there is no such code (any more)."""
        return await self._writer.submit(device_table.redeem_pairing, code_hash, new, check_maker)

    async def cancel_pairing(self, pairing_id: str) -> bool:
        """Delete an open pairing code; false when there is no code of this id (any more)."""
        return await self._writer.submit(device_table.cancel_pairing, pairing_id)

    async def audit_head(self) -> tuple[int, str] | None:
        """The number and the hash of the last known record of the audit log."""
        return await self._reader.submit(epoch.audit_head)

    async def advance_audit_head(self, seq: int, digest: str) -> None:
        """Store the last record of the audit log."""
        await self._writer.submit(epoch.advance_audit_head, seq, digest)

    async def remember_settings(self, shown: Mapping[str, object]) -> dict[str, object]:
        """Store settings as they are printed, without secrets; returns those of the run before."""
        return await self._writer.submit(epoch.remember_settings, shown)
