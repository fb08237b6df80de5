"""Memory and CPU of the agents' processes, read at an interval in a thread, and the agents with the highest values."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pocket_agent.claude.process_tree import TreeMeter, TreeUsage
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.observability.catalogue import AGENT_STATES
from pocket_agent.observability.health import in_thread
from pocket_agent.settings import CurrentSettings

_READING_SECONDS: Final = 5.0
"""Longest reading that is waited for; a longer one counts as failed, and no other starts before it has ended."""
_PAUSE_FACTOR: Final = 100
"""The pause after a reading is at least this many times as long as the reading, so that it takes 1 % of a core."""
_NAME_CHARACTERS: Final = 100

AgentState = Literal["executing", "waiting", "idle"]


class AgentUsage(NamedTuple):
    """Usage of one agent with all its processes; CPU in cores."""

    memory_bytes: float = 0.0
    cpu_cores: float = 0.0


class Top(NamedTuple):
    """The highest value of an agent, and the name of its project; 0 and empty without an agent."""

    value: float = 0.0
    project: str = ""


def top(values: Mapping[Conversation, float]) -> Top:
    """The highest value above 0."""
    conversation = max(values, key=values.__getitem__, default=None)
    if conversation is None or values[conversation] <= 0:
        return Top()
    name = conversation.state.record.name.encode("utf-8", "replace").decode()
    return Top(values[conversation], name[:_NAME_CHARACTERS])


def state_of(conversation: Conversation) -> AgentState:
    """What the agent of a project is doing."""
    if conversation.state.approvals:
        return "waiting"
    return "executing" if conversation.state.works else "idle"


class AgentMonitor:
    """Reads the usage of all agents at the interval of the health checks; `failed` counts readings that failed.

    Args:
        conversations: returns those of all projects.
        read: the usage of process trees by their marks; may raise any exception.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        conversations: Callable[[], Sequence[Conversation]],
        settings: CurrentSettings,
        read: Callable[[Sequence[str]], Mapping[str, TreeUsage]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conversations = conversations
        self._settings = settings
        self._read = read if read is not None else TreeMeter().read
        self._clock = clock
        self._reading: asyncio.Future[Mapping[str, TreeUsage]] | None = None
        self._before: dict[str, tuple[float, float]] = {}  # by mark: when, and the CPU time until then
        self._usage: dict[str, AgentUsage] = {}
        self.failed = 0

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            began = self._clock()
            await self.update()
            await asyncio.sleep(self.pause(self._clock() - began))

    def pause(self, took: float) -> float:
        """Seconds until the next reading, after one that took `took` seconds."""
        return max(self._settings.current.health.interval, took * _PAUSE_FACTOR)

    async def update(self) -> None:
        """Read the usage of the agents that run; a reading that fails changes nothing."""
        marks = [process.id for conversation in self._conversations() if (process := conversation.process) is not None]
        if not marks and not self._usage:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(in_thread(lambda: self._read(marks), "agents"))
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(_READING_SECONDS):
                found = await asyncio.shield(self._reading)
        except Exception:  # noqa: BLE001 - whatever fails about a process of an agent must not end the server
            self.failed += 1
            return
        now = self._clock()
        self._usage = {mark: self._usage_of(mark, usage, now) for mark, usage in found.items()}
        self._before = {mark: (now, usage.cpu_seconds) for mark, usage in found.items()}

    def _usage_of(self, mark: str, usage: TreeUsage, now: float) -> AgentUsage:
        """The usage since the previous reading; the first one of a process only starts the measurement of its CPU."""
        at, cpu = self._before.get(mark, (now, usage.cpu_seconds))
        return AgentUsage(usage.memory_bytes, max(0.0, usage.cpu_seconds - cpu) / max(now - at, 0.001))

    def usage(self) -> dict[Conversation, AgentUsage]:
        """The usage of each agent that runs, as of the last reading; zeros for one that is new."""
        return {
            conversation: self._usage.get(process.id, AgentUsage())
            for conversation in self._conversations()
            if (process := conversation.process) is not None
        }


def by_state(values: Mapping[Conversation, float]) -> dict[tuple[str, ...], float]:
    """The sum and the highest of the values of each state, by state and statistic."""
    groups: dict[str, list[float]] = {state: [] for state in AGENT_STATES}
    for conversation, value in values.items():
        groups[state_of(conversation)].append(value)
    return {
        key: value
        for state, found in groups.items()
        for key, value in (((state, "sum"), sum(found, 0.0)), ((state, "max"), max(found, default=0.0)))
    }
