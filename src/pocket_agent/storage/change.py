"""A change: everything in it is stored together, or none of it."""

import sqlite3

import msgspec

from pocket_agent.errors import InternalError
from pocket_agent.model import Approval, Entry, Execution, ProcessRecord, Project, Session, Spending, Trust
from pocket_agent.storage import device, log, record, spending


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
    sessions: tuple[Session, ...] = ()
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
            device.require_maker(connection, self.admits.device_id, self.admits.generation)
        self._write_log(connection)
        self._check_owner(connection)
        for execution in self.executions:
            record.EXECUTION.put(connection, execution)
        for approval in self.approvals:
            record.APPROVAL.put(connection, approval)
        if self.process is not None:
            record.PROCESS.put(connection, self.process)
        if self.ended_process is not None:
            connection.execute("DELETE FROM process WHERE id = ?", (self.ended_process,))
        for session in self.sessions:
            record.SESSION.put(connection, session)
        for spent in self.spent:
            spending.add(connection, spent)
        if self.trust is not None:
            record.TRUST.put(connection, self.trust)

    def _write_log(self, connection: sqlite3.Connection) -> None:
        if self.project is None:
            if self.entries:
                raise InternalError("Entries need their project.")
            return
        start = self.project.head - len(self.entries) + 1
        if any(entry.offset != offset for offset, entry in enumerate(self.entries, start)):
            raise InternalError("The entries' offsets have a gap, or do not end at the project's head.")
        size = sum([len(entry.data) for entry in self.entries])
        record.put_project(connection, self.project, entries=len(self.entries), size=size)
        log.append(connection, self.project.number, self.entries)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        """A part of a project that was deleted would stay for ever: nothing would sweep it."""
        parts: tuple[Execution | Approval | Session, ...]
        parts = (*self.executions, *self.approvals, *self.sessions)
        owners = {part.project_id for part in parts}
        owners |= {part.project_id for part in (self.process, self.trust) if part is not None}
        if self.project is None:
            for project_id in owners:
                record.require_project(connection, project_id)
        elif owners - {self.project.id}:
            raise InternalError("A change that moves a project cannot touch another one.")
