"""kill -9 at random points: what was promised is there, and nothing is there by half."""

import os
import random
import subprocess
import sys
from pathlib import Path

from pocket_agent.storage import Store
from tests.storage.sample import offsets

ROUNDS = 20
_ROOT = Path(__file__).parents[2]


def _killed_run(database: Path, acknowledgements: int) -> dict[int, int]:
    """Run the program, kill it after so many promises; the last head that each project was promised."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(database.parent), "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.storage.crashing", database],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        child.kill()
        lines += child.stdout.readlines()
    promised: dict[int, int] = {}
    for line in lines:
        if line.endswith(b"\n"):
            number, head = line.split()
            promised[int(number)] = int(head)
    return promised


async def test_a_killed_server_loses_nothing_that_it_promised(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    chance = random.Random(4)  # noqa: S311 - the points to kill at, not a secret
    for _ in range(ROUNDS):
        promised = _killed_run(database, chance.randint(1, 150))
        assert promised
        store = Store.open(database)
        assert not store.epochs_renewed
        for project in await store.conversations():
            assert project.head >= promised.get(project.number, 0)
            assert await offsets(store, project) == list(range(1, project.head + 1))
            record = await store.process(project.id)
            assert (record.consumed if record else 0) == project.head * 300
        await store.close()
