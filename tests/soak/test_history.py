"""Kills at random points for as long as is asked for, and the checker that watches over them, which can fail."""

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from pocket_agent.client import Client
from pocket_agent.storage import Store
from pocket_agent.storage.database import database_path
from tests.harness.follow import Line, eventually, stored
from tests.harness.history import QUICK, History, copy_database, read_log, record
from tests.harness.server import ServerProcess
from tests.storage.sample import create, entry

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
KILLS = 3
"""How often the server is killed when no duration is given (SOAK_SECONDS, `make soak`)."""
FOLLOWERS = 2
PROMPTS_AT_ONCE = 2


async def ask(client: Client, project_id: str, chance: random.Random, history: History) -> None:
    """Send prompts one after the other, each with a word that no other one has."""
    while True:
        tag = f"tag-{chance.getrandbits(64):x}"
        history.asked(tag)
        prompt = f"lines {chance.randint(1, 20)} {chance.randint(0, 5000)} {tag}"
        await client.execute(project_id, prompt, timeout=120)
        history.acknowledged(tag)
        await eventually(partial(history.carried_out, tag), "the prompt is carried out")


async def kill(
    server: ServerProcess, logs: Mapping[str, tuple[str, History]], chance: random.Random, copy: Path
) -> None:
    """Kill the server, compare what it left of each conversation with the history, and start it again."""
    histories = [history for _, history in logs.values()]
    goal = sum(history.size for history in histories) + chance.randint(1, 60)
    if chance.random() < 0.5:
        await eventually(lambda: sum(history.size for history in histories) >= goal, "the agents go on")
    await asyncio.sleep(chance.uniform(0, 0.2))
    await server.kill()
    database = copy_database(database_path(server.data_dir), copy)
    for key, (_, history) in logs.items():
        history.compare(read_log(database, key))
    await server.start()


async def test_killed_at_random_points_no_client_sees_another_history(
    standin_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    """Three conversations of one project, each with prompts, clients and a log of its own."""
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))
    print("SOAK_SEED", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same when it is given again
    server = standin_server
    began, kills = time.monotonic(), 0
    async with server.client(backoff=QUICK) as client:
        project = await client.create_project(str(folder))
        logs = {project.id: (project.epoch, History())}
        for _ in range(2):
            made = await client.create_conversation(project.id)
            logs[str(made.conversation_id)] = (made.epoch, History())
        histories = [history for _, history in logs.values()]
        asking = [
            asyncio.create_task(ask(client, key, chance, history))
            for key, (_, history) in logs.items()
            for _ in range(PROMPTS_AT_ONCE)
        ]
        following = [
            asyncio.create_task(record(server, key, f"client {number}", history))
            for key, (_, history) in logs.items()
            for number in range(FOLLOWERS)
        ]
        await eventually(lambda: all(found.clients == FOLLOWERS for found in histories), "all clients follow")
        while (kills < KILLS or time.monotonic() - began < SECONDS) and not any(found.faults for found in histories):
            kills += 1
            await kill(server, logs, chance, tmp_path / f"copy {kills}")
            assert [task.exception() for task in (*asking, *following) if task.done()] == []
            for key, (epoch, history) in logs.items():
                for line in await stored(client, key):
                    history.given(f"newcomer {kills}", epoch, line)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        await eventually(lambda: all(found.outstanding == 0 for found in histories), "all prompts are carried out")
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        await server.stop()
        for key, (_, history) in logs.items():
            history.compare_at_end(read_log(database_path(server.data_dir), key))
    print(f"{kills} kills, {[found.size for found in histories]} entries, {time.monotonic() - began:.0f} s")
    assert [found.faults for found in histories] == [[], [], []]


def _sql(statement: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute(statement)


PLANTED: dict[str, Callable[[sqlite3.Connection], object]] = {
    "the last entry is lost": lambda connection: (
        connection.execute("DELETE FROM entry WHERE id = (SELECT max(id) FROM entry)"),
        connection.execute("UPDATE conversation SET head = head - 1"),
    ),
    "an entry in the middle is lost": _sql("DELETE FROM entry WHERE id % 1024 = 3"),
    "the head is ahead of the log": _sql("UPDATE conversation SET head = head + 1"),
    "an offset stands for another entry": _sql("UPDATE entry SET data = x'7b7d' WHERE id % 1024 = 4"),
    "two entries have changed their places": _sql(
        "UPDATE entry SET data = (SELECT other.data FROM entry other WHERE other.id % 1024 = 9 - entry.id % 1024) "
        "WHERE id % 1024 IN (4, 5)"
    ),
    "the type of an entry is another": _sql("UPDATE entry SET type = 'error' WHERE id % 1024 = 5"),
    "a prompt is carried out twice": _sql("UPDATE entry SET data = (SELECT data FROM entry WHERE id % 1024 = 6)"),
    "an acknowledged prompt is never carried out": _sql(
        "UPDATE entry SET data = CAST(replace(CAST(data AS TEXT), 'tag-1', 'tag-2') AS BLOB) WHERE id % 1024 = 6"
    ),
}


@pytest.mark.parametrize("fault", ["nothing", *PLANTED])
async def test_the_checker_finds_what_is_planted(tmp_path: Path, fault: str) -> None:
    database = tmp_path / "data" / "a.db"
    said = b'{"type":"assistant","message":{"content":[{"type":"text","text":"tag-1"}]}}'
    store = Store.open(database)
    project = await create(store, entries=8)
    await store.close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE entry SET data = CAST(? AS BLOB) WHERE id % 1024 = 6", (said,))
        connection.commit()
    history = History()
    history.asked("tag-1")
    history.acknowledged("tag-1")
    for line in read_log(database, project.id).lines:
        history.given("client", project.epoch, line)
    with closing(sqlite3.connect(copy_database(database, tmp_path / "copy"))) as connection:
        if fault in PLANTED:
            PLANTED[fault](connection)
        connection.commit()
    history.compare_at_end(read_log(tmp_path / "copy" / "a.db", project.id))
    assert bool(history.faults) is (fault != "nothing"), history.faults


def test_the_checker_finds_what_clients_were_given_wrongly() -> None:
    lines = [Line(number, entry(number).type, entry(number).data) for number in range(1, 6)]
    other = lines[2]._replace(data=b"{}")
    for name, second, wrong in (
        ("as the first", lines, False),
        ("a gap", [lines[0], lines[2]], True),
        ("a repetition", [*lines[:2], lines[1]], True),
        ("another order", [lines[1], lines[0]], True),
        ("another entry at an offset", [*lines[:2], other], True),
    ):
        history = History()
        for client, given in (("one", lines), ("two", second)):
            for line in given:
                history.given(client, "0123abcd", line)
        assert bool(history.faults) is wrong, (name, history.faults)
    history = History()
    for client, epoch in (("one", "0123abcd"), ("one", "4567cdef")):
        history.joined(client)
        for line in lines[:2] if epoch == "0123abcd" else [other._replace(offset=1)]:
            history.given(client, epoch, line)
    assert history.faults == [], "another epoch is another log"
