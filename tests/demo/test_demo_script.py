"""The arguments of keywords and the words of scenarios."""

import pytest

from pocket_agent.demo.model_request import ToolResult
from pocket_agent.demo.scenario import (
    InvalidArgumentError,
    count,
    duration_seconds,
    first_word,
    outcome,
    size_bytes,
    words,
)


@pytest.mark.parametrize(("argument", "expected"), [("", 7), ("  ", 7), ("1", 1), ("500 please", 500), ("12.", 12)])
def test_a_count(argument: str, expected: int) -> None:
    assert count(argument, 7) == expected


@pytest.mark.parametrize("argument", ["0", "-1", "100001", "1e3", "x", "\u0663", "1_0", "9" * 50])
def test_what_is_no_count(argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match="number from 1"):
        count(argument, 7)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("", 7.0), ("3s", 3.0), ("250ms", 0.25), ("2m", 120.0), ("1.5", 1.5), ("0s", 0.0)],
)
def test_a_duration(argument: str, expected: float) -> None:
    assert duration_seconds(argument, 7.0) == pytest.approx(expected)


@pytest.mark.parametrize("argument", ["2h", "61m", "s", "-1s", "nan", "inf", "1e9", "9999999999"])
def test_what_is_no_duration(argument: str) -> None:
    with pytest.raises(InvalidArgumentError):
        duration_seconds(argument, 7.0)


@pytest.mark.parametrize(
    ("argument", "expected"), [("", 7), ("1000", 1000), ("64KiB", 65536), ("1mib", 2**20), ("0.5MiB", 2**19)]
)
def test_a_size(argument: str, expected: int) -> None:
    assert size_bytes(argument, 7) == expected


@pytest.mark.parametrize("argument", ["0", "65MiB", "1GB", "MiB", "-5"])
def test_what_is_no_size(argument: str) -> None:
    with pytest.raises(InvalidArgumentError):
        size_bytes(argument, 7)


def test_the_first_word_of_a_sentence() -> None:
    assert first_word("notes.md, please.") == "notes.md"
    assert first_word(" ") == ""


def test_words_are_counted() -> None:
    assert len(words(123).split()) == 123


def test_an_outcome_tells_an_error_before_anything_else() -> None:
    good, bad = ToolResult("fine", is_error=False), ToolResult("denied", is_error=True)
    assert outcome((good, bad), "Done.") == "The tool was refused or failed, so I stop here: denied"
    assert outcome((good, ToolResult("", is_error=False)), "Done.") == "Done.\nfine"
    assert len(outcome((ToolResult("x" * 10_000, is_error=False),), "Done.")) < 500
