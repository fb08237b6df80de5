"""What Prometheus, Alertmanager and the blackbox exporter have in force, compared with what the settings render.

A file on disk may be right and not loaded, so the programs are asked; `comparison` finds the differences.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple, NotRequired, TypedDict

import msgspec
import psutil
import yaml

from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring.doctor.comparison import (
    HIDDEN,
    Difference,
    Grammar,
    canonical,
    differences,
    fingerprint,
    matches,
    route_matchers,
)
from pocket_agent.monitoring.doctor.probes import (
    ConfigText,
    LoadedRule,
    Prometheus,
    RuleGroup,
    RuleGroups,
    RuntimeInfo,
    get,
    read_samples,
)
from pocket_agent.monitoring.doctor.result import Context, Result, failed, ok, printable, skipped, warning
from pocket_agent.monitoring.files import YAML_LOADER, read_mapping
from pocket_agent.monitoring.render import WatchedServer, render_stack
from pocket_agent.monitoring.targets import SERVER_JOB, port_holder
from pocket_agent.settings import Settings, format_duration, parse_duration

RENDER: Final = "Render the configuration again (pocket-agent monitoring render DIR), put it in place and reload {}."
_MOST: Final = 12
"""How many differences of a program get a result of their own."""


class _Lists(msgspec.Struct, forbid_unknown_fields=True):
    """A section of grammars.yml."""

    defaults: dict[str, tuple[Any, ...]] = {}
    ordered: frozenset[str] = frozenset()
    matchers: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


def _grammars() -> dict[str, Grammar]:
    data = yaml.load(files(__package__).joinpath("grammars.yml").read_text("utf-8"), YAML_LOADER)  # noqa: S506 - a safe loader
    sections = msgspec.convert(data, dict[str, _Lists])
    return {name: Grammar(**msgspec.structs.asdict(section)) for name, section in sections.items()}


GRAMMARS: Final = _grammars()


def render_expected(settings: Settings) -> dict[str, str]:
    """The files that the settings render, by path.

    Raises:
        ConfigurationError: the settings contradict each other.
    """
    return {file.path: file.text for file in render_stack([WatchedServer(settings)])}


# --- what is read of configurations


class _Place(TypedDict, total=False):
    targets: list[str] | None


class _Job(TypedDict):
    job_name: str
    static_configs: NotRequired[list[_Place] | None]


class _PrometheusForm(TypedDict):
    scrape_configs: NotRequired[list[_Job] | None]
    rule_files: NotRequired[list[str] | None]


class _Route(TypedDict, total=False):
    receiver: str
    routes: "list[_Route] | None"


class _ReceiverForm(TypedDict):
    name: str


class _AlertmanagerForm(TypedDict, total=False):
    route: _Route
    receivers: list[_ReceiverForm] | None
    inhibit_rules: list[dict[str, Any]] | None


class _BlackboxForm(TypedDict):
    modules: dict[str, dict[str, Any]]


def _read(text: str, form: type[Mapping[str, Any]]) -> dict[str, Any]:
    """A configuration that a program has returned; empty when it has another form."""
    tree = read_mapping(text)
    try:
        msgspec.convert(tree, form)
    except msgspec.ValidationError:
        return {}
    return tree


# --- programs and their files


Compare = Callable[[Mapping[str, Any], Mapping[str, Any]], list[Difference]]


@dataclass(frozen=True, slots=True)
class _Program:
    """A program whose configuration is compared."""

    name: str
    url: str
    port: int
    path: str  # of its file, below the directory of the stack
    check: str  # the command that checks the file
    places: tuple[str, ...]  # where packages have the file
    compare: Compare  # the rendered configuration with the one in force
    urgent: frozenset[str] = frozenset()  # keys whose differences are failures

    @property
    def result(self) -> str:
        """The name of the results about its configuration."""
        return f"{self.name.lower()} configuration"

    def read_files(self) -> dict[Path, str]:
        """The text of the files that it may have loaded, as far as they can be read; blocking."""
        found: dict[Path, str] = {}
        for path in dict.fromkeys((*map(Path, self.started_with("config.file")), *map(Path, self.places))):
            try:
                found[path] = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
        return found

    def started_with(self, name: str) -> Iterator[str]:
        """The values of a flag in the command line of its process, if that is known; a path is absolute; blocking."""
        holder = port_holder(self.port)
        if holder is None or holder.pid is None:
            return
        try:
            process = psutil.Process(holder.pid)
            words, directory = process.cmdline(), process.cwd()
        except psutil.Error:
            return
        for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
            flag, _, value = word.lstrip("-").partition("=")
            if flag == name:
                yield str(Path(directory, value or following)) if flag.endswith("file") else value or following

    def refused(self, on_disk: Mapping[Path, str]) -> Result:
        """The result for a reload that failed."""
        where = next(iter(on_disk), "its file")
        what = f"{self.name} refused {where} at the last reload, and still runs with the configuration before it"
        fix = f"{self.check} {where} names the fault; correct it, or render again, and reload {self.name}."
        return failed(self.result, what, fix)

    def unreadable(self) -> Result:
        """The result for a configuration in force that the program cannot have."""
        what = f"what answers at {self.url} returns a configuration that {self.name} cannot have"
        return failed(self.result, what, f"Check which program listens there; {RENDER.format(self.name)}")

    def report(
        self, expected: Mapping[str, Any], found: Sequence[Difference], on_disk: Mapping[Path, str]
    ) -> Iterator[Result]:
        """A result for each difference."""
        fix = RENDER.format(self.name)
        for path, text in on_disk.items():
            if found and read_mapping(text) and not self.compare(expected, read_mapping(text)):
                fix = f"{path} is as the settings render it, but not loaded. Reload: curl -X POST {self.url}/-/reload"
        for difference in found[:_MOST]:
            result = failed if difference.keys[0] in self.urgent else warning
            yield result(self.result, str(difference), fix)
        if len(found) > _MOST:
            paths = ", ".join(difference.path for difference in found[_MOST : 2 * _MOST])
            yield warning(self.result, f"{len(found) - _MOST} more values are not those of the settings: {paths}", fix)


def _prometheus(context: Context) -> _Program:
    return _Program(
        "Prometheus",
        context.prometheus,
        context.settings.monitoring.prometheus_port,
        "prometheus/prometheus.yml",
        "promtool check config",
        ("/etc/prometheus/prometheus.yml",),
        lambda expected, actual: _compare_prometheus(expected, actual)[0],
        frozenset(("alerting", "rule_files", "scrape_configs")),
    )


def _alertmanager(context: Context) -> _Program:
    return _Program(
        "Alertmanager",
        context.alertmanager,
        context.settings.monitoring.alertmanager_port,
        "alertmanager/alertmanager.yml",
        "amtool check-config",
        ("/etc/prometheus/alertmanager.yml", "/etc/alertmanager/alertmanager.yml"),
        _compare_alertmanager,
    )


def _blackbox(context: Context) -> _Program:
    return _Program(
        "Blackbox exporter",
        context.blackbox,
        context.settings.monitoring.blackbox_port,
        "blackbox/blackbox.yml",
        "blackbox_exporter --config.check --config.file",
        ("/etc/prometheus/blackbox.yml",),
        _compare_blackbox,
    )


_rendering = threading.Lock()
_rendered: list[tuple[Settings, dict[str, str]]] = []


def _render_once(settings: Settings) -> dict[str, str]:
    """The rendered files; the checks of an examination, which run at the same time, share them."""
    with _rendering:
        if not _rendered or _rendered[0][0] is not settings:
            _rendered[:] = [(settings, render_expected(settings))]
        return _rendered[0][1]


async def with_suffix(context: Context) -> Context:
    """The context of a server, with its suffix in the configuration that Prometheus has loaded."""
    config = await Prometheus(context.prometheus).data("status/config", ConfigText)
    for job in _read(config.yaml, _PrometheusForm).get("scrape_configs") or () if config is not None else ():
        base, dash, number = job["job_name"].rpartition("-")
        addresses = [one for place in job.get("static_configs") or () for one in place.get("targets") or ()]
        if base == SERVER_JOB and number.isdigit() and context.target.metrics in addresses:
            return replace(context, suffix=dash + number)
    return context


async def _expected(context: Context, result: str) -> dict[str, str] | Result:
    if context.suffix:
        what = "this server is not the first of the stack: the stack is rendered from the settings of another server"
        return skipped(result, what, "Run pocket-agent doctor with the settings of that server as well.")
    try:
        return await asyncio.to_thread(_render_once, context.settings)
    except ConfigurationError as error:
        return failed(result, f"the settings cannot be rendered: {error.message}", "Correct these settings.")


# --- Prometheus


_INHERITED: Final = (
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "metric_name_validation_scheme",
    "metric_name_escaping_scheme",
)
"""What a scrape job has of the global section if it has no value of its own; Prometheus returns it with every job."""


async def check_prometheus_configuration(context: Context, prometheus: Prometheus) -> list[Result]:
    """The configuration and the flags that Prometheus runs with."""
    own = _prometheus(context)
    rendered = await _expected(context, own.result)
    if isinstance(rendered, Result):
        return [rendered]
    runtime, config, flags, on_disk = await asyncio.gather(
        prometheus.data("status/runtimeinfo", RuntimeInfo),
        prometheus.data("status/config", ConfigText),
        prometheus.data("status/flags", dict[str, str]),
        asyncio.to_thread(own.read_files),
    )
    if config is None:
        return [skipped(own.result, "Prometheus does not return its configuration")]
    expected, actual = read_mapping(rendered[own.path]), _read(config.yaml, _PrometheusForm)
    if not actual:
        return [own.unreadable()]
    found, added = _compare_prometheus(expected, actual)
    results = [own.refused(on_disk)] if runtime is not None and not runtime.reloaded else []
    results += own.report(expected, found, on_disk)
    if not results:
        more = f"; it also scrapes {', '.join(added)}" if added else ""
        results.append(ok(own.result, f"is what the settings render{more}"))
    return [*results, *_flags(flags or {}, rendered["local.json"])]


def _compare_prometheus(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[list[Difference], list[str]]:
    """The differences, and the names of jobs that were added: a Prometheus may watch other things as well."""
    wanted, loaded = _with_inherited(expected), _with_inherited(actual)
    patterns, paths = wanted.pop("rule_files"), loaded.pop("rule_files", None) or []
    found = [
        # Prometheus returns the path below its own working directory.
        Difference(("rule_files",), pattern, paths)
        for pattern in patterns
        if not any(str(path).endswith(pattern) for path in paths)
    ]
    added = []
    for difference in differences(wanted, loaded, GRAMMARS["prometheus"]):
        is_job = difference.keys[0] == "scrape_configs" and len(difference.keys) == 2
        if is_job and not isinstance(difference.expected, dict):
            added.append(difference.keys[1].strip("[]"))
        else:
            found.append(difference)
    return found, added


def _with_inherited(tree: Mapping[str, Any]) -> dict[str, Any]:
    values = tree.get("global") or {}
    inherited = {key: values[key] for key in _INHERITED if key in values}
    return {**tree, "scrape_configs": [{**inherited, **job} for job in tree.get("scrape_configs") or ()]}


_OWN_FLAGS: Final = frozenset(("config.file", "storage.tsdb.path", "web.external-url", "enable-feature"))
"""Flags that depend on where Prometheus is installed."""
_RESEND: Final = "rules.alert.resend-delay"
_FLAGS: Final = {
    "agent": "false",
    "alertmanager.notification-queue-capacity": "10000",
    "query.lookback-delta": "5m",
    "query.max-concurrency": "20",
    "query.max-samples": "50000000",
    "query.timeout": "2m",
    "rules.alert.for-grace-period": "10m",
    "rules.alert.for-outage-tolerance": "1h",
    _RESEND: "1m",
    "scrape.adjust-timestamps": "true",
    "storage.tsdb.retention.size": "0B",
    "web.enable-admin-api": "false",
    "web.enable-remote-write-receiver": "false",
    "web.max-connections": "512",
    "web.route-prefix": "/",
}
"""Defaults of flags that change when alerts fire, how long data is kept, or who can change it."""


def _flags(actual: Mapping[str, str], local: str) -> Iterator[Result]:
    """The flags that are not those of the rendered files."""
    pairs = [flag.removeprefix("--").partition("=") for flag in msgspec.json.decode(local)["prometheus"]["flags"]]
    wanted = _FLAGS | {name: value or "true" for name, _, value in pairs if name not in _OWN_FLAGS}
    wanted = {name: value for name, value in wanted.items() if name in actual}
    for difference in differences(wanted, {name: actual[name] for name in wanted}, Grammar({})):
        if difference.path == _RESEND and parse_duration(difference.actual) < parse_duration(difference.expected):
            continue  # alerts are sent more often, which loses none
        yield warning(
            "prometheus flags",
            f"--{difference.path}={difference.actual}, which should be {difference.expected}",
            "Correct the flag in Prometheus's unit or command line, and restart it.",
        )


# --- rules


_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
_STRING: Final = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)""")
_SHOWN: Final = 5
_LATE_SECONDS: Final = 60.0
_RULES: Final = "rules"
Rule = Mapping[str, Any]


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(dict.fromkeys(names))
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


async def check_rules(context: Context, prometheus: Prometheus) -> list[Result]:
    """The rules that are loaded, by all of their parts."""
    rendered, data = await asyncio.gather(_expected(context, _RULES), prometheus.data("rules", RuleGroups))
    if isinstance(rendered, Result):
        return [rendered]
    if data is None:
        return [skipped(_RULES, "Prometheus does not return its rules")]
    loaded = [rule for group in data.groups for rule in group.rules]
    if not loaded:
        return [failed(_RULES, "Prometheus has loaded none: rule_files matches no file", _fix(prometheus))]
    wanted, groups = _rendered_rules(rendered)
    actual = await _with_rendered_queries(prometheus, wanted, list(map(_loaded_rule, loaded)))
    results = [
        *_not_evaluated(data.groups, loaded, prometheus),
        *_rule_differences(wanted, actual, prometheus),
        *_group_differences(groups, data.groups, prometheus),
    ]
    if not results:
        alerts = sum(rule.type == "alerting" for rule in loaded)
        results = [ok(_RULES, f"{len(loaded)} are loaded as the settings render them, {alerts} of them alerts")]
    return results


def _fix(prometheus: Prometheus) -> str:
    return (
        "Render again (pocket-agent monitoring render DIR), put rules/ next to prometheus.yml "
        f"(rule_files: rules/*.yml) and reload: curl -X POST {prometheus.url}/-/reload"
    )


def _not_evaluated(
    groups: Sequence[RuleGroup], rules: Sequence[LoadedRule], prometheus: Prometheus
) -> Iterator[Result]:
    broken = [rule for rule in rules if rule.health == "err"]
    if broken:
        what = f"{listed(rule.name for rule in broken)} cannot be evaluated: {broken[0].last_error}"
        unwritten = "write to WAL" in broken[0].last_error
        yield failed(_RULES, what, "Free space on Prometheus's disk." if unwritten else _fix(prometheus))
    now = datetime.now(UTC)
    for group in groups:
        age = (now - group.last_evaluation).total_seconds()
        # A group that was not evaluated yet has the year 1.
        if group.last_evaluation.year > 1 and age > 3 * group.interval + _LATE_SECONDS:
            what = f"the group {group.name} was last evaluated {age:.0f} s ago, every {group.interval:g} s are due"
            yield failed(_RULES, what, "Prometheus is overloaded or its disk is full: see its log, and restart it.")


def _rendered_rules(rendered: Mapping[str, str]) -> tuple[list[Rule], dict[str, dict[str, Any]]]:
    """The rendered rules, as Prometheus returns them, and what the group of each gives, by the name of the rule."""
    rules: list[Rule] = []
    groups: dict[str, dict[str, Any]] = {}
    for path, text in rendered.items():
        for group in read_mapping(text)["groups"] if path.startswith("prometheus/rules/") else ():
            values = {key: value for key, value in group.items() if key not in {"name", "rules"}}
            named = [{"name": rule.get("alert") or rule["record"], **rule} for rule in group["rules"]]
            groups |= {rule["name"]: values for rule in named}
            rules += named
    return [{key: value for key, value in rule.items() if key not in {"alert", "record"}} for rule in rules], groups


def _loaded_rule(rule: LoadedRule) -> Rule:
    return {
        "name": rule.name,
        "expr": rule.query,
        "for": _spelled(rule.duration),
        "keep_firing_for": _spelled(rule.keep_firing_for),
        "labels": rule.labels,
        "annotations": rule.annotations,
    }


def _spelled(seconds: float) -> str:
    return format_duration(round(seconds, 3))


async def _with_rendered_queries(prometheus: Prometheus, wanted: Sequence[Rule], loaded: Sequence[Rule]) -> list[Rule]:
    """The loaded rules, with a query as it was rendered if it has the same meaning: Prometheus formats queries."""
    known = {_squeezed(rule["expr"]): rule["expr"] for rule in wanted}
    found: list[Rule] = [{**rule, "expr": known.get(_squeezed(rule["expr"]), rule["expr"])} for rule in loaded]
    used, names = {rule["expr"] for rule in found}, {rule["name"] for rule in wanted}
    unknown = {rule["expr"] for rule in found if rule["name"] in names} - set(known.values())
    unused = set(known.values()) - used
    if not unknown or not unused:
        return found

    async def meanings(queries: Iterable[str]) -> dict[str, str]:
        texts = list(queries)
        return dict(zip(texts, await asyncio.gather(*(_meaning(prometheus, text) for text in texts)), strict=True))

    rendered = {text: query for query, text in (await meanings(unused)).items()}
    same = {query: rendered[text] for query, text in (await meanings(unknown)).items() if text in rendered}
    return [{**rule, "expr": same.get(rule["expr"], rule["expr"])} for rule in found]


async def _meaning(prometheus: Prometheus, query: str) -> str:
    """A query without what has no effect: its tree, or before version 3, without parse_query, its formatted text."""
    tree = await prometheus.data("parse_query", dict[str, Any], query=query)
    if tree is not None:
        return json.dumps(_bare(tree), sort_keys=True)
    return await prometheus.data("format_query", str, query=query) or query


_SETS: Final = {"matchers", "labels", "include", "grouping"}  # the order of their items has no effect


def _bare(node: Any, key: str = "") -> Any:
    """A tree of parse_query without parentheses."""
    match node:
        case {"type": "parenExpr", "expr": inner}:
            return _bare(inner)
        case dict():
            return {name: _bare(value, name) for name, value in node.items()}
        case list():
            items = list(map(_bare, node))
            return sorted(items, key=str) if key in _SETS else items
    return node


def _squeezed(query: str) -> str:
    """A query without white space, its numbers in one notation; its strings unchanged, as `le="0.1"` is not "0.10"."""
    parts = _STRING.split(query)
    parts[::2] = (_NUMBER.sub(lambda found: repr(float(found[0])), "".join(part.split())) for part in parts[::2])
    return "".join(parts)


def _rule_differences(wanted: Sequence[Rule], loaded: Sequence[Rule], prometheus: Prometheus) -> Iterator[Result]:
    fix, missing, pairs = _fix(prometheus), [], []
    rest = {rule["name"]: [other for other in loaded if other["name"] == rule["name"]] for rule in wanted}
    for exact in (True, False):  # the rules that share a name: first those that are equal, then the most similar ones
        unpaired = []
        for rule in wanted:
            ranked = sorted(
                ((list(differences(rule, other, GRAMMARS["rules"])), i) for i, other in enumerate(rest[rule["name"]])),
                key=lambda pair: len(pair[0]),
            )
            if ranked and (not exact or not ranked[0][0]):
                del rest[rule["name"]][ranked[0][1]]
                pairs.append((rule, ranked[0][0]))
            else:
                unpaired.append(rule)
        wanted = unpaired
    missing = [rule["name"] for rule in wanted]
    if missing:
        yield failed(_RULES, f"{len(missing)} rendered ones are not loaded: {listed(missing)}", fix)
    changed = [(rule, found) for rule, found in pairs if found]
    for rule, found in changed[:_MOST]:
        severity = rule.get("labels", {}).get("severity", "recording")
        result = failed if severity == "critical" else warning
        yield result(_RULES, f"{rule['name']} ({severity}): {'; '.join(map(str, found))}", fix)
    if len(changed) > _MOST:
        names = listed(rule["name"] for rule, _ in changed[_MOST:])
        yield warning(_RULES, f"{len(changed) - _MOST} more are not those of the settings: {names}", fix)
    for name, others in rest.items():
        if others:
            what = f"{name} is loaded {len(others)} times more than rendered, with {dict(others[0]['labels'])}"
            yield warning(_RULES, what, "Remove the file of rules that has it a second time, and reload Prometheus.")


def _group_differences(
    wanted: Mapping[str, Mapping[str, Any]], loaded: Sequence[RuleGroup], prometheus: Prometheus
) -> Iterator[Result]:
    for group in loaded:
        actual = {"interval": _spelled(group.interval), "limit": group.limit}
        # By its rules, as a rule may have been moved to a group with another name.
        rendered = {str(wanted[rule.name]): wanted[rule.name] for rule in group.rules if rule.name in wanted}
        found = [str(one) for values in rendered.values() for one in differences(values, actual, GRAMMARS["rules"])]
        for text in dict.fromkeys(found):
            yield warning(_RULES, f"the group {group.name}: {text}", _fix(prometheus))


# --- Alertmanager


class _Config(msgspec.Struct):
    original: str


class AlertmanagerStatus(msgspec.Struct):
    """The body of /api/v2/status."""

    config: _Config


_JOBS: Final = re.compile(r'\bjob=~?"([^"]+)"')
_ADDRESS: Final = re.compile(r".*(?:url|to|key|file)")
_RECEIVERS: Final = "receivers"
_CONFIG_HASH_BYTES: Final = 6  # of MD5, little-endian, which fit into a float64 (Alertmanager, config/coordinator.go)


async def check_alertmanager_configuration(context: Context) -> list[Result]:
    """The configuration that Alertmanager runs with, and which alerts it delivers where."""
    own = _alertmanager(context)
    rendered = await _expected(context, own.result)
    if isinstance(rendered, Result):
        return [rendered]
    status, metrics, on_disk = await asyncio.gather(
        get(f"{own.url}/api/v2/status"), get(f"{own.url}/metrics"), asyncio.to_thread(own.read_files)
    )
    state = status.read(AlertmanagerStatus)
    if state is None:
        return [skipped(own.result, "Alertmanager does not return its configuration")]
    samples = {sample.name: sample.value for sample in read_samples(metrics.text)}
    results = [own.refused(on_disk)] if samples.get("alertmanager_config_last_reload_successful") == 0 else []
    # Alertmanager hides addresses, but exports the hash of the text that it has loaded.
    texts = {_config_hash(text): text for text in (*on_disk.values(), rendered[own.path])}
    text = texts.get(samples.get("alertmanager_config_hash", -1.0), state.config.original)
    expected, actual = read_mapping(rendered[own.path]), _read(text, _AlertmanagerForm)
    if not actual:
        return [own.unreadable()]
    results += own.report(expected, _compare_alertmanager(expected, actual), on_disk)
    hidden = [receiver.get("name", "?") for receiver in actual.get("receivers") or () if HIDDEN in str(receiver)]
    if hidden:
        what = (
            f"the addresses of {listed(hidden)} cannot be compared: Alertmanager hides them, and no file has its text"
        )
        results.append(warning(own.result, what, RENDER.format("Alertmanager")))
    alerts = [alert.labels for alert in _alert_labels(rendered)]
    results += [*_undelivered(expected, actual, alerts), *_inhibited(expected, actual, alerts)]
    return results or [ok(own.result, "is what the settings render")]


def _config_hash(text: str) -> float:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return float(int.from_bytes(digest[:_CONFIG_HASH_BYTES], "little"))


def _compare_alertmanager(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    wanted, loaded = (
        {**tree, "receivers": list(map(_unlabelled, tree.get("receivers") or ()))} for tree in (expected, actual)
    )
    return list(differences(wanted, loaded, GRAMMARS["alertmanager"]))


def _unlabelled(receiver: Mapping[str, Any]) -> dict[str, Any]:
    """A receiver without the label that Alertmanager 0.33 gives it: its name."""
    own = receiver.get("labels") == {"name": receiver.get("name")}
    return {key: value for key, value in receiver.items() if key != "labels" or not own}


class _AlertLabels(NamedTuple):
    """The labels of an alert, and the text of its rule, which names further labels that it may have."""

    labels: dict[str, str]
    text: str

    def may_match(self, matchers: Iterable[tuple[str, str, str]]) -> bool:
        """Whether all matchers hold, if a further label has any value."""
        known = (one for one in matchers if one[0] in self.labels or not re.search(rf"\b{one[0]}\b", self.text))
        return matches(known, self.labels)


def _alert_labels(rendered: Mapping[str, str]) -> list[_AlertLabels]:
    """Each alert, once for each target that it may be about."""
    config, rules = read_mapping(rendered["prometheus/prometheus.yml"]), _rendered_rules(rendered)[0]
    targets: dict[str, list[dict[str, str]]] = {}
    for job in config["scrape_configs"]:
        replaced = {
            rule["target_label"]: rule["replacement"]
            for rule in job.get("relabel_configs") or ()
            if not rule["target_label"].startswith("__")
        }
        for place in job["static_configs"]:
            for address in place["targets"]:
                own = {"job": job["job_name"], "instance": address, **place.get("labels", {}), **replaced}
                targets.setdefault(own["job"], []).append(own)
    return [
        _AlertLabels(
            {"alertname": rule["name"], **config["global"]["external_labels"], **target, **rule["labels"]},
            f"{rule['expr']} {rule['annotations']}",
        )
        for rule in rules
        if "severity" in rule.get("labels", {})
        for job in dict.fromkeys("|".join(_JOBS.findall(rule["expr"]) or [SERVER_JOB]).split("|"))
        for target in targets.get(job, ())
    ]


def _undelivered(
    expected: Mapping[str, Any], actual: Mapping[str, Any], alerts: Sequence[Mapping[str, str]]
) -> Iterator[Result]:
    """The alerts that do not reach a receiver that the settings give them."""
    lost: dict[tuple[str, str], list[str]] = {}
    for labels in alerts:
        there = set(_deliveries(actual, labels))
        kinds = {kind for kind, _, _ in there}
        for kind, address, mute in _deliveries(expected, labels):
            hidden = any(HIDDEN in other for other_kind, other, _ in there if other_kind == kind)
            if (kind, address, mute) not in there and not (hidden and kind in kinds):
                lost.setdefault((labels["severity"], kind), []).append(labels["alertname"])
    for (severity, kind), names in lost.items():
        result = warning if severity in {"info", "none"} else failed
        what = f"alerts of severity {severity} do not reach the {kind} of the settings at all times: {listed(names)}"
        yield result(_RECEIVERS, what, RENDER.format("Alertmanager"))


def _deliveries(config: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Where an alert goes: the kind of each integration, its address as a fingerprint, and when it is muted."""
    receivers = {receiver.get("name"): receiver for receiver in config.get("receivers") or ()}
    for route in _routes(config.get("route") or {}, labels, ""):
        muted = {key: route[key] for key in ("mute_time_intervals", "active_time_intervals") if route.get(key)}
        for key, ways in (receivers.get(route["receiver"]) or {}).items():
            for way in ways if key.endswith("_configs") and isinstance(ways, list) else ():
                address = {name: value for name, value in sorted(way.items()) if value and _ADDRESS.fullmatch(name)}
                shown = HIDDEN if HIDDEN in address.values() else fingerprint(str(address))
                yield key.removesuffix("_configs"), shown, str(muted or "")


def _routes(route: Mapping[str, Any], labels: Mapping[str, str], receiver: str) -> Iterator[Mapping[str, Any]]:
    """The routes that an alert takes (https://prometheus.io/docs/alerting/latest/configuration/#route)."""
    receiver = route.get("receiver") or receiver
    matched = False
    for child in route.get("routes") or ():
        if matches(route_matchers(child), labels):
            matched = True
            yield from _routes(child, labels, receiver)
            if not child.get("continue"):
                return
    if not matched:
        yield {**route, "receiver": receiver}


def _inhibited(
    expected: Mapping[str, Any], actual: Mapping[str, Any], alerts: Sequence[Mapping[str, str]]
) -> Iterator[Result]:
    """Critical alerts that an inhibition mutes which the settings do not have."""
    grammar = GRAMMARS["alertmanager"]
    own = [canonical(rule, "", grammar) for rule in expected.get("inhibit_rules") or ()]
    for rule in actual.get("inhibit_rules") or ():
        critical = [labels["alertname"] for labels in alerts if labels["severity"] == "critical"
                    and matches(route_matchers(rule, "target_matchers"), labels)]  # fmt: skip
        if critical and canonical(rule, "", grammar) not in own:
            source = ", ".join("".join(matcher) for matcher in route_matchers(rule, "source_matchers")) or "any alert"
            what = f"an inhibition mutes critical alerts while {source} fires: {listed(critical)}"
            yield failed("inhibitions", what, RENDER.format("Alertmanager"))


# --- silences


class _SilenceMatcher(msgspec.Struct, rename="camel"):
    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    @property
    def parsed(self) -> tuple[str, str, str]:
        operators = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
        return self.name, operators[self.is_regex, self.is_equal], self.value


class _SilenceStatus(msgspec.Struct):
    state: str


class _Silence(msgspec.Struct, rename="camel"):
    id: str
    matchers: list[_SilenceMatcher]
    starts_at: datetime
    ends_at: datetime
    status: _SilenceStatus
    created_by: str = ""
    comment: str = ""


class _AlertStatus(msgspec.Struct, rename="camel"):
    inhibited_by: list[str] = []


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    status: _AlertStatus


_LONG_SILENCE: Final = timedelta(days=1)


async def check_silences(context: Context) -> list[Result]:
    """Silences that cover alerts of this server, and critical alerts that are inhibited now."""
    name, url = "silences", context.alertmanager
    rendered = await _expected(context, name)
    if isinstance(rendered, Result):
        return [rendered]
    silences, alerts = await asyncio.gather(get(f"{url}/api/v2/silences"), get(f"{url}/api/v2/alerts"))
    found = silences.read(list[_Silence])
    if found is None:
        return [skipped(name, f"Alertmanager does not return its silences: {silences.said}")]
    known = _alert_labels(rendered)
    results = [result for silence in found for result in _covered(silence, known, url)]
    for alert in alerts.read(list[_Alert]) or ():
        if alert.status.inhibited_by and alert.labels.get("severity") == "critical":
            what = f"{alert.labels.get('alertname')} fires and is inhibited, so it notifies no receiver"
            results.append(
                failed("inhibitions", what, f"See {url}/#/alerts?inhibited=true for the alert that inhibits it.")
            )
    return results or [ok(name, "cover no alert of this server")]


def _covered(silence: _Silence, alerts: Sequence[_AlertLabels], url: str) -> Iterator[Result]:
    if silence.status.state not in {"active", "pending"}:
        return
    covered = [
        (alert.labels["severity"], alert.labels["alertname"])
        for alert in alerts
        if alert.labels["severity"] != "none" and alert.may_match([matcher.parsed for matcher in silence.matchers])
    ]
    if not covered:
        return
    critical = any(severity == "critical" for severity, _ in covered)
    long = silence.ends_at - datetime.now(UTC) > _LONG_SILENCE
    names = listed(alert for _, alert in sorted(covered))
    kind = "critical alerts" if critical else "alerts"
    what = (
        f"{'from' if silence.status.state == 'pending' else 'until'} "
        f"{silence.starts_at if silence.status.state == 'pending' else silence.ends_at:%Y-%m-%d %H:%M} UTC {kind} are "
        f"silenced ({names}) by {printable(silence.created_by) or 'an unknown user'}: {printable(silence.comment)!r}"
    )
    fix = f"If it is not needed: amtool --alertmanager.url={url} silence expire {silence.id}"
    yield (failed if critical and long else warning)("silences", what, fix)


# --- the blackbox exporter


_OFFSET: Final = "timeout-offset"
_MOST_OFFSET: Final = 0.5  # the exporter's default


async def check_blackbox_configuration(context: Context) -> list[Result]:
    """The modules that the blackbox exporter has loaded."""
    own = _blackbox(context)
    rendered = await _expected(context, own.result)
    if isinstance(rendered, Result):
        return [rendered]
    config, metrics, on_disk, offsets = await asyncio.gather(
        get(f"{own.url}/config"),
        get(f"{own.url}/metrics"),
        asyncio.to_thread(own.read_files),
        asyncio.to_thread(lambda: list(own.started_with(_OFFSET))),
    )
    if config.status != 200:
        return [skipped(own.result, f"the blackbox exporter does not return its configuration: {config.said}")]
    actual = _read(config.text, _BlackboxForm)
    if not actual:
        return [own.unreadable()]
    samples = {sample.name: sample.value for sample in read_samples(metrics.text)}
    results = [own.refused(on_disk)] if samples.get("blackbox_exporter_config_last_reload_successful") == 0 else []
    expected = read_mapping(rendered[own.path])
    results += own.report(expected, _compare_blackbox(expected, actual), on_disk)
    with contextlib.suppress(ValueError):  # another program has the port
        if any(float(offset) > _MOST_OFFSET for offset in offsets):
            what = f"--{_OFFSET}={offsets[-1]} shortens each probe by that many seconds; it should be {_MOST_OFFSET:g}"
            fix = "Correct the flag in the exporter's unit or command line, and restart it."
            results.append(warning(own.result, what, fix))
    return results or [ok(own.result, "is what the settings render")]


def _compare_blackbox(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    """The differences of the rendered modules; there may be others."""
    modules = {name: module for name, module in (actual.get("modules") or {}).items() if name in expected["modules"]}
    return list(differences(expected, {**actual, "modules": modules}, GRAMMARS["blackbox"]))
