"""What Prometheus tells over its HTTP API (prometheus.io, "HTTP API"); forms hold only what is looked at."""

from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import msgspec

from pocket_agent.monitoring.doctor.page import Browser, Page

LATER: Final = "Prometheus was started just now: look again in a minute or two."
_YOUNG_SECONDS: Final = 90.0
"""It looks for its targets after five seconds, and tells Alertmanager again what it told nobody after sixty."""


class ScrapeTarget(msgspec.Struct, rename="camel"):
    """What is scraped; `health` is up, down, or unknown before the first scrape."""

    labels: dict[str, str]
    scrape_url: str
    health: str
    last_error: str = ""

    @property
    def job(self) -> str:
        """The name of its job."""
        return self.labels.get("job", "?")


class ScrapeTargets(msgspec.Struct, rename="camel"):
    """The data of /api/v1/targets."""

    active_targets: list[ScrapeTarget]


class LoadedRule(msgspec.Struct, rename="camel"):
    """A rule; `health` is ok, err, or unknown before the first evaluation, `state` that of an alert."""

    name: str
    query: str
    type: str
    health: str = "unknown"
    last_error: str = ""
    state: str = ""
    labels: dict[str, str] = {}


class RuleGroup(msgspec.Struct):
    """Rules of a file."""

    rules: list[LoadedRule]


class RuleGroups(msgspec.Struct):
    """The data of /api/v1/rules."""

    groups: list[RuleGroup]


class Alertmanager(msgspec.Struct):
    """Where alerts are sent."""

    url: str


class Alertmanagers(msgspec.Struct, rename="camel"):
    """The data of /api/v1/alertmanagers."""

    active_alertmanagers: list[Alertmanager]


class Series(msgspec.Struct):
    """A series of the result of an instant query; `value` is the time and the value as text."""

    metric: dict[str, str]
    value: tuple[float, str]


class Result(msgspec.Struct):
    """The data of /api/v1/query."""

    result: list[Series]


class Runtime(msgspec.Struct, rename="camel"):
    """The data of /api/v1/status/runtimeinfo."""

    start_time: datetime


class Version(msgspec.Struct):
    """The data of /api/v1/status/buildinfo."""

    version: str


Data = TypeVar("Data")


class _Answer(msgspec.Struct, Generic[Data]):
    status: str
    data: Data


class Prometheus:
    """A running Prometheus.

    Args:
        url: its address.
        browser: what asks it.
    """

    def __init__(self, url: str, browser: Browser) -> None:
        self.url = url
        self._browser = browser

    async def page(self, path: str, **query: str) -> Page:
        """An answer as it is."""
        return await self._browser.get(self.url + path, query)

    async def data(self, path: str, kind: type[Data], **query: str) -> Data | None:
        """The data of an answer of the API; None when there is none, or another."""
        answer = (await self.page(f"/api/v1/{path}", **query)).read(_Answer[kind])  # type: ignore[valid-type]
        return answer.data if answer is not None and answer.status == "success" else None

    async def is_young(self) -> bool:
        """Whether it was started just now: it begins to scrape, and to send alerts, a while later."""
        found = await self.data("status/runtimeinfo", Runtime)
        return found is not None and (datetime.now(UTC) - found.start_time).total_seconds() < _YOUNG_SECONDS

    async def query(self, text: str) -> list[Series]:
        """The result of an instant query that gives a vector; nothing when it fails."""
        found = await self.data("query", Result, query=text)
        return found.result if found is not None else []
