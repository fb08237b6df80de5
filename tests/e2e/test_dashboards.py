"""Every query of every dashboard and every recording, asked of a real Prometheus that watches a real server."""

import contextlib
import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.harness.claude import require_claude
from tests.harness.collector import Collector, collecting
from tests.harness.follow import eventually
from tests.harness.prometheus import Prometheus
from tests.harness.scene import scene
from tests.harness.server import ServerProcess, free_port
from tests.harness.stack import Stack, load, stack_environment
from tests.harness.story import UNHURRIED, story
from tests.monitoring.dashboard_sample import panels_of, targets_of

from pocket_agent.model import Milliseconds, UsageWindow
from pocket_agent.monitoring import dashboard_files, recorded_names
from pocket_agent.settings import Settings
from pocket_agent.storage import Store
from pocket_agent.storage.database import database_path

_BACK_SECONDS = 300
"""How far a graph reaches."""


class Watched(NamedTuple):
    """A server, and the Prometheus of its stack.

    Attributes:
        chosen: the values of the dashboards' variables.
        dashboards: as Grafana reads them.
    """

    server: ServerProcess
    prometheus: Prometheus
    chosen: Mapping[str, str]
    dashboards: list[dict[str, Any]]

    def filled(self, query: str) -> str:
        """A query as Grafana sends it."""
        return re.sub(r"\$(\w+)", lambda found: self.chosen[found[1]], query)

    async def course(self, query: str) -> list[float]:
        """All figures of a graph, NaN left out."""
        now = time.time()
        data = await self.prometheus.get(
            "query_range", query=self.filled(query), start=str(now - _BACK_SECONDS), end=str(now), step="1"
        )
        figures = [float(value) for series in data["result"] for _, value in series["values"]]
        return [figure for figure in figures if not math.isnan(figure)]

    async def present(self, query: str) -> list[float]:
        """The figures of a table."""
        data = await self.prometheus.get("query", query=self.filled(query))
        return [float(sample["value"][1]) for sample in data["result"]]

    async def figures(self, target: Mapping[str, Any]) -> list[float]:
        """What a query of a panel gives."""
        return await (self.present if target["instant"] else self.course)(target["expr"])


@contextlib.asynccontextmanager
async def watched(folder: Path, collector: Collector) -> AsyncIterator[Watched]:
    """A server with TLS, limits and traces, and its stack with rules that do not let one wait."""
    home = folder / "home"
    environment = {
        **stack_environment(home),
        "PA_CLAUDE_BINARY": str(require_claude()),
        "PA_PING_INTERVAL": "1s",
        "PA_LIMITS_COST_USD_PER_DAY": "10",
        "PA_LIMITS_MEMORY": "1GiB",
        "PA_TRACES_ENABLED": "true",
        "PA_TRACES_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "PA_MONITORING_COLLECTOR_METRICS_PORT": str(collector.port),
    }
    server = ServerProcess(folder, env=environment, flags=["--demo"], settings=UNHURRIED)
    server.tls_port = free_port()
    settings = load(environment, server.data_dir, server.tls_port).settings
    stack = Stack(folder / "stack", settings)
    stack.render()
    stack.edit("prometheus/rules/pocket-agent-slo.yml", "interval: 2m", "interval: 1s")
    store = Store.open(database_path(server.data_dir))
    at = Milliseconds(round((time.time() + 3600) * 1000))
    await store.note_usage_windows((UsageWindow("five_hour", 0.5, at, "allowed"),))  # only subscriptions report them
    await store.close()
    try:
        await server.start()
        await stack.start()
        yield Watched(
            server, stack.prometheus, choice(settings), [json.loads(f.text) for f in dashboard_files(settings)]
        )
    finally:
        await stack.stop()
        await server.clean_up()


def choice(settings: Settings) -> dict[str, str]:
    """What somebody chooses who looks at the one server."""
    return {
        "job": "pocket-agent",
        "instance": f"127.0.0.1:{settings.metrics.port}",
        "machine": f"127.0.0.1:{settings.monitoring.node_port}",
        # The greater of four scrapes and a scrape and a step.
        "__rate_interval": "4s",
    }


async def test_dashboards_show_figures_of_a_fresh_server_and_of_a_busy_one(tmp_path: Path, folder: Path) -> None:
    async with collecting() as collector, watched(tmp_path, collector) as here:
        await variables_have_values(here)
        await nothing_is_left_blank(here)
        await story(here.server, folder)
        await changes(here.server, tmp_path / "changed")
        async with here.server.client():  # its pings go on, however long the queries take to have figures
            await every_query_gives_figures(here)
        await every_recording_gives_figures(here)
        await exemplars_lead_to_traces(here, collector)
        await starts_are_marked(here)


async def changes(server: ServerProcess, folder: Path) -> None:
    """An agent changes a file, commits it, and opens a pull request with a program that does nothing."""
    folder.mkdir()
    commit = "git init -q . && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm change"
    request = "gh() { echo https://one.example/a/b/pull/1; }; gh pr create --title a --body b"
    async with scene(server, folder) as here:
        for prompt in ("demo:edit", f"demo:bash={commit}", f"demo:bash={request}"):
            receipt = await here.first.execute(here.project_id, prompt)
            async for frame in here.one:
                if frame.type == "approval_requested":
                    await here.first.approve(here.project_id, frame.data["approval_id"])
                if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 1:
                    break
            assert receipt.execution_id


async def all_give(questions: Iterable[tuple[str, Callable[[], Awaitable[object]]]], what: str) -> None:
    """Wait until each question has given something; those that have are not asked again."""
    left = [*questions]

    async def none_is_left() -> bool:
        left[:] = [(name, ask) for name, ask in left if not await ask()]
        return not left

    try:
        await eventually(none_is_left, what, pause=0.25)
    except AssertionError as error:
        raise AssertionError(f"{what}: {[name for name, _ in left]}") from error


async def variables_have_values(here: Watched) -> None:
    """Each variable offers what was chosen."""

    async def offers(name: str, query: str) -> bool:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", here.filled(query))
        assert found is not None
        return here.chosen[name] in await here.prometheus.get(f"label/{found[2]}/values", **{"match[]": found[1]})

    asked = {
        variable["name"]: variable["query"]["query"]
        for variable in here.dashboards[0]["templating"]["list"]
        if variable["type"] == "query"
    }
    assert set(asked) == {"job", "instance", "machine"}
    questions = [(name, partial(offers, name, query)) for name, query in asked.items()]
    await all_give(questions, "variables have values")


async def nothing_is_left_blank(here: Watched) -> None:
    """Before anything has happened, each panel shows a figure, or says why there is none."""

    async def shows(panel: Mapping[str, Any]) -> bool:
        return any([await here.figures(target) for target in panel["targets"]])

    questions = [
        (panel["title"], partial(shows, panel))
        for dashboard in here.dashboards
        for panel in panels_of(dashboard)
        if panel["datasource"]["type"] == "prometheus" and "noValue" not in panel["fieldConfig"]["defaults"]
    ]
    await all_give(questions, "no panel is blank")


async def every_query_gives_figures(here: Watched) -> None:
    """After a session with a bit of everything, no query is empty."""

    questions = [
        (f"{panel['title']}: {target['expr']}", partial(here.figures, target))
        for dashboard in here.dashboards
        for panel, target in targets_of(dashboard, "prometheus")
    ]
    await all_give(questions, "every query gives figures")


async def every_recording_gives_figures(here: Watched) -> None:
    """No rule fails, and none records nothing."""

    questions = [(name, partial(here.course, name)) for name in sorted(recorded_names())]
    await all_give(questions, "every recording gives figures")
    groups = (await here.prometheus.get("rules"))["groups"]
    assert [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []


async def exemplars_lead_to_traces(here: Watched, collector: Collector) -> None:
    """Each query that shows exemplars has some, whose traces the collector knows."""
    queries = [
        target["expr"]
        for dashboard in here.dashboards
        for _, target in targets_of(dashboard, "prometheus")
        if target.get("exemplar")
    ]
    assert queries
    now = time.time()
    for query in queries:
        found = await here.prometheus.get(
            "query_exemplars", query=here.filled(query), start=str(now - _BACK_SECONDS), end=str(now)
        )
        traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
        assert traces
        assert traces <= {span.trace_id for span in collector.spans}


async def starts_are_marked(here: Watched) -> None:
    """The mark is where the server was started; the other query is one that Prometheus understands."""
    starts, versions, alerts = here.dashboards[0]["annotations"]["list"]
    assert await here.present(versions["expr"]) == [], "the first version is no change"
    (at,) = set(await here.course(starts["expr"]))
    assert at / 1000 == await here.prometheus.value(here.filled(starts["expr"].removesuffix(" * 1000")))
    assert await here.present(alerts["expr"]) is not None
