"""What libraries and Python complain of: in the server's form, and without what may be a secret."""

import asyncio
import gc
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pocket_agent.observability.structured_log import LibraryHandler, capture_libraries, redact_record
from pocket_agent.server.auth import new_token

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
    assert str(fields["at"]).startswith("test_observability_library.py:")
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
