"""A page of history: its cost must not grow with the log."""

import time
from pathlib import Path

from tests.harness.server import ServerProcess

from benchmarks.row import Row, median
from pocket_agent.model import Direction, Entry, Milliseconds, Project, ProjectId, ProjectState
from pocket_agent.storage import Change, Store
from pocket_agent.storage.location import database_path

_ROUNDS = 40
_BATCH = 1000


async def run(folder: Path, scale: float) -> list[Row]:
    """Compare pages out of a long log and out of a short one."""
    long, short = int(1_000_000 * scale), max(4_000, int(10_000 * scale))
    made = ServerProcess(folder, env={"PA_LOG_LEVEL": "info", "PA_STORAGE_MAX_ENTRIES": "0"})
    store = Store.open(database_path(made.data_dir))
    try:
        ids = {count: await _fill(store, folder / f"log-{count}", count) for count in (long, short)}
    finally:
        await store.close()
    try:
        await made.start()
        times: dict[tuple[int, int], list[float]] = {}
        async with made.client() as client:
            for _ in range(_ROUNDS):
                for count, project_id in ids.items():
                    for limit in (10, 1000):
                        began = time.perf_counter()
                        page = await client.messages(project_id, since=count // 2, limit=limit)
                        times.setdefault((count, limit), []).append((time.perf_counter() - began) * 1000)
                        assert len(page.messages) == limit
    finally:
        await made.clean_up()
    ratio = median(times[long, 1000]) / median(times[short, 1000])
    few = median(times[long, 10]) / median(times[long, 1000])
    return [
        Row(f"history: 1,000 entries out of {long:,}", median(times[long, 1000]), "ms"),
        Row(f"history: 1,000 entries out of {short:,}", median(times[short, 1000]), "ms"),
        Row("history: the long log against the short one", ratio, "x", "at most 1.5", ratio <= 1.5),
        Row("history: 10 entries against 1,000", few, "x", "below 1", few < 1),
    ]


async def _fill(store: Store, path: Path, count: int) -> str:
    """A project with a log of `count` entries."""
    path.mkdir(parents=True)
    at = Milliseconds(1_700_000_000_000)
    number = await store.next_project_number()
    project_id = ProjectId(f"00000000-0000-4000-8000-{number:012d}")
    data = b'{"type":"user","text":"' + b"x" * 275 + b'"}'
    for start in range(0, count, _BATCH):
        end = min(count, start + _BATCH)
        project = Project(
            number=number,
            id=project_id,
            path=str(path),
            real_path=str(path.resolve()),
            name=path.name,
            state=ProjectState.IDLE,
            session_id=None,
            epoch="0123abcd",
            head=end,
            first=1,
            created_at=at,
            last_active=at,
        )
        entries = tuple(
            Entry(offset, Milliseconds(at + offset), Direction.CLAUDE, "agent_message", data)
            for offset in range(start + 1, end + 1)
        )
        await store.commit(Change(project=project, entries=entries))
    return project_id
