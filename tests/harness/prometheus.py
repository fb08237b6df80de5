"""A real Prometheus on loopback that scrapes what a test tells it to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import free_port
from tests.harness.tool import require_tool

_SCRAPE_SECONDS = 0.25


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: its HTTP address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API.

        Raises:
            AssertionError: it refused.
        """
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/api/v1/{path}", params=parameters) as answer,
        ):
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def values(self, query: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The result of an instant query: a value for the values of the labels."""
        data = await self.get("query", query=query)
        return {
            tuple(sample["metric"].get(label, "") for label in labels): float(sample["value"][1])
            for sample in data["result"]
        }

    async def value(self, query: str) -> float:
        """The one value of an instant query."""
        (found,) = (await self.values(query)).values()
        return found

    async def scraped(self, job: str = "pocket-agent") -> None:
        """Wait for a scrape that began after this call."""
        before = await self._scrapes(job)

        async def again() -> bool:
            # The one that is under way may have read its figures before, so two.
            return await self._scrapes(job) >= before + 2

        await eventually(again, f"Prometheus scrapes {job}")

    async def _scrapes(self, job: str) -> float:
        return sum((await self.values(f'count_over_time(up{{job="{job}"}}[1h])')).values())


@contextlib.asynccontextmanager
async def running_prometheus(
    folder: Path, targets: Mapping[str, int], *, scrape: Mapping[str, object] | None = None
) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes `targets`, ports by job, several times a second.

    Args:
        folder: for its configuration, data and log; made if need be.
        targets: ports on loopback by the name of the job.
        scrape: further settings of each scrape, such as `authorization`.
    """
    binary = require_tool("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}], **(scrape or {})}
        for job, port in targets.items()
    ]
    # JSON is YAML.
    seconds = f"{round(_SCRAPE_SECONDS * 1000)}ms"
    settings = {"global": {"scrape_interval": seconds, "scrape_timeout": seconds}, "scrape_configs": jobs}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(settings), "utf-8")
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={},
        )
    try:
        made = Prometheus(f"http://127.0.0.1:{port}")
        await _ready(made, process, folder / "prometheus.log")
        yield made
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await process.wait()


async def _ready(made: Prometheus, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as http:
        while True:
            if process.returncode is not None:
                raise AssertionError(f"Prometheus ended with {process.returncode}:\n{log.read_text('utf-8')[-2000:]}")
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{made.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
