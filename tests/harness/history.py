"""What clients were given and promised, compared with what a copy of the database holds.

A server may be killed at any moment. What must hold afterwards, whatever the moment:

1. An entry that any client was given is in the log, byte for byte, at its offset (within its epoch).
2. Within an epoch an offset stands for one entry, for all clients and for ever.
3. Each client gets the entries in order, each once, without a gap.
4. The log itself has no gap, and its head is the offset of its last entry.
5. A prompt that was acknowledged is carried out once; one that was not, once at most.
"""

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from pocket_agent.client import Backoff
from pocket_agent.storage.tables import OFFSET_BITS
from tests.harness.follow import Line
from tests.harness.server import ServerProcess

QUICK: Final = Backoff(initial=0.01, maximum=0.1)
"""How soon a client connects again to a server that was killed."""


class Log(NamedTuple):
    """A project's log as it is stored."""

    epoch: str
    head: int
    lines: Sequence[Line]


def copy_database(database: Path, folder: Path) -> Path:
    """Copy what the next server would find; the one that wrote it is gone."""
    folder.mkdir(parents=True)
    for suffix in ("", "-wal"):
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copy(source, folder / source.name)
    return folder / database.name


def read_log(database: Path, project_id: str) -> Log:
    """A project's log out of a copy of the database."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT number, epoch, head FROM conversation WHERE id = ?"
        number, epoch, head = connection.execute(query, (project_id,)).fetchone()
        rows = connection.execute(
            "SELECT id, type, data FROM entry WHERE id BETWEEN ? AND ? ORDER BY id",
            (number << OFFSET_BITS, (number + 1) << OFFSET_BITS),
        ).fetchall()
    return Log(epoch, head, [Line(key - (number << OFFSET_BITS), kind, bytes(data)) for key, kind, data in rows])


class History:
    """The record of one project."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, int], Line] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._acknowledged: set[str] = set()
        self._asked: set[str] = set()
        self._said: set[str] = set()
        self.faults: list[str] = []

    @property
    def size(self) -> int:
        """How many entries clients were given."""
        return len(self._given)

    @property
    def clients(self) -> int:
        """How many clients were given anything."""
        return len(self._last)

    def carried_out(self, tag: str) -> bool:
        """Whether a client has seen that a prompt was carried out."""
        return tag in self._said

    @property
    def outstanding(self) -> int:
        """How many prompts were acknowledged of which no client has seen that they were carried out."""
        return len(self._acknowledged - self._said)

    def joined(self, client: str) -> None:
        """A client begins anew, and may be given any entry next."""
        self._last.pop(client, None)

    def given(self, client: str, epoch: str, line: Line) -> None:
        """A client was given an entry."""
        known = self._given.setdefault((epoch, line.offset), line)
        if known is line:
            self._said.update(_words(line))
        if known != line:
            self.faults.append(f"{client}: offset {line.offset} of {epoch} is {line}, and was {known}")
        before = self._last.get(client)
        if before is not None and before[0] == epoch and line.offset != before[1] + 1:
            self.faults.append(f"{client}: offset {line.offset} came after {before[1]}")
        self._last[client] = (epoch, line.offset)

    def asked(self, tag: str) -> None:
        """A prompt is sent; its tag is one word of it, which the agent says once."""
        self._asked.add(tag)

    def acknowledged(self, tag: str) -> None:
        """The server has promised to carry a prompt out."""
        self._acknowledged.add(tag)

    def compare(self, log: Log) -> None:
        """Look for what contradicts the record in a copy of the log."""
        first = log.lines[0].offset if log.lines else log.head + 1
        offsets = [line.offset for line in log.lines]
        if offsets != list(range(first, log.head + 1)):
            self.faults.append(f"the log has a gap, or its head {log.head} is not its last entry: {offsets[-5:]}")
        stored = {line.offset: line for line in log.lines}
        for (epoch, offset), line in self._given.items():
            if epoch == log.epoch and offset >= first and stored.get(offset) != line:
                self.faults.append(f"offset {offset} of {epoch} was given as {line}, and is {stored.get(offset)}")
        for tag, count in self._carried_out(log).items():
            if count > 1:
                self.faults.append(f"the prompt {tag} was carried out {count} times")

    def compare_at_end(self, log: Log) -> None:
        """The same when all prompts are over."""
        self.compare(log)
        done = self._carried_out(log)
        self.faults += [f"the prompt {tag} was never carried out" for tag in sorted(self._acknowledged - done.keys())]

    def _carried_out(self, log: Log) -> Counter[str]:
        said = Counter(word for line in log.lines for word in _words(line))
        return Counter({tag: said[tag] for tag in self._asked if said[tag]})


def _words(line: Line) -> list[str]:
    """What the agent says in a line."""
    if line.type != "agent_message" or b'"assistant"' not in line.data:
        return []
    return [part.get("text", "") for part in json.loads(line.data)["message"]["content"]]


async def record(server: ServerProcess, project_id: str, name: str, history: History) -> None:
    """Record all entries that a client is given that joins at the beginning, and again after each kill."""
    async with server.client(backoff=QUICK) as client, client.subscribe(project_id, 0) as stream:
        async for frame in stream:
            if frame.type == "project_join" and frame.gap:
                history.joined(name)
            if frame.offset is not None:
                assert stream.joined is not None
                history.given(name, stream.joined.epoch, Line(frame.offset, frame.type, frame.payload))
