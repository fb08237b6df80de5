"""Texts of others lose what may be secret, and keep what helps."""

import pytest

from pocket_agent.observability.redaction import redact, strip_quotations
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
