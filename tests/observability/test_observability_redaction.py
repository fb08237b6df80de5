"""What the log contains of secrets, quoted values and exceptions: nothing of them."""

import sqlite3

import msgspec
import pytest
from pydantic import BaseModel

from pocket_agent.errors import FileOperationError
from pocket_agent.observability.redaction import error_message, error_name, redact, redacted_traceback, strip_quotations
from pocket_agent.server.auth import new_token


def test_a_devices_token_is_taken_out() -> None:
    token = new_token()
    assert token not in redact(f"what {token} did")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cret",
        "authorization=s3cret",
        "'Authorization': 'Basic s3cret'",
        'x-api-key: "s3cret"',
        "token=s3cret&a=b",
        "http://me:s3cret@collector:4318/v1",
        "https://hooks.example/services/s3cret",
        "wss://host/ws?token=s3cret",
        "DB_PASSWORD=s3cret",
        "Cookie: s3cret",
    ],
)
def test_secrets_by_their_form(text: str) -> None:
    assert "s3cret" not in redact(f"failed with {text} again")
    assert redact(text) != ""


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:4318", "connection refused (111)", "/home/me/key.pem: no such file", "port 9090 is taken by x"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_of_an_address_the_host_stays() -> None:
    assert redact("to http://me:pw@collector:4318/v1/traces now") == "to http://collector:4318/… now"


@pytest.mark.parametrize("quoted", ["'a word'", '"a word"', "b'a word'", "'a \\' word'"])
def test_quotations_are_taken_out(quoted: str) -> None:
    assert strip_quotations(f"got {quoted} here") == "got '…' here"


MARKER = "the-marker-of-a-secret-prompt"


class Typed(BaseModel):
    """A value that pydantic checks, and quotes when it refuses."""

    number: int


class QuotingError(TypeError):
    """A library's own kind of a harmless one."""


def decode(text: str) -> None:
    """Refuse a text as each library does."""
    if text.startswith("int"):
        int(text)
    if text.startswith("key"):
        dict[str, str]()[text]
    if text.startswith("pydantic"):
        Typed(number=text)  # type: ignore[arg-type]
    if text.startswith("msgspec"):
        msgspec.convert({text: text}, type=dict[str, int])
    if text.startswith("value"):
        raise ValueError(text)
    if text.startswith("type"):
        raise QuotingError(text)
    if text.startswith("unicode"):
        (text + "\udcff").encode()
    raise AssertionError(text)


def caught(action: str) -> Exception:
    """The exception of `decode`, raised and caught twice, each time for another reason."""
    try:
        try:
            decode(f"{action} {MARKER}")
        except Exception as error:
            raise RuntimeError(MARKER) from error
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("action", ["int", "key", "pydantic", "msgspec", "value", "type", "unicode", "assert"])
def test_no_exception_tells_what_it_was_raised_for(action: str) -> None:
    text = redacted_traceback(caught(action))
    assert MARKER not in text
    assert "RuntimeError" in text
    assert "direct cause" in text
    assert "in decode" in text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("in the middle"), "in the middle"),
        (FileNotFoundError(2, "No such file", "/x\n/y"), "[Errno 2] No such file: '/x\\n/y'"),
        (FileOperationError("The disk is\nfull."), "The disk is full."),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
        (ConnectionError("to http://me:s3cret@host/x"), "to http://host/…"),
        (ValueError(MARKER), ""),
        (QuotingError(MARKER), ""),
    ],
)
def test_messages_that_quote_nobody_are_told(error: Exception, message: str) -> None:
    assert error_message(error) == message


def test_names() -> None:
    assert error_name(KeyError()) == "KeyError"
    assert error_name(sqlite3.Error()) == "sqlite3.Error"


def recurse() -> None:
    """Never end."""
    recurse()


def test_a_deep_stack_is_bounded() -> None:
    with pytest.raises(RecursionError) as caught_error:
        recurse()
    text = redacted_traceback(caught_error.value)
    assert len(text) < 5000
    assert "maximum recursion depth" in text


def test_a_group_tells_of_its_parts() -> None:
    group = ExceptionGroup("both", [caught("int"), ZeroDivisionError("in the middle")])
    text = redacted_traceback(group)
    assert "  | ZeroDivisionError: in the middle" in text
    assert MARKER not in text


def test_a_long_chain_is_bounded() -> None:
    last: Exception = ValueError("0")
    for number in range(50):
        following = ValueError(str(number))
        following.__cause__ = last
        last = following
    assert redacted_traceback(last).count("ValueError") == 5
