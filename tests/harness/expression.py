"""What expressions of rules and dashboards ask for, and whether that exists: by a parser that is not ours.

`faults` is for a single expression; `expressions` finds those of a dashboard's JSON or of a file of rules.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser

from pocket_agent.monitoring import recorded_names
from pocket_agent.observability.catalogue import CATALOGUE, PROCESS, Metric

_PARTS = ("_bucket", "_count", "_sum")
_TARGET = ("job", "instance", "service", "environment")
"""Labels that a scrape adds."""
JOBS = (
    *("pocket-agent", "claude-code", "node", "blackbox", "blackbox-http", "blackbox-exporter"),
    *("prometheus", "alertmanager"),
)
"""The scrape jobs of the stack."""
FOREIGN: Mapping[str, tuple[str, ...]] = {
    "up": (),
    "scrape_duration_seconds": (),
    "scrape_samples_post_metric_relabeling": (),
    "ALERTS": ("alertname", "alertstate", "severity", "service"),
    "probe_success": (),
    "prometheus_notifications_dropped_total": (),
    "prometheus_config_last_reload_successful": (),
    "prometheus_rule_evaluation_failures_total": ("rule_group",),
    "prometheus_target_scrapes_exceeded_sample_limit_total": (),
    "prometheus_target_scrapes_sample_duplicate_timestamp_total": (),
    "prometheus_target_scrapes_sample_out_of_bounds_total": (),
    "prometheus_target_scrapes_sample_out_of_order_total": (),
    "alertmanager_alerts": ("state",),
    "alertmanager_config_last_reload_successful": (),
    "alertmanager_silences": ("state",),
    "blackbox_exporter_config_last_reload_successful": (),
    "alertmanager_notifications_total": ("integration", "receiver_name"),
    "alertmanager_notifications_failed_total": ("integration", "receiver_name"),
    "node_cpu_seconds_total": ("cpu", "mode"),
    "node_memory_MemTotal_bytes": (),
    "node_memory_MemAvailable_bytes": (),
    "node_memory_SwapTotal_bytes": (),
    "node_memory_SwapFree_bytes": (),
    "node_pressure_memory_stalled_seconds_total": (),
    "node_vmstat_oom_kill": (),
    "node_load15": (),
    **dict.fromkeys(
        (
            "node_filesystem_avail_bytes",
            "node_filesystem_size_bytes",
            "node_filesystem_readonly",
            "node_filesystem_files",
            "node_filesystem_files_free",
        ),
        ("device", "fstype", "mountpoint"),
    ),
    "node_timex_maxerror_seconds": (),
    "node_timex_offset_seconds": (),
    "node_timex_sync_status": (),
    "node_systemd_unit_state": ("name", "state", "type"),
    "node_disk_read_bytes_total": ("device",),
    "node_disk_written_bytes_total": ("device",),
    "node_network_receive_bytes_total": ("device",),
    "node_network_transmit_bytes_total": ("device",),
    "claude_code_lines_of_code_count_total": ("type",),
    "claude_code_commit_count_total": (),
    "claude_code_pull_request_count_total": (),
    "claude_code_code_edit_tool_decision_total": ("decision", "tool_name"),
    "claude_code_active_time_seconds_total": ("type",),
    **dict.fromkeys(PROCESS, ()),
}
"""Series of other programs and of the server's process that rules and dashboards may use, with their labels."""
# Grafana fills these in; where a duration stands, a duration has to.
_INTERVALS = re.compile(r"\$\{?__(?:rate_interval|interval|range)\}?")
_CHOSEN = re.compile(r"\$\{?\w+(?::\w+)?\}?")
_LABEL_VALUES = re.compile(r"^\s*label_values\(\s*(?:(.+),\s*)?(\w+)\s*\)\s*$")


class Selector(NamedTuple):
    """The series that an expression asks for: a name, and by each label the values that it names."""

    name: str
    values: Mapping[str, tuple[str, ...]]


def selectors(expression: str) -> list[Selector]:
    """All series that an expression asks for; Grafana's variables may stand in it."""
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(_selector(node))
        return True

    promql_parser.walk(promql_parser.parse(_INTERVALS.sub("5m", expression)), visit)
    return found


def _selector(node: promql_parser.VectorSelector) -> Selector:
    values: dict[str, tuple[str, ...]] = {}
    for matcher in node.matchers.matchers:
        several = matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
        said = matcher.value.split("|") if several else [matcher.value]
        values[matcher.name] = (*values.get(matcher.name, ()), *(one for one in said if not _CHOSEN.search(one)))
    (name,) = values.pop("__name__", (node.name or "",))
    return Selector(name, values)


def names(expression: str) -> set[str]:
    """The names of all series that it asks for."""
    return {selector.name for selector in selectors(expression)}


@functools.cache
def _known() -> dict[str, Mapping[str, tuple[str, ...]]]:
    """Every series that there is, with its labels and their values; a label without values may have any."""
    target: dict[str, tuple[str, ...]] = dict.fromkeys(_TARGET, ())
    found: dict[str, Mapping[str, tuple[str, ...]]] = dict.fromkeys(PROCESS, target)
    for metric in CATALOGUE:
        found |= {name: {**target, **_labels(metric, name)} for name in _series(metric)}
    for name, labels in FOREIGN.items():
        found[name] = {**target, "job": JOBS, **dict.fromkeys(labels, ())}
    for name in recorded_names():
        found[name] = {**target, **dict.fromkeys(name.split(":")[0].split("_"), ())}
    return found


def _series(metric: Metric) -> Iterator[str]:
    if metric.kind == "histogram":
        yield from (metric.name + part for part in _PARTS)
    else:
        yield metric.name


def _labels(metric: Metric, name: str) -> Mapping[str, tuple[str, ...]]:
    open_labels = {label: () if label in {"model", "project"} else values for label, values in metric.labels.items()}
    return {**open_labels, "le": ()} if name.endswith("_bucket") and metric.buckets else open_labels


def faults(expression: str) -> list[str]:
    """What an expression asks for and does not exist: names, labels and values of labels."""
    return [f"{fault}: {expression}" for selector in selectors(expression) for fault in series_faults(selector)]


def series_faults(selector: Selector) -> list[str]:
    """What does not exist of some series."""
    known = _known()
    name, values = selector
    if name not in known:
        return [f"no series {name}"]
    labels = known[name]
    return [
        f"{name} has no label {label}"
        if label not in labels
        else f"{label} of {name} is never {', '.join(one for one in wanted if not _occurs(one, labels[label]))}"
        for label, wanted in values.items()
        if label not in labels or not all(_occurs(one, labels[label]) for one in wanted)
    ]


def _occurs(wanted: str, values: tuple[str, ...]) -> bool:
    """Whether a value, or what a regular expression means, is one that the label may have."""
    return not values or not wanted or any(re.fullmatch(wanted, value) for value in values)


def expressions(value: Any) -> Iterator[str]:
    """Every expression in the JSON of a dashboard, or in a file of rules or of their tests, at any depth."""
    if isinstance(value, dict):
        source = value.get("datasource")
        foreign_language = isinstance(source, dict) and source.get("type") not in {None, "prometheus"}
        for key, held in value.items():
            if key == "expr" and isinstance(held, str):
                yield from () if foreign_language else (held,)
            elif key in {"query", "definition"} and isinstance(held, str):
                yield from _queried(held)
            else:
                yield from expressions(held)
    elif isinstance(value, list):
        for held in value:
            yield from expressions(held)


def _queried(text: str) -> Iterator[str]:
    """The series behind a variable of a dashboard."""
    match = _LABEL_VALUES.match(text)
    if match and match[1]:
        yield match[1]
