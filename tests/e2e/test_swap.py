"""A directory that somebody swaps for a link between the check and the use: no agent starts where it may not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.follow import end_of
from tests.harness.server import running_server, write_standin

from pocket_agent.errors import PocketAgentError

ROUNDS = 60


@contextmanager
def swapping(swap: Callable[[], None]) -> Iterator[list[int]]:
    """Somebody who swaps all the time; how often is told."""
    over, count = threading.Event(), [0]

    def work() -> None:
        while not over.is_set():
            swap()
            count[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


def swap_of(inside: Path, outside: Path) -> Callable[[], None]:
    """What puts a link to `outside` in the place of a directory, and the directory back again."""
    kept = inside.with_name(inside.name + ".kept")
    link = inside.with_name(inside.name + ".link")

    def swap() -> None:
        link.symlink_to(outside)
        inside.rename(kept)
        link.rename(inside)
        inside.rename(link)
        kept.rename(inside)
        link.unlink()

    return swap


def telling(folder: Path, told: Path) -> Path:
    """A CLI that writes down where it was started, and is the stand-in then."""
    program = folder / "claude"
    program.write_text(f'#!/bin/sh\n/bin/pwd -P >> "{told}"\nexec "{write_standin(folder, "standin")}" "$@"\n')
    program.chmod(0o700)
    return program


@pytest.mark.parametrize("which", ["project", "parent"])
async def test_no_agent_starts_behind_a_link_that_is_swapped_in(tmp_path: Path, which: str) -> None:
    """The server with its own way of starting processes, against somebody who swaps as fast as he can."""
    project, secret, told = tmp_path / "code" / "parent" / "project", tmp_path / "secret", tmp_path / "told"
    project.mkdir(parents=True)
    (secret / "project").mkdir(parents=True)
    env = {
        "PA_CLAUDE_BINARY": str(telling(tmp_path, told)),
        "PA_PROJECTS_ALLOWED_ROOTS": str(tmp_path / "code"),
        "PA_LOG_LEVEL": "error",
    }
    async with running_server(tmp_path, env=env) as server, server.client() as client:
        made = await client.create_project(str(project))
        async with client.subscribe(made.id) as stream:
            with swapping(swap_of(project if which == "project" else project.parent, secret)) as swaps:
                for _ in range(ROUNDS):
                    try:
                        receipt = await client.execute(made.id, "leave")
                    except PocketAgentError:
                        continue  # it was the link just now, or nothing at all
                    await end_of(stream, receipt.execution_id)
            receipt = await client.execute(made.id, "leave")
            await end_of(stream, receipt.execution_id)
    assert swaps[0] > ROUNDS
    places = told.read_text().splitlines()
    assert places[-1] == str(project)
    assert not [place for place in places if place.startswith(str(secret))], places
