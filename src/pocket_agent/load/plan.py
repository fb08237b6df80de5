"""What a load test does: how many connections, which requests, how fast and how long, and what it may find."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pocket_agent.errors import ConfigurationError

MAX_CONNECTIONS: Final = 10_000
MAX_RATE: Final = 100_000.0
MAX_WEIGHT: Final = 1_000
MAX_IN_FLIGHT: Final = 10_000
"""Requests that may wait for their answers at a time; further ones are not sent, and count as errors."""


class Kind(enum.StrEnum):
    """A kind of request, by the name that it has in a mix."""

    LIST = "list"
    JOIN = "join"
    EXECUTE = "execute"
    HISTORY = "history"


ABOUT_PROJECTS: Final = frozenset({Kind.JOIN, Kind.EXECUTE, Kind.HISTORY})

Mix = Mapping[Kind, int]
"""How often each kind of request comes, as weights."""

DEFAULT_MIX: Final[Mix] = MappingProxyType({Kind.LIST: 5, Kind.JOIN: 1, Kind.HISTORY: 4})
DEFAULT_PROMPT: Final = "demo:text"
"""A short answer of the scripted model, see `pocket-agent serve --demo`."""

_PART: Final = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]{1,4})\s*")


@dataclass(frozen=True)
class Limits:
    """What the report is judged by; None is not judged.

    Attributes:
        error_ratio: the share of failed requests, and of failed connections, that is accepted.
        p95_ms: the accepted 95th percentile of all latencies, in milliseconds.
        p99_ms: the 99th.
    """

    error_ratio: float | None = 0.01
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True)
class Plan:
    """A load test.

    Attributes:
        connections: how many to open and keep open.
        rate: requests each second, over all connections.
        duration_seconds: how long requests are sent, the ramp included.
        ramp_seconds: within so long all connections are opened, and the rate rises from 0.
        mix: which requests; None is DEFAULT_MIX, as far as the server has projects.
        projects: the ids of the projects to ask about; empty is all of them.
        prompt: what `execute` sends.
        allow_executions: whether the mix may hold `execute`, which costs money.
        timeout_seconds: a request that is not answered within it has failed.
        limits: what the report is judged by.

    Raises:
        ConfigurationError: a value that makes no sense, or executions that were not allowed.
    """

    connections: int = 10
    rate: float = 10.0
    duration_seconds: float = 30.0
    ramp_seconds: float = 5.0
    mix: Mix | None = None
    projects: tuple[str, ...] = ()
    prompt: str = DEFAULT_PROMPT
    allow_executions: bool = False
    timeout_seconds: float = 10.0
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ConfigurationError(f"--connections goes from 1 to {MAX_CONNECTIONS}.")
        if not 0 < self.rate <= MAX_RATE:
            raise ConfigurationError(f"--rate is more than 0 and at most {MAX_RATE:g} requests a second.")
        if self.duration_seconds <= 0 or self.timeout_seconds <= 0:
            raise ConfigurationError("--duration and --timeout are more than 0.")
        if not 0 <= self.ramp_seconds <= self.duration_seconds:
            raise ConfigurationError("--ramp is a part of --duration, so it cannot be longer.")
        if self.mix is not None and self.mix.get(Kind.EXECUTE) and not self.allow_executions:
            raise ConfigurationError(
                "Executions cost money on a server that has an account. "
                "Give --allow-executions as well, best for a server started with --demo."
            )


def parse_mix(text: str) -> Mix:
    """A mix out of `list=5,join=1`; kinds with weight 0 are left out.

    Raises:
        ConfigurationError: not of that form, a kind that there is not, or no weight above 0.
    """
    mix: dict[Kind, int] = {}
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None or found[1] not in set(Kind) or int(found[2]) > MAX_WEIGHT:
            kinds = ", ".join(Kind)
            raise ConfigurationError(
                f"--mix is a list such as list=5,join=1 of {kinds}, with weights from 0 to {MAX_WEIGHT}; "
                f"{part.strip()!r} is not a part of one."
            )
        kind = Kind(found[1])
        if kind in mix:
            raise ConfigurationError(f"--mix names {kind} twice.")
        mix[kind] = int(found[2])
    chosen = {kind: weight for kind, weight in mix.items() if weight}
    if not chosen:
        raise ConfigurationError("--mix needs a weight above 0.")
    return chosen
