"""Asks programs over HTTP, within a time limit and without following redirects; the API of Prometheus."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SECONDS: Final = 5.0
"""How long a program may take to answer."""
_BYTES: Final = 8 * 1024 * 1024

Form = TypeVar("Form")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: of HTTP; None when there was no answer.
        fault: why there was none, as the end of a sentence.
    """

    status: int | None
    body: bytes = b""
    fault: str = ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def said(self) -> str:
        """What a message says of an unwanted reply: the fault, or the status and the first line."""
        if self.status is None:
            return self.fault
        lines = self.text.strip().splitlines()
        return f"status {self.status}" + (f", {lines[0][:160]}" if lines else "")

    def read(self, kind: type[Form]) -> Form | None:
        """The body as JSON of a type; None when it is another."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The whole body, up to a limit: a single read returns what has arrived."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) >= _BYTES:
            break
    return bytes(body[:_BYTES])


async def get(
    url: str,
    query: dict[str, str] | None = None,
    *,
    token: str | None = None,
    trusting: bool = False,
    seconds: float = SECONDS,
) -> Reply:
    """The reply to a GET request.

    Args:
        url: where.
        query: the parameters of the URL.
        token: sent as a bearer token.
        trusting: accept any certificate. Only for a request without a secret whose reply is not relied on: the server's
            own certificate has a check of its own.
        seconds: how long it may take.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return await _request("GET", url, headers, seconds, params=query or {}, ssl=not trusting)


async def post(
    url: str, body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> Reply:
    """The reply to a body."""
    return await _request("POST", url, {**(headers or {}), "Content-Type": content_type}, SECONDS, data=body)


async def _request(method: str, url: str, headers: dict[str, str], seconds: float, **options: Any) -> Reply:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=False) as http,
            http.request(method, url, headers=headers, allow_redirects=False, **options) as answer,
        ):
            return Reply(answer.status, await _read(answer.content))
    except aiohttp.ClientConnectorCertificateError as error:
        return Reply(None, fault=f"its certificate is not trusted: {error.certificate_error}")
    except aiohttp.ClientConnectorError as error:
        known = error.os_error.errno
        return Reply(None, fault=os.strerror(known).lower() if known else str(error.os_error))
    except TimeoutError:
        return Reply(None, fault=f"no answer within {seconds:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Reply(None, fault=str(error) or type(error).__name__)


def read_samples(text: str) -> list[Sample]:
    """The samples of a scrape; none when the text is not one."""
    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, IndexError, KeyError):
        return []


def total(samples: Sequence[Sample], name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(sample.value for sample in samples if sample.name == name)


# --- the API of Prometheus


NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""What Prometheus returns for something that has not happened."""
LATER: Final = "Prometheus was started just now: check again in a minute or two."
_YOUNG_SECONDS: Final = 90.0
"""Prometheus looks up its targets after five seconds, and sends an alert again that was not delivered after sixty."""


class ScrapeTarget(msgspec.Struct, rename="camel"):
    """What is scraped; `health` is up, down, or unknown before the first scrape."""

    labels: dict[str, str]
    scrape_url: str
    health: str
    last_error: str = ""
    last_scrape: datetime = NEVER
    scrape_interval: str = ""
    scrape_timeout: str = ""
    pool: str = msgspec.field(name="scrapePool", default="")  # the job in the configuration; labels may have another

    @property
    def job(self) -> str:
        """The name of its job."""
        return self.labels.get("job", "?")


class ScrapeTargets(msgspec.Struct, rename="camel"):
    """The data of /api/v1/targets."""

    active_targets: list[ScrapeTarget]


class LoadedRule(msgspec.Struct, rename="camel"):
    """A rule; `health` is ok, err, or unknown before the first evaluation, `state` that of an alert; seconds."""

    name: str
    query: str
    type: str
    health: str = "unknown"
    last_error: str = ""
    state: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    duration: float = 0.0
    keep_firing_for: float = 0.0


class RuleGroup(msgspec.Struct, rename="camel"):
    """Rules of a file, evaluated every `interval` seconds; `last_evaluation` is NEVER before the first one."""

    name: str
    interval: float
    rules: list[LoadedRule]
    limit: int = 0
    last_evaluation: datetime = NEVER
    file: str = ""


class RuleGroups(msgspec.Struct):
    """The data of /api/v1/rules."""

    groups: list[RuleGroup]


class AlertmanagerTarget(msgspec.Struct):
    """Where alerts are sent."""

    url: str


class AlertmanagerTargets(msgspec.Struct, rename="camel"):
    """The data of /api/v1/alertmanagers."""

    active_alertmanagers: list[AlertmanagerTarget]


class QuerySample(msgspec.Struct):
    """A series of the result of an instant query; `value` is the time and the value as text."""

    metric: dict[str, str]
    value: tuple[float, str]

    @property
    def number(self) -> float:
        """The value; NaN when it is not a number."""
        try:
            return float(self.value[1])
        except ValueError:
            return math.nan


class QueryResult(msgspec.Struct):
    """The data of /api/v1/query."""

    result: list[QuerySample]


class RuntimeInfo(msgspec.Struct, rename="camel"):
    """The data of /api/v1/status/runtimeinfo."""

    start_time: datetime
    directory: str = msgspec.field(name="CWD", default="/")
    reloaded: bool = msgspec.field(name="reloadConfigSuccess", default=True)  # whether the last reload was accepted
    loaded_at: datetime | None = msgspec.field(name="lastConfigTime", default=None)


class ConfigText(msgspec.Struct):
    """The data of /api/v1/status/config."""

    yaml: str


class BuildInfo(msgspec.Struct):
    """The data of /api/v1/status/buildinfo."""

    version: str


Data = TypeVar("Data")


class _Answer(msgspec.Struct, Generic[Data]):
    status: str
    data: Data


class Prometheus:
    """A running Prometheus, by its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def reply(self, path: str, **query: str) -> Reply:
        """An answer as it is."""
        return await get(self.url + path, query)

    async def data(self, path: str, kind: type[Data], **query: str) -> Data | None:
        """The data of a reply of the API; None without a reply, or when it has another form."""
        answer = (await self.reply(f"/api/v1/{path}", **query)).read(_Answer[kind])  # type: ignore[valid-type] # a type made of an argument
        return answer.data if answer is not None and answer.status == "success" else None

    async def is_young(self) -> bool:
        """Whether it was started just now: it begins to scrape, and to send alerts, a while later."""
        found = await self.data("status/runtimeinfo", RuntimeInfo)
        return found is not None and (datetime.now(UTC) - found.start_time).total_seconds() < _YOUNG_SECONDS

    async def query(self, text: str) -> list[QuerySample]:
        """The result of an instant query that gives a vector; nothing when it fails."""
        found = await self.data("query", QueryResult, query=text)
        return found.result if found is not None else []
