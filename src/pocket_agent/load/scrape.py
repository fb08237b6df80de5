"""The server's own metrics, as Prometheus would read them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from pocket_agent.errors import PocketAgentError

_SECONDS: Final = 5.0
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{.*\})?) (\S+)(?: \S+)?")
"""A line of the text format 0.0.4 (prometheus.io, "Exposition formats"): series, value, perhaps a time."""

Samples = Mapping[str, float]
"""Values by series: the name with its labels, as the server writes them."""


class ScrapeError(PocketAgentError):
    """The metrics cannot be read; the message says why."""


@dataclass(frozen=True)
class Exporter:
    """Where the metrics are.

    Attributes:
        url: of /metrics.
        token: the bearer token that it wants, if it wants one.
    """

    url: str
    token: str | None = None

    async def scrape(self) -> Samples:
        """All samples but the buckets of histograms.

        Raises:
            ScrapeError: nobody answers there, or not with metrics.
        """
        headers = {"Accept": "text/plain;version=0.0.4"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(self.url, headers=headers, allow_redirects=False) as answer,
            ):
                text = await answer.text("utf-8", "replace")
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ScrapeError(f"{self.url} cannot be read: {error or 'no answer in time'}.") from error
        if status != 200:
            raise ScrapeError(f"{self.url} answered with HTTP {status}.")
        samples = parse(text)
        if not samples:
            raise ScrapeError(f"{self.url} has no metrics.")
        return samples


def parse(text: str) -> Samples:
    """The samples of a page in the text format, but the buckets of histograms; what is no sample is left out."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line)
        if found is None or "_bucket{" in found[1]:
            continue
        try:
            samples[found[1]] = float(found[2])
        except ValueError:
            continue
    return samples


def changes(before: Samples, after: Samples) -> dict[str, tuple[float, float]]:
    """The series whose value is another one, with both values; one that was not there before was 0."""
    return {name: (before.get(name, 0.0), value) for name, value in after.items() if before.get(name, 0.0) != value}
