"""A program that commits until it is killed, and says on standard output what it was promised.

Each line is `PROJECT HEAD`: the store returned from the commit that made HEAD the head.
"""

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

import msgspec

from pocket_agent.model import ConversationRecord
from pocket_agent.storage import Store
from tests.storage.sample import create, grown, process


async def main(database: Path) -> None:
    """Commit in several projects at once, without end."""
    store = Store.open(database)
    projects = await store.conversations()
    while len(projects) < 3:
        projects.append(await create(store, f"p{len(projects)}"))
    async with asyncio.TaskGroup() as group:
        for project in projects:
            group.create_task(run(store, project))


async def run(store: Store, project: ConversationRecord) -> None:
    """Commit runs of entries together with the byte that they end at."""
    for turn in count(project.head):
        change = grown(project, turn % 7 + 1, size=300)
        assert change.record is not None
        project = change.record
        record = process(project, consumed=project.head * 300, name=project.id)
        await store.commit(msgspec.structs.replace(change, process=record))
        os.write(1, f"{project.number} {project.head}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
