"""What each event says in the log, and that the schema and docs/logging.md say the same."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pocket_agent import events
from pocket_agent.events import Event, ExecutionFinished
from pocket_agent.model import ExecutionContext, ExecutionStatus, ModelUsage
from pocket_agent.observability.structured_log import TOP, JsonLayout, log_fields
from tests.harness.log import SCHEMA, messages, parse
from tests.observability.sample import KINDS, LOGGED, context, example

DOCUMENT = Path(__file__).parents[2] / "docs" / "logging.md"
ALL_OF_TOP = ("timestamp", "level", "msg", "service", "environment", "version", *TOP, "fields")


class Described(NamedTuple):
    """The line of an event, before it is formatted."""

    level: str
    msg: str
    fields: dict[str, object]
    context: ExecutionContext | None


def described(event: Event) -> Described:
    """The line of an event that has one."""
    assert not isinstance(event.log_as, str)
    return Described(*event.log_as.line_of(event), log_fields(event), getattr(event, "context", None))


def test_the_schema_has_exactly_the_fields_of_each_line() -> None:
    wrong = {}
    for kind in LOGGED:
        line = described(example(kind))
        (written,) = parse(JsonLayout({}).line(line.level, line.msg, all_fields(line)))
        allowed = messages()[line.msg]["properties"]["fields"]
        named = set(allowed["properties"]) if allowed else set()
        if set(written.get("fields", {})) != named:
            wrong[kind] = set(written.get("fields", {})) ^ named
        if line.level not in messages()[line.msg]["properties"]["level"]["enum"]:
            wrong[kind] = {line.level}
    assert wrong == {}, "with every field of the event filled, every field is there"


def all_fields(line: Described) -> dict[str, object]:
    """The fields as they are written, but for the trace."""
    fields = {**line.fields}
    if fields.pop("exc_info", None) is not None:
        fields |= {"error": "ValueError", "exception": "Traceback"}
    if line.context is not None:
        fields |= {"execution_id": line.context.execution_id, "correlation_id": line.context.correlation_id}
        fields["project_id"] = line.context.project_id
    return fields


def test_an_event_without_a_line_has_a_reason() -> None:
    reasons = {kind: kind.log_as for kind in KINDS if isinstance(kind.log_as, str)}
    assert list(reasons) == [events.PongReceived]
    assert all(reasons.values())


def test_one_name_is_one_type() -> None:
    """An index of lines (Elasticsearch, OpenSearch) refuses those whose field has another type than before."""
    for part in messages().values():
        fields = part["properties"]["fields"]
        for name, reference in fields["properties"].items() if fields else ():
            assert reference == {"$ref": f"#/$defs/field/properties/{name}"}
    assert not set(SCHEMA["$defs"]["field"]["properties"]) & set(ALL_OF_TOP) - {"level"}


def finished(status: ExecutionStatus, *usage: ModelUsage) -> Described:
    """The line of an execution that ended like this."""
    return described(example(ExecutionFinished, status=status, usage=usage))


def test_tokens_are_summed_over_the_models() -> None:
    line = finished(ExecutionStatus.SUCCESS, ModelUsage("a", 1, 2, 30, 400, 0.1), ModelUsage("b", 5000, 7, 0, 0, 0.2))
    figures = {name: line.fields[name] for name in ("prompt_tokens", "completion_tokens", "cost_usd")}
    assert figures == {"prompt_tokens": 5431, "completion_tokens": 9, "cost_usd": 0.3}


@pytest.mark.parametrize(
    ("status", "level", "msg"),
    [
        (ExecutionStatus.SUCCESS, "info", "Execution completed"),
        (ExecutionStatus.KILLED, "info", "Execution completed"),
        (ExecutionStatus.ERROR, "warning", "Execution failed"),
        (ExecutionStatus.TIMEOUT, "warning", "Execution failed"),
    ],
)
def test_how_an_execution_ended_decides_its_line(status: ExecutionStatus, level: str, msg: str) -> None:
    assert finished(status)[:2] == (level, msg)


def test_at_info_an_execution_alone_is_one_line() -> None:
    steps = [
        events.ExecutionQueued,
        events.ExecutionStarted,
        events.FirstMessageReceived,
        events.StorageCommitted,
        events.ToolCompleted,
        events.RequestHandled,
        events.ExecutionFinished,
    ]
    shown = [described(example(kind)).msg for kind in steps if described(example(kind)).level != "debug"]
    assert shown == ["Execution completed"]


def test_a_line_of_an_execution_names_it() -> None:
    named = context("word")
    for kind in LOGGED:
        line = described(example(kind))
        assert line.context == getattr(example(kind), "context", None)
        assert line.context in {None, named}


def test_a_health_check_that_recovers_is_no_warning() -> None:
    assert described(example(events.HealthChanged, status="healthy")).level == "info"
    assert described(example(events.HealthChanged, status="warning")).level == "warning"


def test_a_refused_setting_does_not_show_a_secret_address() -> None:
    reason = "monitoring.webhook_url: 'https://me:word@hooks.example/T1/B2/s3cret' is not a URL"
    shown = str(described(events.SettingIgnored("reload", reason)).fields["reason"])
    assert "hooks.example" in shown
    assert not re.search("s3cret|word|T1", shown)


def table() -> str:
    """The messages as docs/logging.md has to list them."""
    rows = ["| message | level | fields | what happened |", "|---|---|---|---|"]
    for msg, part in messages().items():
        kept = part["properties"]
        top = [name for name in TOP if kept.get(name) is not False]
        if top[-2:] == ["trace_id", "span_id"]:
            top = [*top[:-2], "trace"]
        inner = [*kept["fields"]["properties"]] if kept["fields"] else []
        names = ", ".join([*top, *(f"`{name}`" for name in inner)])
        rows.append(f"| `{msg}` | {', '.join(kept['level']['enum'])} | {names} | {part['description']} |")
    fields = SCHEMA["$defs"]["field"]["properties"]
    rows += ["", "| field | what it is |", "|---|---|"]
    rows += [f"| `{name}` | {field['description']} |" for name, field in fields.items()]
    return "\n".join(rows)


def test_the_document_lists_every_message_and_field() -> None:
    assert table() in DOCUMENT.read_text("utf-8"), f"put this into docs/logging.md:\n{table()}"


def test_the_document_names_what_stands_at_the_top() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name in ALL_OF_TOP:
        assert f"| `{name}` | {SCHEMA['properties'][name]['description']} |" in text
