"""The traffic of one developer as the series that Prometheus scrapes, and the rules evaluated over them by promtool.

A day has 20 to 300 requests in a few sittings, none at night, and restarts. Of the requests 2 % end in a server error,
2 % are slow, and 2 % of the executions fail; a third of the odd requests are followed by another, when the user tries
again. While agents compile, every third request is slow, and the event loop wakes up to 250 ms late.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pocket_agent.monitoring import rule_groups
from pocket_agent.observability import catalogue
from pocket_agent.settings import Settings
from tests.harness.expression import names
from tests.monitoring.rule_sample import promtool

SCRAPE: Final = 15
"""Seconds between two scrapes: the default of `monitoring.scrape_interval`."""
DAY: Final = 86400
_SCRAPES_A_DAY: Final = DAY // SCRAPE
_ODD: Final = 0.02
_AGAIN: Final = 1 / 3
"""The share of odd requests that are followed by another, when the user tries again."""
_TARGET: Final = {"job": "pocket-agent", "instance": "one.example:9090"}
_PROBE: Final = {"job": "blackbox", "instance": "one.example:9090"}
_LAGS: Final = 4 * SCRAPE  # measurements of the event loop's lag between two scrapes

Key = tuple[str, tuple[str, ...]]


@dataclass
class Traffic:
    """What happened, by the number of the scrape that first has it.

    Attributes:
        scrapes: how many there are.
        counted: increments of counters, by name and label values.
        restarts: scrapes before which the server restarted.
        gauges: the values of a gauge from a scrape on; None while it is missing.
        lagging: how many measurements of the event loop's lag are below a bound and no smaller one.
    """

    scrapes: int
    counted: dict[int, Counter[Key]] = field(default_factory=dict)
    restarts: set[int] = field(default_factory=set)
    gauges: dict[str, dict[int, float | None]] = field(default_factory=dict)
    lagging: dict[int, tuple[str, int]] = field(default_factory=dict)

    def count(self, second: float, name: str, *labels: str) -> None:
        """An event of a counter at a time."""
        scrape = int(second // SCRAPE) + 1
        if scrape < self.scrapes:
            self.counted.setdefault(scrape, Counter())[name, labels] += 1

    def lag(self, start: float, end: float, bound: str, share: int) -> None:
        """In between, one of `share` measurements of the event loop's lag is below `bound` and no smaller bound."""
        for scrape in range(int(start // SCRAPE) + 1, min(self.scrapes, int(end // SCRAPE) + 1)):
            self.lagging[scrape] = (bound, _LAGS // share)

    def set(self, name: str, start: float, end: float, value: float | None, after: float) -> None:
        """Change a gauge for a while."""
        steps = self.gauges.setdefault(name, {})
        steps[int(start // SCRAPE) + 1] = value
        steps[int(end // SCRAPE) + 1] = after

    def series(self, first: int = 0, end: int | None = None) -> Iterator[dict[str, str]]:
        """The series of some scrapes in the notation of promtool, without those in which nothing happens."""
        for name, labels, values in self._values():
            part = values[first:end]
            if any(part) or None in part:
                text = ", ".join(f'{label}="{value}"' for label, value in labels.items())
                yield {"series": f"{name}{{{text}}}", "values": " ".join(_runs(part))}

    def _values(self) -> Iterator[tuple[str, Mapping[str, str], list[float | None]]]:
        for metric, children in _COUNTERS.items():
            for labels, key in children:
                yield metric, {**_TARGET, **labels}, self._counter(metric, key)
        for bound in ("0.001", "0.01", "0.05", "0.25", "1", "+Inf"):
            yield f"{_LAG}_bucket", {**_TARGET, "le": bound}, self._lags(bound)
        for name, labels in _GAUGES:
            yield name, labels, self._gauge(name)
        starts = {scrape: float(1_000_000 + scrape) for scrape in self.restarts}
        started = self._steps({0: 1_000_000.0, **starts})
        yield "process_start_time_seconds", _TARGET, self._scraped(started)

    def _counter(self, metric: str, key: tuple[str, ...]) -> list[float | None]:
        values: list[float] = []
        total = 0.0
        for scrape in range(self.scrapes):
            total = 0 if scrape in self.restarts else total
            found = self.counted.get(scrape)
            total += found[metric, key] if found is not None else 0
            values.append(total)
        return self._scraped(values)

    def _lags(self, bound: str) -> list[float | None]:
        values: list[float] = []
        total = 0.0
        for scrape in range(self.scrapes):
            late, count = self.lagging.get(scrape, ("0.001", _LAGS))
            total = 0 if scrape in self.restarts else total
            total += _LAGS if _number(bound) >= _number(late) else _LAGS - count
            values.append(total)
        return self._scraped(values)

    def _gauge(self, name: str) -> list[float | None]:
        values = self._steps({0: _HEALTHY[name], **self.gauges.get(name, {})})
        return values if name in {"up", "probe_success"} else self._scraped(values)

    def _steps(self, steps: Mapping[int, float | None]) -> list[float | None]:
        values, value = [], None
        for scrape in range(self.scrapes):
            value = steps.get(scrape, value)
            values.append(value)
        return values

    def _scraped(self, values: Iterable[float | None]) -> list[float | None]:
        """The values as long as the server answers with its own metrics."""
        up = self._steps({0: 1.0, **self.gauges.get("up", {})})
        own = self._steps({0: 1.0, **self.gauges.get(_OWN, {})})
        return [value if up[scrape] and own[scrape] else None for scrape, value in enumerate(values)]


_LAG: Final = catalogue.EVENT_LOOP_LAG.name
_OWN: Final = catalogue.BUILD_INFO.name
_HEALTHY: Final = {
    "up": 1.0,
    "probe_success": 1.0,
    _OWN: 1.0,
    catalogue.CONNECTIONS_ACTIVE.name: 1.0,
    catalogue.STORAGE_FREE.name: 5e10,
}
_GAUGES: Final = [(name, _PROBE if name == "probe_success" else _TARGET) for name in _HEALTHY]


_Children = list[tuple[dict[str, str], tuple[str, ...]]]
"""The labels of each child, and what identifies it."""


def _children(metric: catalogue.Metric) -> _Children:
    keys = catalogue.children(metric, Settings().metrics)
    return [(dict(zip(metric.labels, key, strict=True)), tuple(key)) for key in keys]


def _buckets(metric: catalogue.Metric) -> Iterator[tuple[str, _Children]]:
    children = _children(metric)
    yield f"{metric.name}_count", children
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    bucket = [({**labels, "le": bound}, (*key, bound)) for labels, key in children for bound in bounds]
    yield f"{metric.name}_bucket", bucket


_HISTOGRAMS: Final = (catalogue.REQUEST_DURATION, catalogue.EXECUTION_DURATION)
_COUNTERS: Final[dict[str, _Children]] = {
    **{
        metric.name: _children(metric)
        for metric in (catalogue.REQUESTS_TOTAL, catalogue.EXECUTIONS_TOTAL, catalogue.ERRORS_TOTAL)
    },
    catalogue.MESSAGES_RECEIVED.name: [({"type": "other"}, ("other",))],
    **{name: children for metric in _HISTOGRAMS for name, children in _buckets(metric)},
}


def _number(bound: str) -> float:
    return float(bound.replace("+Inf", "inf"))


def _runs(values: list[float | None]) -> Iterator[str]:
    """The values as runs with a constant difference: `0+1x5`."""
    at = 0
    while at < len(values):
        first, end = values[at], at + 1
        if first is None:
            while end < len(values) and values[end] is None:
                end += 1
            yield f"stale _x{end - at - 1}" if end - at > 1 else "stale"
        else:
            second = values[end] if end < len(values) else None
            step = second - first if second is not None else 0.0
            step = max(step, 0.0)
            while end < len(values) and values[end] == first + step * (end - at):
                end += 1
            yield f"{first:.0f}+{step:.0f}x{end - at - 1}"
        at = end


# --- a developer


def request(traffic: Traffic, at: float, kind: str, *, failed: bool = False, seconds: float = 0.02) -> None:
    """A request and its reply."""
    traffic.count(at, catalogue.MESSAGES_RECEIVED.name, "other")
    traffic.count(at, catalogue.REQUESTS_TOTAL.name, kind, "server_error" if failed else "ok")
    if failed:
        traffic.count(at, catalogue.ERRORS_TOTAL.name, "INTERNAL_ERROR", "execute")
    _observe(traffic, at, catalogue.REQUEST_DURATION, kind, seconds)


def execution(traffic: Traffic, at: float, *, failed: bool, seconds: float) -> None:
    """The end of an execution."""
    status = "error" if failed else "success"
    traffic.count(at, catalogue.EXECUTIONS_TOTAL.name, status)
    _observe(traffic, at, catalogue.EXECUTION_DURATION, status, seconds)


def _observe(traffic: Traffic, at: float, metric: catalogue.Metric, label: str, seconds: float) -> None:
    traffic.count(at, f"{metric.name}_count", label)
    for bound in (*metric.buckets, float("inf")):
        if seconds <= bound:
            traffic.count(at, f"{metric.name}_bucket", label, "+Inf" if bound == float("inf") else f"{bound:g}")


def restart(traffic: Traffic, at: float, down: float) -> None:
    """The server is restarted; all its counters begin again."""
    traffic.restarts.add(int((at + down) // SCRAPE) + 1)
    if int((at + down) // SCRAPE) > int(at // SCRAPE):  # a scrape found nothing
        traffic.set("up", at, at + down, 0.0, 1.0)


def developer(days: float, seed: int, most: int = 300) -> Traffic:
    """Some days of one developer, with up to `most` requests a day."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    traffic = Traffic(int(days * DAY / SCRAPE))
    for day in range(int(days)):
        _day(traffic, chance, day * DAY, chance.randint(min(20, most), most))
    return traffic


def _day(traffic: Traffic, chance: random.Random, midnight: float, requests: int) -> None:
    sittings = chance.randint(1, 6)
    starts = sorted(chance.uniform(8, 22) * 3600 + midnight for _ in range(sittings))
    for at in starts:
        compiles = chance.random() < 0.5
        end = sitting(traffic, chance, at, requests // sittings, compiles=compiles)
        if compiles:
            traffic.lag(at, end, "0.25", 10)
    for _ in range(chance.choice((0, 0, 1, 2))):
        restart(traffic, midnight + chance.uniform(8, 22) * 3600, chance.uniform(2, 20))


def sitting(traffic: Traffic, chance: random.Random, at: float, requests: int, *, compiles: bool) -> float:
    """Requests of a sitting, some of them at once as when a client opens its projects; returns its end."""
    failed = slow = False
    while requests > 0:
        at += chance.expovariate(1 / chance.choice((0.3, 20, 20, 90)))
        requests -= 1
        kind = chance.choice(("execute", "project_join", "get_messages", "other"))
        kind = "execute" if failed or slow else kind  # tried again
        failed = chance.random() < (_AGAIN if failed else _ODD * (1 - _AGAIN))
        slow = chance.random() < (_AGAIN if slow or compiles else _ODD * (1 - _AGAIN))
        request(traffic, at, kind, failed=failed, seconds=0.4 if slow else 0.02)
        if kind == "execute" and not failed:
            took = chance.expovariate(1 / 40)
            execution(traffic, at + took, failed=chance.random() < _ODD, seconds=took)
    return at


# --- outages


def _every(chance: random.Random, start: float, end: float) -> Iterator[float]:
    """The times at which a user tries again."""
    at = start + chance.uniform(0, 30)
    while at < end:
        yield at
        at += chance.uniform(15, 40)


def requests_fail(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    for at in _every(chance, start, end):
        request(traffic, at, "execute", failed=True)


def executions_fail(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    for at in _every(chance, start, end):
        request(traffic, at, "execute")
        execution(traffic, at + 2, failed=True, seconds=2)


def server_is_slow(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    traffic.lag(start, end, "1", 2)
    for at in _every(chance, start, end):
        request(traffic, at, "project_join", seconds=1.5)


def server_is_killed(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    traffic.set("up", start, end, 0.0, 1.0)
    traffic.set("probe_success", start, end, 0.0, 1.0)
    traffic.restarts.add(int(end // SCRAPE) + 1)


def another_program_answers(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    traffic.set(_OWN, start, end, None, 1.0)
    traffic.set("probe_success", start, end, 0.0, 1.0)


def clients_cannot_connect(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    traffic.set("probe_success", start, end, 0.0, 1.0)


def target_is_missing(traffic: Traffic, chance: random.Random, start: float, end: float) -> None:
    traffic.set("up", start, end, None, 1.0)


Outage = Callable[[Traffic, random.Random, float, float], None]
OUTAGES: Final[tuple[Outage, ...]] = (
    requests_fail,
    executions_fail,
    server_is_slow,
    server_is_killed,
    another_program_answers,
    clients_cannot_connect,
    target_is_missing,
)


# --- promtool


def _rules(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some alerts and the recordings that they need."""
    needed = set().union(*(names(alert["expr"]) for alert in alerts))
    return [*(rule for rule in _ALL if rule.get("record") in needed), *alerts]


_ALL: Final = [rule for file in rule_groups(Settings()).values() for group in file["groups"] for rule in group["rules"]]
_BURNING: Final = [rule for rule in _ALL if rule.get("alert") == "ErrorBudgetBurn"]
PAGES: Final = [rule for rule in _ALL if "alert" in rule and rule["labels"]["severity"] == "critical"]
DAYS: Final = [rule for rule in _BURNING if rule not in PAGES]
"""The alerts that need a day of samples, which takes long to evaluate."""
_GOT: Final = re.compile(r"(\{[^}]*\}) ([-+.\dE]+)")


def evaluate(
    folder: Path, traffic: Traffic, query: str, alerts: list[dict[str, Any]], *, interval: int = 30
) -> dict[str, float]:
    """The result of a query after each day and at the end of the traffic: the largest value by its labels.

    Args:
        folder: for the files of promtool.
        traffic: a week is evaluated at a time, after the day before it, since promtool keeps all samples in memory.
        query: asked at the end of each day.
        alerts: the alerts that are evaluated.
        interval: seconds between two evaluations of the rules.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = {"groups": [{"name": "all", "rules": _rules(alerts)}]}
    (folder / "rules.yml").write_text(json.dumps(groups), "utf-8")
    found: dict[str, float] = {}
    for week in range(0, traffic.scrapes, 7 * _SCRAPES_A_DAY):
        first, end = max(0, week - _SCRAPES_A_DAY), min(traffic.scrapes, week + 7 * _SCRAPES_A_DAY)
        series = list(traffic.series(first, end))
        for labels, value in _ask(folder, series, query, (end - first - 1) * SCRAPE, interval):
            found[labels] = max(value, found.get(labels, 0.0))
    return found


def _ask(
    folder: Path, series: list[dict[str, str]], query: str, end: int, interval: int
) -> Iterator[tuple[str, float]]:
    # promtool reports each result that is not the expected one.
    wrong = [{"labels": '{wrong="yes"}', "value": 1}]
    asked = [{"expr": query, "eval_time": f"{at}s", "exp_samples": wrong} for at in (*range(DAY, end, DAY), end)]
    test = {"interval": f"{SCRAPE}s", "input_series": series, "promql_expr_test": asked}
    files = {"rule_files": ["rules.yml"], "evaluation_interval": f"{interval}s", "tests": [test]}
    path = folder / "test.yml"
    path.write_text(json.dumps(files), "utf-8")
    _, output = promtool("test", "rules", path)
    got = re.findall(r"got: ?(.*)", output)
    assert len(got) == len(asked), output
    return ((labels, float(value)) for line in got for labels, value in _GOT.findall(line))
