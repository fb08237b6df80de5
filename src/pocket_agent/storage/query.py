"""All questions that the store answers without writing anything."""

from pocket_agent.model import (
    MAX_OFFSET,
    Approval,
    ApprovalId,
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
    Session,
    Trust,
)
from pocket_agent.storage import device, log, record, spending
from pocket_agent.storage.reader import Reader
from pocket_agent.storage.table import Table, Value


class Query:
    """The reading half of the store; see `Store` for what every method raises."""

    def __init__(self, reader: Reader) -> None:
        """Ask by way of this reader."""
        self._reader = reader

    async def projects(self) -> list[Project]:
        """All projects, the oldest first."""
        return await self._reader.submit(record.projects)

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
            lambda connection: log.read(
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
            lambda connection: log.read(
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
        return await self._reader.submit(lambda connection: log.offset_at(connection, project.number, timestamp))

    async def open_executions(self, project_id: ProjectId) -> list[Execution]:
        """A project's executions that are not final, in the order of their position."""
        return await self._reader.submit(lambda connection: record.open_executions(connection, project_id))

    async def execution(self, execution_id: ExecutionId) -> Execution | None:
        """The execution of this id."""
        return await self._first(record.EXECUTION, "WHERE id = ?", execution_id)

    async def execution_by_prompt(self, project_id: ProjectId, prompt_id: str) -> Execution | None:
        """The execution that a client asked for with its own `prompt_id`."""
        where = "WHERE project_id = ? AND prompt_id = ?"
        return await self._first(record.EXECUTION, where, project_id, prompt_id)

    async def last_position(self, project_id: ProjectId) -> int:
        """The position of a project's newest execution; 0 when there is none."""
        where = "WHERE project_id = ? ORDER BY position DESC"
        newest = await self._first(record.EXECUTION, where, project_id)
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
            lambda connection: record.SUMMARY.find(connection, rest, *parameters, max(limit, 1))
        )

    async def last_finished(self, project_id: ProjectId) -> Execution | None:
        """A project's newest execution that ran and is over."""
        where = "WHERE project_id = ? AND finished_at IS NOT NULL AND started_at IS NOT NULL ORDER BY position DESC"
        return await self._first(record.EXECUTION, where, project_id)

    async def spent_usd(self, day: str) -> float:
        """What all executions of a day (YYYY-MM-DD, local) have cost, in United States dollars."""
        return await self._reader.submit(lambda connection: spending.cost_of(connection, day))

    async def open_approvals(self, project_id: ProjectId) -> list[Approval]:
        """A project's approvals that are pending, or answered but not delivered; the oldest first."""
        return await self._reader.submit(lambda connection: record.open_approvals(connection, project_id))

    async def approval(self, project_id: ProjectId, approval_id: ApprovalId) -> Approval | None:
        """The approval of this id in this project."""
        return await self._first(record.APPROVAL, "WHERE project_id = ? AND id = ?", project_id, approval_id)

    async def process(self, project_id: ProjectId) -> ProcessRecord | None:
        """The project's process (the newest, were there several), if one is remembered."""
        where = "WHERE project_id = ? ORDER BY started_at DESC, rowid DESC"
        return await self._first(record.PROCESS, where, project_id)

    async def trust(self, project_id: ProjectId) -> Trust | None:
        """What was accepted of the project's own settings; None for a project of a version that did not note it."""
        return await self._first(record.TRUST, "WHERE project_id = ?", project_id)

    async def sessions(self, project_id: ProjectId, limit: int = 100) -> list[Session]:
        """A project's sessions, the last used first; at most `limit` (at least 1)."""
        where = "WHERE project_id = ? ORDER BY last_active DESC, rowid DESC LIMIT ?"
        return await self._reader.submit(
            lambda connection: record.SESSION.find(connection, where, project_id, max(limit, 1))
        )

    async def session(self, project_id: ProjectId, session_id: str) -> Session | None:
        """The session of this id in this project."""
        return await self._first(record.SESSION, "WHERE project_id = ? AND id = ?", project_id, session_id)

    async def devices(self) -> list[Device]:
        """All devices, the oldest first."""
        return await self._reader.submit(device.devices)

    async def open_pairings(self, at: Milliseconds) -> list[Pairing]:
        """The pairing codes that can be redeemed at this time, the oldest first."""
        return await self._reader.submit(lambda connection: device.open_pairings(connection, at))

    async def device_by_hash(self, token_hash: str) -> Device | None:
        """The device whose token has this SHA-256."""
        return await self._reader.submit(lambda connection: device.device_by_hash(connection, token_hash))

    async def _first(self, table: Table[Value], rest: str, *parameters: object) -> Value | None:
        return await self._reader.submit(lambda connection: table.first(connection, rest, *parameters))
