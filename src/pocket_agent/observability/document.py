"""docs/metrics.md, out of the catalogue."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.config.settings import MetricsSettings
from pocket_agent.observability.catalogue import CATALOGUE, OTHER, PROCESS, series
from pocket_agent.observability.operation import OPERATION_OF

_HEAD: Final = """# Metrics

Generated from the code: change the code, then run `make generate`.

Prometheus scrapes `http://127.0.0.1:9090/metrics` (`metrics.host`, `metrics.port`). The answer is the text
format, or OpenMetrics 1.0 for who asks for it; only that has exemplars, whose `trace_id` leads to the trace of
one execution. It is compressed for who asks for it.

A listener beyond loopback, or one with `metrics.token_file`, wants `Authorization: Bearer TOKEN`. Without a
`metrics.token_file` the server makes the file `metrics-token` in its data directory, and its log says so:

```yaml
authorization:
  credentials_file: /var/lib/pocket-agent/metrics-token
```

With the default settings there are {series} series, as many after a year as at the start: every child of every
metric exists from the start, and its labels have no other values than those below, however many projects and
connections there are. What is not listed becomes `other` and counts in
`pocket_agent_metric_label_overflow_total`. For `model`, `project` and `tool`, and for the `type` of the two
metrics that tell only some requests apart, `other` is an ordinary value and does not count there.
"""


def render_metrics_document() -> str:
    """The whole document, with the series of the default settings."""
    return "\n".join([_HEAD.format(series=series(MetricsSettings())), *_families(), *_operations()])


def _families() -> Iterator[str]:
    for metric in CATALOGUE:
        yield f"## {metric.name}\n"
        unit = f" in {metric.unit}" if metric.unit else ""
        yield f"{metric.help} A {metric.kind}{unit}.\n"
        for name, values in metric.labels.items():
            yield f"- `{name}`: {_values(name, values)}"
        if metric.buckets:
            yield f"- buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}"
        if metric.labels or metric.buckets:
            yield ""
    yield "## The process\n"
    yield f"{', '.join(f'`{name}`' for name in PROCESS)}: of the server itself, on Linux.\n"


def _values(name: str, values: tuple[str, ...]) -> str:
    chosen = {"model": "the settings `metrics.models`", "project": "the settings `metrics.projects`"}
    shown = [*([chosen[name]] if name in chosen else []), *(f"`{value}`" for value in values)]
    return ", ".join(shown) or "what is running"


def _operations() -> Iterator[str]:
    yield "## Operations\n"
    yield "What the `operation` of `pocket_agent_errors_total` stands for:\n"
    kinds: dict[str, list[str]] = {}
    for kind, operation in OPERATION_OF.items():
        kinds.setdefault(operation, []).append(f"`{kind}`")
    for operation, types in kinds.items():
        yield f"- `{operation}`: {', '.join(types)}"
    yield "- `execution`: the end of an execution, or a prompt that cannot begin by no fault of its own"
    yield "- `storage`: a write that the store refused and that is tried again"
    yield "- `connection`: a client that was not let in"
    yield f"- `{OTHER}`: an error that is missing above\n"
