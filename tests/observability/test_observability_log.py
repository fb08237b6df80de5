"""The server's log: one JSON object a line, whatever clients choose to be called."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent import __version__, events
from pocket_agent.config import LoggingSettings
from pocket_agent.events import Event
from pocket_agent.observability import log
from pocket_agent.observability.line import UNLOGGED, describe
from pocket_agent.observability.log import LogObserver
from tests.observability.sample import KINDS, example

ODD = [
    'a\n{"level":"error","msg":"forged"}',
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\u2028",
    "\x00",
    '"',
    "\\",
    "ä€😀",
    "\udcff",
    "x" * 10_000,
    "",
]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """The file that the log goes to."""
    yield tmp_path / "logs" / "server.log"
    log.configure(LoggingSettings(output="stderr"))


def configure(path: Path, **changed: Any) -> LogObserver:
    """A log in this file."""
    log.configure(LoggingSettings(output=path, level="debug", **changed))
    return LogObserver()


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line, read as JSON."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text[:-1].split(b"\n")]


def test_the_fields_are_the_guides(written: Path) -> None:
    observer = configure(written, fields={"environment": "test", "region": "here"})
    observer.emit(
        events.RequestHandled(type="execute", code=None, duration=0.25, project_id="p-1", correlation_id="r-1")
    )
    (line,) = lines(written)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "debug",
        "msg": "request handled",
        "service": "pocket-agent-server",
        "environment": "test",
        "region": "here",
        "version": __version__,
        "correlation_id": "r-1",
        "project_id": "p-1",
        "duration_ms": 250,
        "fields": {"type": "execute"},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_a_line_of_the_same_shape(written: Path, kind: type[Event]) -> None:
    observer = configure(written)
    observer.emit(example(kind))
    if describe(example(kind)) is None:
        assert not written.exists() or written.read_bytes() == b""
        return
    (line,) = lines(written)
    assert {"timestamp", "level", "msg", "service", "environment", "version"} <= set(line)
    known = {"timestamp", "level", "msg", "service", "environment", "version", "correlation_id", "project_id"}
    assert set(line) <= known | {"duration_ms", "fields"}
    assert line["level"] in {"debug", "info", "warning", "error"}


@pytest.mark.parametrize("word", ODD)
@pytest.mark.parametrize("kind", KINDS)
def test_no_value_can_forge_a_line(written: Path, kind: type[Event], word: str) -> None:
    observer = configure(written)
    event = example(kind, word)
    observer.emit(event)
    if describe(event) is None:
        return
    assert len(lines(written)) == 1
    assert b"\x1b" not in written.read_bytes()


@given(st.text(st.characters(codec=None)))
def test_any_text_is_one_line(text: str) -> None:
    event = events.ConnectionOpened(text, text, text)
    described = describe(event)
    assert described is not None
    level, message, fields, _ = described
    rendered = log._json({})(None, "", {"level": level, "event": message, **fields})
    assert "\n" not in rendered
    assert json.loads(rendered)["msg"] == "connection opened"


@pytest.mark.parametrize("value", [2**63, -(2**70), 10**400, float("nan"), float("inf"), {"a": 2**80}, object(), b"x"])
def test_a_value_that_json_does_not_hold_breaks_nothing(value: object) -> None:
    rendered = log._json({})(None, "", {"level": "info", "event": "x", "value": value})
    assert json.loads(rendered)["msg"] == "x"


@pytest.mark.parametrize("word", [odd for odd in ODD if odd])
def test_in_the_form_for_people_no_value_can_forge_a_line_either(written: Path, word: str) -> None:
    observer = configure(written, format="text")
    observer.emit(events.RequestHandled("execute", None, 0.25, word, word))
    observer.emit(events.ConnectionOpened(word, word, word))
    text = written.read_text("utf-8", "surrogatepass")
    assert text.count("\n") == 2
    assert "\r" not in text
    assert "\x1b" not in text
    assert "\x00" not in text


def fail() -> None:
    """A fault of the server's own."""
    raise ZeroDivisionError("in the middle")


def test_a_fault_brings_its_traceback_inside_its_line(written: Path) -> None:
    observer = configure(written)
    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    observer.emit(events.RequestFaulted("execute", "r-1", caught.value))
    (line,) = lines(written)
    assert "in the middle" in line["fields"]["exception"]
    assert "Traceback" in line["fields"]["exception"]


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_decides_what_is_written(written: Path, level: Any, expected: int) -> None:
    log.configure(LoggingSettings(output=written, level=level))
    observer = LogObserver()
    observer.emit(events.RequestHandled("execute", None, 0.25, None, "c"))
    observer.emit(events.ProjectCreated("p", None))
    observer.emit(events.LineRejected("p", None, "too long"))
    assert len(lines(written) if expected else written.read_bytes().splitlines()) == expected


def test_configuring_again_replaces_the_file_and_doubles_nothing(written: Path, tmp_path: Path) -> None:
    observer = configure(written)
    observer.emit(events.ProjectCreated("p-1", None))
    configure(tmp_path / "other.log")
    observer.emit(events.ProjectCreated("p-2", None))
    assert [line["project_id"] for line in lines(written)] == ["p-1"]
    assert [line["project_id"] for line in lines(tmp_path / "other.log")] == ["p-2"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_standard_streams(capsys: pytest.CaptureFixture[str], stream: Any) -> None:
    log.configure(LoggingSettings(output=stream))
    LogObserver().emit(events.ProjectCreated("p-1", None))
    captured = capsys.readouterr()
    assert json.loads(getattr(captured, "out" if stream == "stdout" else "err"))["project_id"] == "p-1"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_on_purpose(kind: type[Event]) -> None:
    """An event that a later change adds must not vanish from the log by oversight."""
    assert (describe(example(kind)) is None) == (kind in UNLOGGED)
