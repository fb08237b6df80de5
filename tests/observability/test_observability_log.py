"""The server's log: the guide's JSON, its level, form and output, and that nothing in it is a secret."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pocket_agent import __version__, events
from pocket_agent.config import LoggingSettings
from pocket_agent.errors import ConfigurationError
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionId, ExecutionStatus, Milliseconds, ModelUsage, ProjectId
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.structured_log import Log, LogObserver, open_log
from pocket_agent.observability.tracing import Identify, TraceIdentity, untraced
from tests.harness.follow import eventually
from tests.harness.log import Line, parse, read
from tests.observability.sample import KINDS, LOGGED, example

MARKER = "the-marker-of-a-secret-prompt"
ODD = ['a\n{"level":"error","msg":"forged"}', "a\r\nb", "\x1b[31mred\x1b[0m", "\u2028", "\x00", "\udcff", '"', "\\", ""]
CONTEXT = ExecutionContext(ProjectId("proj-456"), ExecutionId("exec-1"), "req-123")
FINISHED = events.ExecutionFinished(
    context=CONTEXT,
    status=ExecutionStatus.SUCCESS,
    created_at=Milliseconds(1_000),
    started_at=Milliseconds(2_000),
    finished_at=Milliseconds(3_234),
    duration=1.234,
    waited=0.0,
    code=None,
    session_id="claude-789",
    model="claude-3-5-sonnet",
    usage=(ModelUsage("claude-3-5-sonnet", 100, 500, cost_usd=0.0078),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "logs" / "server.log"


@contextlib.contextmanager
def opened(output: Any, **changed: Any) -> Iterator[Log]:
    """A log that tells everything, unless told otherwise; written whole when the block is left."""
    settings = LoggingSettings(output=output, **{"level": "debug", **changed})
    losses = Losses()
    with open_log(settings, losses, {}) as log:
        yield log
    assert losses.of("logs") == 0


async def reload(log: Log, settings: LoggingSettings) -> None:
    """Go over to other settings, as the server does."""
    prepared = await log.prepare(settings)
    prepared.use()
    await prepared.close()


def written(path: Path, told: Sequence[Event], *, identify: Identify = untraced, **changed: Any) -> list[Line]:
    """What the log has of these events."""
    with opened(path, **changed) as log:
        observer = LogObserver(log, identify=identify)
        for event in told:
            observer.emit(event)
    return read(path)


def test_the_line_of_an_execution_is_the_guides(path: Path) -> None:
    (line,) = written(path, [FINISHED], level="info", fields={"environment": "test", "region": "here"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "msg": "Execution completed",
        "service": "pocket-agent-server",
        "environment": "test",
        "region": "here",
        "version": __version__,
        "correlation_id": "req-123",
        "project_id": "proj-456",
        "duration_ms": 1234,
        "fields": {
            "execution_id": "exec-1",
            "status": "success",
            "waited_ms": 0,
            "session_id": "claude-789",
            "model": "claude-3-5-sonnet",
            "prompt_tokens": 100,
            "completion_tokens": 500,
            "cost_usd": 0.0078,
        },
    }


def test_every_event_is_a_line_of_the_schema(path: Path) -> None:
    lines = written(path, [example(kind) for kind in KINDS])
    assert len(lines) == len(LOGGED)


@pytest.mark.parametrize("word", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_of_any_event_can_forge_a_line(path: Path, word: str, form: str) -> None:
    # A traceback for people has lines of its own, so those three kinds have tests of their own.
    kinds = [kind for kind in LOGGED if kind not in {events.RequestFaulted, events.ProjectFaulted, events.TaskFaulted}]
    with opened(path, format=form) as log:
        for kind in kinds:
            LogObserver(log).emit(example(kind, word))
    data = path.read_bytes()
    assert data.count(b"\n") == len(kinds)
    assert data.decode().replace("\n", "").isprintable()
    if form == "json":
        assert "forged" not in {line["msg"] for line in parse(data)}


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (TraceIdentity("a" * 32, "b" * 16, sampled=True), {"trace_id": "a" * 32, "span_id": "b" * 16}),
        (TraceIdentity("a" * 32, "b" * 16, sampled=False), {}),
        (None, {}),
    ],
)
def test_the_trace_of_an_execution(path: Path, identity: TraceIdentity | None, expected: dict[str, str]) -> None:
    asked = []

    def identify(context: ExecutionContext) -> TraceIdentity | None:
        asked.append(context)
        return identity

    lines = written(path, [FINISHED, events.ProjectCreated("p", None)], identify=identify)
    found = [{name: line[name] for name in ("trace_id", "span_id") if name in line} for line in lines]
    assert found == [expected, {}]
    assert asked == [CONTEXT]


def fail(prompt: str) -> None:
    """A fault of the server's own, in the midst of a prompt."""
    try:
        int(prompt)
    except ValueError as error:
        raise KeyError(prompt) from error


def caught() -> BaseException:
    """The exception of `fail`."""
    with pytest.raises(KeyError) as info:
        fail(MARKER)
    return info.value


def test_a_fault_brings_its_traceback_inside_its_line(path: Path) -> None:
    (line,) = written(path, [events.RequestFaulted("execute", "r-1", caught())])
    fields = line["fields"]
    assert fields["error"] == "KeyError"
    assert "Traceback" in fields["exception"]
    assert "in fail" in fields["exception"]
    assert MARKER not in path.read_text()


def test_for_people_a_traceback_can_be_read(path: Path) -> None:
    with opened(path, format="text") as log:
        LogObserver(log).emit(events.RequestFaulted("execute", "r-1", caught()))
    first, *rest = path.read_text().splitlines()
    assert "error   request faulted" in first
    assert "error=KeyError" in first
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    KeyError"
    assert MARKER not in path.read_text()


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_decides_what_is_written(path: Path, level: str, expected: int) -> None:
    told: list[Event] = [
        events.RequestHandled("execute", None, 0.25, None, "c"),
        events.ProjectCreated("p", None),
        events.LineRejected("p", None, "too long"),
    ]
    assert len(written(path, told, level=level)) == expected


def test_a_line_below_the_level_costs_no_question_about_its_trace(path: Path) -> None:
    def identify(_: ExecutionContext) -> TraceIdentity | None:
        raise AssertionError

    assert written(path, [events.ExecutionQueued(CONTEXT, 0)], identify=identify, level="info") == []


async def test_everything_changes_while_it_is_open(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    with opened(path, level="info") as log:
        observer = LogObserver(log)
        observer.emit(events.ProjectCreated("p-1", None))
        await reload(log, LoggingSettings(output=other, level="warning", fields={"region": "here"}))
        observer.emit(events.ProjectCreated("p-2", None))
        observer.emit(events.LineRejected("p-3", None, "too long"))
        await reload(log, LoggingSettings(output=other, level="debug", format="text"))
        observer.emit(events.ProjectCreated("p-4", None))
    assert [line["project_id"] for line in read(path)] == ["p-1"]
    first, second = other.read_text().splitlines()
    assert (json.loads(first)["project_id"], json.loads(first)["region"]) == ("p-3", "here")
    assert second.endswith("info    project created          project_id=p-4")


async def test_what_cannot_be_used_changes_nothing(path: Path, tmp_path: Path) -> None:
    with opened(path, level="info") as log:
        with pytest.raises(ConfigurationError, match=r"logging\.output"):
            await reload(log, LoggingSettings(output=tmp_path, level="error", format="text"))
        LogObserver(log).emit(events.ProjectCreated("p-1", None))
    assert [line["project_id"] for line in read(path)] == ["p-1"]


async def test_a_file_that_was_moved_is_opened_again(path: Path) -> None:
    settings = LoggingSettings(output=path)
    with opened(path) as log:
        observer = LogObserver(log)
        observer.emit(events.ProjectCreated("p-1", None))
        await reload(log, settings)
        path.rename(path.with_name("moved"))
        await reload(log, settings)
        observer.emit(events.ProjectCreated("p-2", None))
    assert [line["project_id"] for line in read(path.with_name("moved"))] == ["p-1"]
    assert [line["project_id"] for line in read(path)] == ["p-2"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_standard_streams(capfd: pytest.CaptureFixture[str], stream: str) -> None:
    with opened(stream) as log:
        LogObserver(log).emit(events.ProjectCreated("p-1", None))
    captured = capfd.readouterr()
    (line,) = parse(getattr(captured, stream[3:]).encode())
    assert line["project_id"] == "p-1"
    assert captured.out == "" or captured.err == ""


def on_terminal(environment: dict[str, str]) -> str:
    """A line as a terminal on standard error gets it."""
    reader, terminal = os.openpty()
    saved = os.dup(2)
    os.dup2(terminal, 2)
    try:
        with open_log(LoggingSettings(output="stderr", format="text"), Losses(), environment) as log:
            LogObserver(log).emit(events.ProjectCreated("p-1", None))
        return os.read(reader, 65536).decode()
    finally:
        os.dup2(saved, 2)
        for descriptor in (reader, terminal, saved):
            os.close(descriptor)


def test_colours_on_a_terminal_that_wants_them() -> None:
    assert "\x1b[32minfo" in on_terminal({"TERM": "xterm", "NO_COLOR": ""})
    assert "\x1b" not in on_terminal({"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in on_terminal({"TERM": "dumb"})


def test_no_colours_in_a_file(path: Path) -> None:
    with opened(path, format="text") as log:
        LogObserver(log).emit(events.ProjectCreated("p-1", None))
    assert "\x1b" not in path.read_text()


async def test_lost_lines_are_told_in_the_form_of_the_log(path: Path) -> None:
    losses = Losses()
    with open_log(LoggingSettings(output=path), losses, {}) as log:
        observer = LogObserver(log)
        path.unlink()
        path.mkdir()
        observer.emit(events.ProjectCreated("p-1", None))
        await eventually(lambda: losses.of("logs") == 1, "it is refused")
        path.rmdir()
        observer.emit(events.ProjectCreated("p-2", None))
    assert [line["msg"] for line in read(path)] == ["project created", "log lines lost"]
    assert read(path)[-1]["fields"] == {"lost": 1}


def test_after_its_end_lines_are_lost_without_a_fault(path: Path) -> None:
    losses = Losses()
    with open_log(LoggingSettings(output=path), losses, {}) as log:
        pass
    LogObserver(log).emit(events.ProjectCreated("p-1", None))
    assert losses.of("logs") == 1
    assert read(path) == []


def test_an_output_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"logging\.output"), opened(tmp_path):
        pass
