"""A line stays one line that its readers can parse, whatever is in it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent import __version__
from pocket_agent.observability.structured_log import JsonLayout, TextLayout, truncate

ODD = [
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


def parsed(**fields: object) -> dict[str, Any]:
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
    line = parsed(**given_last)
    assert list(line) == [
        *("timestamp", "level", "msg", "service", "environment", "version"),
        *("correlation_id", "project_id", "duration_ms", "trace_id", "span_id", "fields"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert line["fields"] == {"x": 1}


def test_what_holds_nothing_is_left_out() -> None:
    assert set(parsed(code=None, project_id=None)) == {"timestamp", "level", "msg", "service", "environment", "version"}


def test_constants_replace_the_servers_own_and_add_others() -> None:
    layout = JsonLayout({"service": "mine", "version": 1.5, "region": "here", "shard": 3})
    line = json.loads(layout.line("info", "told", {}))
    assert (line["service"], line["environment"], line["version"]) == ("mine", "production", "1.5")
    assert (line["region"], line["shard"]) == ("here", 3)
    assert json.loads(JsonLayout({}).line("info", "told", {}))["version"] == __version__


@pytest.mark.parametrize("word", ODD)
def test_json_holds_odd_words_as_they_are(word: str) -> None:
    line = parsed(correlation_id=word, device=word, addresses=(word, word))
    shown = word.encode("utf-8", "backslashreplace").decode()
    assert line["correlation_id"] == line["fields"]["device"] == shown
    assert line["fields"]["addresses"] == [shown, shown]
    assert line["msg"] == "told"


@given(st.text(st.characters(codec=None)))
def test_any_text_is_one_line_in_either_form(word: str) -> None:
    assert parsed(device=word)["msg"] == "told"
    shown = text(PEOPLE, device=word, correlation_id=word)
    assert shown.isprintable()


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**70), 10**5000, float("nan"), float("inf"), {"a": 2**80, "b": "\udcff"}, object(), b"x", {1: [None]}],
    ids=range(9),
)
def test_a_value_that_json_does_not_hold_breaks_nothing(value: object) -> None:
    assert parsed(value=value, other="\udcff")["msg"] == "told"
    assert text(PEOPLE, value=value).isprintable()


def test_a_long_text_is_cut_and_says_so() -> None:
    line = parsed(device="x" * 1_000_000, addresses=("y" * 2000,), exception="z" * 5000)
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
