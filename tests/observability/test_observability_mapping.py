"""Every event is a log line, a metric and a span, or is left out on purpose: never by oversight."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pocket_agent import events
from pocket_agent.events import Event
from pocket_agent.observability.metrics import UNMETERED, MetricObserver
from pocket_agent.observability.structured_log import LINES, UNLOGGED, log_line
from pocket_agent.observability.tracing import SPANS, UNTRACED
from tests.observability.sample import KINDS, example

TABLES: Mapping[str, tuple[Mapping[type[Event], Any], Mapping[type[Event], str]]] = {
    "log": (LINES, UNLOGGED),
    "metrics": (MetricObserver.METERED, UNMETERED),
    "traces": (SPANS, UNTRACED),
}


@pytest.mark.parametrize("signal", TABLES)
def test_every_kind_is_mapped_or_left_out_for_a_reason(signal: str) -> None:
    mapped, left_out = TABLES[signal]
    assert set(mapped) & set(left_out) == set()
    assert set(mapped) | set(left_out) == set(KINDS)
    assert all(reason.strip() for reason in left_out.values())


def is_logged(event: Event) -> bool:
    """Whether the event is a line that says something."""
    line = log_line(event)
    return line is not None and bool(line.msg)


def is_metered(event: Event) -> bool:
    """Whether the event changes a figure."""
    observer = MetricObserver()

    def figures() -> dict[Any, float]:
        found = {
            (sample.name, *sample.labels.items()): sample.value
            for family in observer.registry.collect()
            for sample in family.samples
            if not sample.name.startswith("process_")
        }
        return {**found, "dropped": observer.dropped}

    before = figures()
    observer.emit(event)
    return figures() != before


def is_traced(event: Event) -> bool:
    """Whether the event is a span."""
    make = SPANS.get(type(event))
    return make is not None and bool(list(make(event, 0)))


EFFECTS: Mapping[str, Callable[[Event], bool]] = {"log": is_logged, "metrics": is_metered, "traces": is_traced}


@pytest.mark.parametrize("signal", TABLES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_mapped_event_has_an_effect_and_no_other(signal: str, kind: type[Event]) -> None:
    event = example(kind)
    if kind is events.HealthChanged:
        event = example(kind, check="disk", status="healthy")
    assert EFFECTS[signal](event) == (kind in TABLES[signal][0])
