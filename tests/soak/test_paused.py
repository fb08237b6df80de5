"""Kills at random points while prompts join a turn, wait for a usage limit, or lose their CLI; with the real CLI."""

import asyncio
import contextlib
import json
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pytest

from pocket_agent.client import Client
from pocket_agent.errors import ProcessNotFoundError
from pocket_agent.model import ExecuteOptions
from pocket_agent.storage.database import database_path
from tests.harness.follow import Line, eventually, stored
from tests.harness.history import QUICK, History, copy_database, read_log, record
from tests.harness.recorder import said
from tests.harness.scene import Stage, own_stage

ALLOWED: Final = ExecuteOptions(allowed_tools=("Bash",))
TIMEOUT: Final = 120


@dataclass
class Trial:
    """One conversation that is watched while its server is killed.

    Attributes:
        tags: a word of each prompt that no other one has, by the id of its execution.
    """

    stage: Stage
    client: Client
    project_id: str
    history: History
    chance: random.Random
    copies: Path
    tags: dict[str, str] = field(default_factory=dict)

    async def give(self, words: str, when: Literal["queue", "now"] = "queue") -> str:
        """Give a prompt; returns the id of its execution."""
        tag = f"tag-{len(self.tags)}-{self.chance.getrandbits(32):x}"
        prompt = f"{tag} {words}"
        receipt = await self.client.execute(self.project_id, prompt, options=ALLOWED, when=when, timeout=TIMEOUT)
        self.tags[receipt.execution_id] = tag
        return receipt.execution_id

    async def pause(self, most: float) -> None:
        """Wait until the next random point, at most so many seconds later."""
        await asyncio.sleep(self.chance.uniform(0, most))

    async def kill(self, *, agents: bool = False) -> None:
        """Kill the server, with `agents` also the CLI, compare what it left with the history, and start it again."""
        server = self.stage.server
        await server.kill()
        if agents:
            self.kill_agents()
        copy = copy_database(database_path(server.data_dir), self.copies / str(len(list(self.copies.iterdir()))))
        self.history.compare(read_log(copy, self.project_id))
        await server.start()

    def kill_agents(self) -> None:
        """Kill the CLI, as the kernel does when memory runs out."""
        for agent in self.stage.server.agents():
            agent.kill()

    async def all_succeed(self) -> None:
        """Wait until all prompts were carried out."""

        async def is_over() -> bool:
            found = (await self.client.executions(self.project_id, limit=200)).executions
            return {str(one.status) for one in found if one.execution_id in self.tags} == {"success"}

        await eventually(is_over, "all prompts are carried out")

    async def all_given(self) -> bool:
        """Whether the clients were given the log as it is now: the CLI also writes after the end of an execution."""
        return self.history.size == len(await stored(self.client, self.project_id))


async def steer(trial: Trial) -> None:
    """A prompt for the running turn, and a waiting one that is promoted into it."""
    await trial.give("demo:bash=sleep 1")
    waiting = await trial.give("demo:text")
    await trial.pause(0.9)
    asking = asyncio.create_task(trial.give("demo:text", when="now"))
    promoting = asyncio.create_task(trial.client.promote_prompt(trial.project_id, waiting))
    await trial.pause(0.4)
    await trial.kill()
    await asking
    with contextlib.suppress(ProcessNotFoundError, ConnectionError):
        await promoting


async def reach_limit(trial: Trial) -> None:
    """A usage limit in the middle of a queue."""
    for words in ("demo:slow=300ms", "demo:limit=1s", "demo:text"):
        await trial.give(words)
    await trial.pause(3)
    await trial.kill()


async def lose_agent(trial: Trial) -> None:
    """The CLI is lost, alone or with the server."""
    for words in ("demo:slow=1s", "demo:bash=sleep 0.5", "demo:text"):
        await trial.give(words)
    await trial.pause(3)
    if trial.chance.random() < 0.5:
        trial.kill_agents()
    else:
        await trial.kill(agents=True)


async def has_reached_the_model(trial: Trial, executions: Sequence[str]) -> None:
    """Each prompt reached the model, and one that was interrupted is in the session in which it continued.

    One that was carried out just before may not be: the CLI stores a session with a delay.
    """
    bodies = [said(body) for body in trial.stage.model.bodies]
    log = await stored(trial.client, trial.project_id)
    given = [json.loads(line.data)["execution_id"] for line in log if line.type == "prompt"]
    tags = [trial.tags[key] for key in executions]
    *_, last = (body for body in bodies if any(tag in body for tag in tags))
    for key, tag in zip(executions, tags, strict=True):
        assert any(tag in body for body in bodies), f"{tag} never reached the model"
        assert given.count(key) == 1 or last.count(tag) == 1, f"{tag} continued without its prompt"


def prompts(log: Sequence[Line], tags: Mapping[str, str]) -> list[str]:
    """The tags of the prompts in the order of the log, each as often as it was given to the agent by itself."""
    given = [json.loads(line.data) for line in log if line.type == "prompt"]
    return [tags[data["execution_id"]] for data in given if not data.get("continues")]


Play = Callable[[Trial], Awaitable[None]]
SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    ("play", "kills"),
    [
        pytest.param(steer, 2, id="steering"),
        pytest.param(steer, 20, id="steering-20", marks=SOAK),
        pytest.param(reach_limit, 20, id="limit-20", marks=SOAK),
        pytest.param(lose_agent, 2, id="lost"),
        pytest.param(lose_agent, 20, id="lost-20", marks=SOAK),
    ],
)
async def test_each_prompt_is_carried_out_once_and_in_order(
    tmp_path: Path, folder: Path, play: Play, kills: int
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))
    print("SOAK_SEED", seed)
    (tmp_path / "copies").mkdir()
    always = {"PA_EXECUTIONS_RESUME_INTERRUPTED": "always"}
    async with (
        own_stage(tmp_path, subscription=play is reach_limit, **always) as stage,
        stage.server.client(backoff=QUICK) as client,
    ):
        project = await client.create_project(str(folder))
        chance = random.Random(seed)  # noqa: S311 - it has to be the same when it is given again
        trial = Trial(stage, client, project.id, History(), chance, tmp_path / "copies")
        following = [
            asyncio.create_task(record(stage.server, project.id, f"client {number}", trial.history))
            for number in range(2)
        ]
        for _ in range(kills):
            before = len(trial.tags)
            await play(trial)
            await trial.all_succeed()
            await has_reached_the_model(trial, list(trial.tags)[before:])
            assert [task.exception() for task in following if task.done()] == []
            assert trial.history.faults == []
        await trial.give("demo:text")
        await trial.all_succeed()
        await eventually(trial.all_given, "the clients were given all")
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        await stage.server.stop()
        log = read_log(database_path(stage.server.data_dir), project.id)
        trial.history.compare_at_end(log)
    assert trial.history.faults == []
    order = list(dict.fromkeys(prompts(log.lines, trial.tags)))
    assert sorted(order) == sorted(trial.tags.values())
    *_, last = (said(body) for body in stage.model.bodies if order[-1] in said(body))
    kept = [tag for tag in order if tag in last]
    assert kept == order or play is lose_agent
    assert [last.count(tag) for tag in kept] == [1] * len(kept), "the model has each prompt once"
    assert sorted(kept, key=last.index) == kept, "and in the order of the log"
