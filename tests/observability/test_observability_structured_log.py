"""The log: one line for each event, escaped, redacted and counted when lost; the schema and docs/logging.md agree."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent import __version__, events
from pocket_agent.errors import ConfigurationError
from pocket_agent.events import Event, ExecutionFinished
from pocket_agent.model import ExecutionContext, ExecutionId, ExecutionStatus, Milliseconds, ModelUsage, project_of
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.structured_log import (
    TOP,
    FileOutput,
    JsonLayout,
    LibraryHandler,
    Log,
    LogObserver,
    LogOutput,
    LogWriter,
    StreamOutput,
    TextLayout,
    capture_libraries,
    log_fields,
    open_log,
    open_output,
    redact_record,
    truncate,
)
from pocket_agent.observability.tracing import Identify, TraceIdentity, untraced
from pocket_agent.server.auth import new_token
from pocket_agent.settings import LoggingSettings
from tests.harness.absence import absent
from tests.harness.disk import fill, small_disk
from tests.harness.follow import eventually
from tests.harness.log import SCHEMA, Line, messages, parse, read
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
    assert list(reasons) == [events.PongReceived, events.ApiRequestAnswered]
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
        if "conversation_id" not in part.get("required", []):
            top.remove("conversation_id")  # of every line about another conversation than the main one
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


ODD_TEXTS = [
    'a\n{"level":"error","msg":"forged"}',
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\x9b31m",
    "\x7f",
    "\u0085",
    "\u2028",
    "\u202etxt.exe",
    "\x00",
    '"',
    "\\",
    "ä€😀",
    "\udcff",
    "\ud83d and \x80",
    "a=b c=d",
    "",
]
PEOPLE = TextLayout({}, colours=False)
COLOURED = TextLayout({"region": "here"}, colours=True)


def json_line(**fields: object) -> dict[str, Any]:
    """A line with these fields, read as JSON."""
    line = JsonLayout({}).line("info", "told", fields)
    assert line.endswith(b"\n")
    text = line.decode()[:-1]
    assert text.isprintable()
    made: dict[str, Any] = json.loads(text)
    return made


def text(layout: TextLayout, **fields: object) -> str:
    """A line with these fields, for people."""
    line = layout.line("warning", "told", fields).decode()
    assert line.endswith("\n")
    return line[:-1]


def test_the_order_is_the_guides() -> None:
    given_last = {"x": 1, "span_id": "s", "trace_id": "t", "duration_ms": 5, "project_id": "p", "correlation_id": "c"}
    line = json_line(**given_last)
    assert list(line) == [
        *("timestamp", "level", "msg", "service", "environment", "version"),
        *("correlation_id", "project_id", "duration_ms", "trace_id", "span_id", "fields"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert line["fields"] == {"x": 1}


def test_what_holds_nothing_is_left_out() -> None:
    assert set(json_line(code=None, project_id=None)) == {
        "timestamp",
        "level",
        "msg",
        "service",
        "environment",
        "version",
    }


def test_constants_replace_the_servers_own_and_add_others() -> None:
    layout = JsonLayout({"service": "mine", "version": 1.5, "region": "here", "shard": 3})
    line = json.loads(layout.line("info", "told", {}))
    assert (line["service"], line["environment"], line["version"]) == ("mine", "production", "1.5")
    assert (line["region"], line["shard"]) == ("here", 3)
    assert json.loads(JsonLayout({}).line("info", "told", {}))["version"] == __version__


@pytest.mark.parametrize("word", ODD_TEXTS)
def test_json_holds_odd_words_as_they_are(word: str) -> None:
    line = json_line(correlation_id=word, device=word, addresses=(word, word))
    shown = word.encode("utf-8", "backslashreplace").decode()
    assert line["correlation_id"] == line["fields"]["device"] == shown
    assert line["fields"]["addresses"] == [shown, shown]
    assert line["msg"] == "told"


@given(st.text(st.characters(codec=None)))
def test_any_text_is_one_line_in_either_form(word: str) -> None:
    assert json_line(device=word)["msg"] == "told"
    shown = text(PEOPLE, device=word, correlation_id=word)
    assert shown.isprintable()


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**70), 10**5000, float("nan"), float("inf"), {"a": 2**80, "b": "\udcff"}, object(), b"x", {1: [None]}],
    ids=range(9),
)
def test_a_value_that_json_does_not_hold_breaks_nothing(value: object) -> None:
    assert json_line(value=value, other="\udcff")["msg"] == "told"
    assert text(PEOPLE, value=value).isprintable()


def test_a_long_text_is_cut_and_says_so() -> None:
    line = json_line(device="x" * 1_000_000, addresses=("y" * 2000,), exception="z" * 5000)
    assert line["fields"]["device"] == "x" * 1000 + "… (999000 more)"
    assert line["fields"]["addresses"] == ["y" * 1000 + "… (1000 more)"]
    assert line["fields"]["exception"] == "z" * 5000, "a traceback has its own bound"
    assert truncate("abc", 3) == "abc"


def test_for_people_there_are_time_level_message_and_pairs() -> None:
    shown = text(PEOPLE, device="my phone", correlation_id="c-1", duration_ms=12, ok=True, many=("a", "b"), none=None)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning told +"
        r'correlation_id=c-1 duration_ms=12 device="my phone" ok=true many=\["a", "b"\]',
        shown,
    )


def test_for_people_pairs_cannot_be_forged() -> None:
    assert 'device="a level=error"' in text(PEOPLE, device="a level=error")
    assert 'device="x=y"' in text(PEOPLE, device="x=y")
    assert 'device=""' in text(PEOPLE, device="")


def test_for_people_a_traceback_follows_indented() -> None:
    shown = text(PEOPLE, exception="Traceback:\n  File x\nError: \x1b[31m").split("\n")
    assert shown[1:] == ["    Traceback:", "      File x", "    Error: \\u001b[31m"]


def test_colours_are_the_layouts_alone() -> None:
    shown = text(COLOURED, device="\x1b[31m")
    assert "\x1b[33mwarning\x1b[0m" in shown
    assert "\x1b[31m" not in shown
    assert "here" in shown
    assert "\x1b" not in text(PEOPLE, device="\x1b[31m")


def numbered(first: int, last: int, size: int = 100) -> list[bytes]:
    """Lines with their numbers, of this size each."""
    return [(b"%d " % number).ljust(size - 1, b".") + b"\n" for number in range(first, last + 1)]


def numbers(output_path: Path) -> list[int]:
    """The numbers of the lines of a file, which are whole."""
    data = output_path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [int(line.split()[0]) for line in data.splitlines() if line]


@pytest.fixture
def output_path(tmp_path: Path) -> Path:
    """Where the log goes; its directory is not there yet."""
    return tmp_path / "logs" / "server.log"


def open_file(output_path: Path, **changed: int) -> FileOutput:
    """A file output that does not rotate, unless told to."""
    return FileOutput(output_path, **{"max_bytes": 0, "max_files": 3, **changed})


def test_it_is_its_owners_from_the_first_moment(output_path: Path) -> None:
    before = os.umask(0)
    try:
        output = open_file(output_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(output_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(output_path.parent.stat().st_mode) == 0o700
    output.close()


def test_rotated_files_are_their_owners_too_and_bounded(output_path: Path) -> None:
    before = os.umask(0)
    try:
        output = open_file(output_path, max_bytes=1000, max_files=2)
        assert output.write(numbered(1, 35)) == 35
    finally:
        os.umask(before)
        output.close()
    assert numbers(output_path) == [31, 32, 33, 34, 35]
    assert numbers(output_path.with_name("server.log.1")) == list(range(21, 31))
    assert numbers(output_path.with_name("server.log.2")) == list(range(11, 21))
    assert len(list(output_path.parent.iterdir())) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in output_path.parent.iterdir()} == {0o600}
    assert max(file.stat().st_size for file in output_path.parent.iterdir()) == 1000


def test_a_line_longer_than_the_file_may_be_is_written_alone(output_path: Path) -> None:
    output = open_file(output_path, max_bytes=50, max_files=9)
    assert output.write(numbered(1, 3)) == 3
    output.close()
    assert [numbers(file) for file in sorted(output_path.parent.iterdir())] == [[3], [2], [1]]


def test_none_kept_is_none_kept(output_path: Path) -> None:
    output = open_file(output_path, max_bytes=500, max_files=0)
    assert output.write(numbered(1, 12)) == 12
    output.close()
    assert [file.name for file in output_path.parent.iterdir()] == ["server.log"]
    assert numbers(output_path) == [11, 12]


def test_it_goes_on_where_it_was_and_counts_what_is_there(output_path: Path) -> None:
    for first in (1, 8, 15):
        output = open_file(output_path, max_bytes=1000)
        assert output.write(numbered(first, first + 6)) == 7
        output.close()
    assert numbers(output_path) == [21]
    assert numbers(output_path.with_name("server.log.1")) == list(range(11, 21))


def test_a_line_that_a_dead_server_left_unfinished_spoils_none(output_path: Path) -> None:
    output_path.parent.mkdir()
    output_path.write_bytes(b"1 whole\n2 cut in the mid")
    output = open_file(output_path)
    assert output.write([b"3 whole\n", b"4 whole\n"]) == 2
    output.close()
    assert output_path.read_bytes() == b"1 whole\n2 cut in the mid\n3 whole\n4 whole\n"


def test_moved_away_from_outside(output_path: Path) -> None:
    output = open_file(output_path)
    output.write(numbered(1, 2))
    moved = output_path.with_name("moved")
    output_path.rename(moved)
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert (numbers(moved), numbers(output_path)) == ([1, 2], [3, 4])


def test_copied_and_cut_from_outside(output_path: Path) -> None:
    output = open_file(output_path)
    output.write(numbered(1, 2))
    os.truncate(output_path, 0)
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert numbers(output_path) == [3, 4]


def test_its_directory_is_removed(output_path: Path) -> None:
    output = open_file(output_path)
    output.write(numbered(1, 2))
    output_path.unlink()
    output_path.parent.rmdir()
    assert output.write(numbered(3, 4)) == 2
    output.close()
    assert numbers(output_path) == [3, 4]
    assert stat.S_IMODE(output_path.parent.stat().st_mode) == 0o700


def test_a_file_that_cannot_be_written_refuses_until_it_can(output_path: Path) -> None:
    output = open_file(output_path)
    output.write(numbered(1, 2))
    output_path.unlink()
    output_path.mkdir()  # what even root cannot write to
    assert output.write(numbered(3, 4)) == 0
    assert output.write(numbered(5, 5)) == 0
    output_path.rmdir()
    assert output.write(numbered(6, 6)) == 1
    output.close()
    assert numbers(output_path) == [6]


def test_where_it_cannot_rotate_it_grows(output_path: Path) -> None:
    output = open_file(output_path, max_bytes=500, max_files=1)
    output_path.with_name("server.log.1").mkdir()
    assert output.write(numbered(1, 12)) == 12
    output.close()
    assert numbers(output_path) == list(range(1, 13))


def test_a_full_disk_takes_whole_lines_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk):
        output_path = disk / "server.log"
        output = open_file(output_path)
        rest = fill(disk, leave=16384)
        lines = numbered(1, 1000)
        written = output.write(lines)
        assert 0 < written < len(lines)
        assert numbers(output_path) == list(range(1, written + 1))
        assert output.write(numbered(2000, 2100)) == 0
        assert numbers(output_path) == list(range(1, written + 1))
        rest.unlink()
        assert output.write(numbered(3000, 3001)) == 2
        output.close()
        assert numbers(output_path) == [*range(1, written + 1), 3000, 3001]


def test_a_device_that_is_full() -> None:
    if not Path("/dev/full").exists():
        absent("/dev/full")
    output = open_output(LoggingSettings(output=Path("/dev/full")))
    assert isinstance(output, StreamOutput)
    assert output.write(numbered(1, 3)) == 0
    output.close()


@contextlib.contextmanager
def pipe(*, blocking: bool) -> Iterator[tuple[int, LogOutput]]:
    """The reading end of a pipe, and an output that writes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    output = StreamOutput(writer, owned=True)
    try:
        yield reader, output
    finally:
        output.close()
        with contextlib.suppress(OSError):
            os.close(reader)


def test_a_pipe_without_a_reader_refuses() -> None:
    with pipe(blocking=True) as (reader, output):
        assert output.write(numbered(1, 3)) == 3
        os.close(reader)
        assert output.write(numbered(4, 6)) == 0


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(tmp_path: Path) -> None:
    size = 300_000  # more than a pipe holds
    with pipe(blocking=False) as (reader, output), (tmp_path / "read").open("wb") as file:
        reading = subprocess.Popen(["head", "-c", str(size)], stdin=reader, stdout=file)
        assert output.write(numbered(1, size // 100)) == size // 100
        assert reading.wait(60) == 0
    assert (tmp_path / "read").read_bytes() == b"".join(numbered(1, size // 100))


def test_after_a_line_that_was_cut_the_next_begins_anew(tmp_path: Path) -> None:
    """The reader of a named pipe leaves in the middle of a line, and another comes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output = open_output(LoggingSettings(output=fifo))
    os.set_blocking(reader, True)
    leaving = subprocess.Popen(["head", "-c", "100000"], stdin=reader, stdout=subprocess.DEVNULL)
    os.close(reader)
    written = output.write(numbered(1, 10_000, 1000))
    assert leaving.wait(60) == 0
    assert 0 < written < 10_000
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.read(reader, 65536):  # what the first one left unread
            pass
    assert output.write([b"last\n"]) == 1
    assert os.read(reader, 65536) == b"\nlast\n"
    output.close()
    os.close(reader)


def refused(settings: LoggingSettings) -> str:
    """Why an output cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        open_output(settings)
    assert "logging.output" in caught.value.message
    return caught.value.message


def test_what_cannot_be_an_output_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refused(LoggingSettings(output=tmp_path))
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(LoggingSettings(output=tmp_path / "file" / "server.log"))
    os.mkfifo(tmp_path / "fifo")
    assert "no process reads it" in refused(LoggingSettings(output=tmp_path / "fifo"))


def test_a_closed_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)  # as Python has it when descriptor 1 is closed
    assert "stdout" in refused(LoggingSettings(output="stdout"))


BOUND = 60.0
"""Nothing is expected to take so long."""


def notice(count: int) -> bytes:
    """Tells how many lines were lost."""
    return b'{"lost":%d}\n' % count


def line(number: int, size: int = 100) -> bytes:
    """A numbered line."""
    return json.dumps({"number": number}).ljust(size - 1).encode() + b"\n"


def parsed(data: bytes) -> tuple[list[int], int]:
    """The numbers of the lines that arrived, and how many were told to be lost."""
    lines: list[dict[str, Any]] = [json.loads(text) for text in data.splitlines()]
    return [found["number"] for found in lines if "number" in found], sum(found.get("lost", 0) for found in lines)


class Held:
    """An output that takes nothing before it may, and then refuses as many batches as it is told."""

    def __init__(self, refusals: int = 0) -> None:
        self.began, self.may = threading.Event(), threading.Event()
        self.refusals = refusals
        self.data = b""
        self.closed = False

    def write(self, lines: Sequence[bytes]) -> int:
        """Wait, then take or refuse."""
        self.began.set()
        assert self.may.wait(BOUND)
        if self.refusals:
            self.refusals -= 1
            return 0
        self.data += b"".join(lines)
        return len(lines)

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_lines_arrive_in_order_and_the_end_waits_for_them(tmp_path: Path) -> None:
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)
    for number in range(20_000):
        sink.write(line(number))
    sink.close(BOUND)
    assert parsed((tmp_path / "log").read_bytes()) == (list(range(20_000)), 0)
    assert losses.of("logs") == 0


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)

    def work(first: int) -> None:
        for number in range(first, first + 2000):
            sink.write(line(number))

    threads = [threading.Thread(target=work, args=(2000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    sink.close(BOUND)
    numbers, _ = parsed((tmp_path / "log").read_bytes())
    assert sorted(numbers) == list(range(16_000))


def test_what_does_not_fit_is_lost_counted_and_told() -> None:
    output, losses = Held(), Losses()
    sink = LogWriter(output, losses, notice, most_bytes=1000)
    sink.write(line(0))
    assert output.began.wait(BOUND)  # it holds the first one
    for number in range(1, 26):
        sink.write(line(number))
    assert losses.of("logs") == 15
    output.may.set()
    sink.close(BOUND)
    assert parsed(output.data) == (list(range(11)), 15)
    assert output.closed


def test_what_is_refused_is_lost_counted_and_told() -> None:
    output, losses = Held(refusals=1), Losses()
    sink = LogWriter(output, losses, notice)
    sink.write(line(0))
    assert output.began.wait(BOUND)
    sink.write(line(1))
    sink.write(line(2))
    output.may.set()
    sink.close(BOUND)
    assert parsed(output.data) == ([1, 2], 1)
    assert losses.of("logs") == 1


def test_the_end_is_bounded_and_what_waits_is_lost() -> None:
    output, losses = Held(), Losses()
    sink = LogWriter(output, losses, notice)
    sink.write(line(0))
    assert output.began.wait(BOUND)
    sink.write(line(1))
    sink.close(0.01)
    assert losses.of("logs") == 1
    sink.write(line(2))
    assert losses.of("logs") == 2, "what comes after the end"
    output.may.set()


def test_a_line_that_comes_up_while_another_is_handed_over(tmp_path: Path) -> None:
    """A finaliser may log at any point of any line of Python, in the thread that hands over."""
    losses = Losses()
    sink = LogWriter(FileOutput(tmp_path / "log", max_bytes=0, max_files=0), losses, notice)
    with sink._changed:
        sink.write(line(0))
    sink.close(BOUND)
    assert parsed((tmp_path / "log").read_bytes()) == ([0], 0)


@contextlib.contextmanager
def stalled_pipe() -> Iterator[tuple[int, LogOutput]]:
    """A pipe that nobody reads yet, and the output into it."""
    reader, writer = os.pipe()
    try:
        yield reader, StreamOutput(writer, owned=True)
    finally:
        os.close(reader)


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    losses = Losses()
    with stalled_pipe() as (reader, output):
        sink = LogWriter(output, losses, notice, most_bytes=100_000)
        for number in range(10_000):  # a megabyte
            sink.write(line(number))
        assert losses.of("logs") > 5000
        data = bytearray()

        def read() -> None:
            while part := os.read(reader, 65536):
                data.extend(part)

        reading = threading.Thread(target=read)
        reading.start()
        sink.close(BOUND)
        reading.join(BOUND)
    numbers, told = parsed(bytes(data))
    assert told == losses.of("logs")
    assert len(numbers) + told == 10_000
    assert numbers == sorted(numbers)


def test_a_full_disk_recovers(tmp_path: Path) -> None:
    disk, losses = tmp_path / "disk", Losses()
    with small_disk(disk):
        sink = LogWriter(FileOutput(disk / "log", max_bytes=0, max_files=0), losses, notice)
        rest = fill(disk)
        for number in range(1000):
            sink.write(line(number))
        wait_for(lambda: losses.of("logs") >= 900)
        rest.unlink()
        sink.write(line(5000))
        sink.close(BOUND)
        numbers, told = parsed((disk / "log").read_bytes())
    assert numbers[-1] == 5000
    assert told == losses.of("logs")
    assert len(numbers) + told == 1001


def wait_for(condition: Any) -> None:
    """Wait for another thread."""
    waiting = threading.Event()
    for _ in range(int(BOUND / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("never came true")


def test_where_nothing_can_be_written_all_is_counted() -> None:
    if not Path("/dev/full").exists():
        absent("/dev/full")
    losses = Losses()
    sink = LogWriter(StreamOutput(os.open("/dev/full", os.O_WRONLY), owned=True), losses, notice)
    for number in range(100):
        sink.write(line(number))
    sink.close(BOUND)
    assert losses.of("logs") == 100


MARKER = "the-marker-of-a-secret-prompt"


class Lines:
    """What was written."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, dict[str, object]]] = []

    def write(self, level: str, msg: str, fields: Mapping[str, object]) -> None:
        """Keep it, without fields that hold nothing."""
        self.all.append((level, msg, {name: value for name, value in fields.items() if value is not None}))

    def fields(self, msg: str) -> list[dict[str, object]]:
        """The fields of the lines with this message."""
        return [fields for _, told, fields in self.all if told == msg]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is written while everything is captured."""
    made = Lines()
    with capture_libraries(made.write):
        yield made


def record(msg: str, *args: Any, level: int = logging.WARNING, name: str = "library") -> logging.LogRecord:
    """A record of a library."""
    return logging.LogRecord(name, level, "file.py", 3, msg, args, None)


def test_a_librarys_warning_and_error_are_lines_and_less_is_not(lines: Lines) -> None:
    logger = logging.getLogger("some.library")
    logger.info("not told")
    logger.warning("it is %d degrees", 40)
    logger.critical("on fire")
    assert lines.all == [
        ("warning", "library message", {"logger": "some.library", "text": "it is 40 degrees"}),
        ("error", "library message", {"logger": "some.library", "text": "on fire"}),
    ]


@pytest.mark.parametrize(
    ("template", "args", "text"),
    [
        ("from %s, %d bytes, %.1f s, %r", ("127.0.0.1", 3, 0.5, None), "from 127.0.0.1, 3 bytes, 0.5 s, None"),
        ("sent %s", (MARKER,), "sent …"),
        ("sent %r", (MARKER,), "sent '…'"),
        ("sent %d", (MARKER,), "sent %d"),
        ("failed: %s", (ConnectionRefusedError(111, "refused"),), "failed: ConnectionRefusedError [Errno 111] refused"),
        ("failed: %s", (ValueError(MARKER),), "failed: ValueError"),
        ("at http://me:pw@host/x?token=1 now", (), "at http://host/… now"),
        (f"got '{MARKER}' of b'{MARKER}'", (), "got '…' of '…'"),
        (f"first\nsecond {MARKER}", (), "first"),
        ("100 % sure", (), "100 % sure"),
        ("", (), ""),
        ("x" * 1000, (), "x" * 300 + "… (700 more)"),
    ],
)
def test_what_is_said_of_a_message(template: str, args: tuple[Any, ...], text: str) -> None:
    assert redact_record(record(template, *args)) == text


def test_named_arguments_are_left_out_too() -> None:
    assert redact_record(record("%(prompt)s in %(number)d", {"prompt": MARKER, "number": 3})) == "… in 3"


def test_a_complaint_that_repeats_is_told_once_a_minute() -> None:
    now = 0.0
    lines = Lines()
    handler = LibraryHandler(lines.write, lambda: now)
    for now in range(150):
        handler.emit(record("again %s", now))
        handler.emit(record("again", name="other"))
    told = [fields.get("repeated") for fields in lines.fields("library message") if fields["logger"] == "library"]
    assert told == [None, 59, 59]
    assert len(lines.all) == 6


def test_many_kinds_do_not_fill_the_memory() -> None:
    lines = Lines()
    handler = LibraryHandler(lines.write, lambda: 0.0)
    for number in range(5000):
        handler.emit(record("x", name=f"library-{number}"))
    assert len(lines.all) == 5000
    assert len(handler._seen) <= 1000


def test_the_servers_own_records_are_lines_of_their_own(lines: Lines) -> None:
    error = ZeroDivisionError("in the middle")
    logger = logging.getLogger("pocket_agent.somewhere")
    for _ in range(2):
        logger.error("observer failed", exc_info=error, extra={"fields": {"observer": "X"}})
    assert lines.all == [("error", "observer failed", {"observer": "X", "exc_info": error})] * 2


def test_a_warning_of_python(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"'{MARKER}' is old; password={MARKER}", DeprecationWarning, stacklevel=1)
    (fields,) = lines.fields("python warning")
    assert fields["kind"] == "DeprecationWarning"
    assert str(fields["at"]).startswith("test_observability_structured_log.py:")
    assert MARKER not in str(fields)


def test_a_thread_that_ends_with_an_exception(lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError(MARKER)

    thread = threading.Thread(target=fail, name="failing")
    thread.start()
    thread.join()
    (fields,) = lines.fields("uncaught exception")
    assert fields["thread"] == "failing"
    assert isinstance(fields["exc_info"], ValueError)
    assert capfd.readouterr() == ("", "")


def test_a_finaliser_that_raises(lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError(MARKER)

    Failing()
    gc.collect()
    (fields,) = lines.fields("uncaught exception")
    assert isinstance(fields["exc_info"], ValueError)
    assert capfd.readouterr() == ("", "")


async def test_a_task_whose_exception_nobody_took(lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    async def fail(prompt: str) -> None:
        raise ValueError(prompt)

    task = asyncio.create_task(fail(MARKER))
    await asyncio.wait({task})
    del task
    gc.collect()
    (fields,) = lines.fields("library message")
    assert fields["logger"] == "asyncio"
    assert fields["text"] == "Task exception was never retrieved"
    assert isinstance(fields["exc_info"], ValueError)
    assert capfd.readouterr() == ("", "")


async def test_a_callback_that_raises_does_not_tell_its_arguments(lines: Lines) -> None:
    def fail(_: str) -> None:
        raise ValueError(MARKER)

    asyncio.get_running_loop().call_soon(fail, "s3cret-argument")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (fields,) = lines.fields("library message")
    assert "s3cret" not in str(fields["text"])
    assert "Exception in callback" in str(fields["text"])


async def test_a_fault_in_a_handler_of_aiohttp(lines: Lines) -> None:
    token = new_token()

    async def fail(request: web.Request) -> web.Response:
        raise ValueError(request.headers["Authorization"])

    application = web.Application()
    application.router.add_get("/", fail)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/?token={token}"
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
            http.get(url) as answer,
        ):
            assert answer.status == 500
    finally:
        await runner.cleanup()
    (fields,) = lines.fields("library message")
    assert fields["logger"] == "aiohttp.server"
    assert fields["text"] == "Error handling request from 127.0.0.1"
    shown = json.dumps({name: str(value) for name, value in fields.items() if name != "exc_info"})
    assert token not in shown


def test_everything_is_given_back() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), warnings.showwarning, threading.excepthook, sys.unraisablehook)
    with capture_libraries(Lines().write):
        assert root.level == logging.WARNING
        assert sys.unraisablehook is not before[-1]
    assert before == (root.level, list(root.handlers), warnings.showwarning, threading.excepthook, sys.unraisablehook)


ODD = ['a\n{"level":"error","msg":"forged"}', "a\r\nb", "\x1b[31mred\x1b[0m", "\u2028", "\x00", "\udcff", '"', "\\", ""]
CONTEXT = ExecutionContext(project_of("proj-456"), ExecutionId("exec-1"), "req-123")
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
