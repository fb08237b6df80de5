"""Who joins in the middle of a message sees its beginning."""

from pocket_agent.protocol.requests import PartialData
from pocket_agent.session.state import Partial


def test_there_is_nothing_before_a_message() -> None:
    assert Partial().value() is None


def test_text_and_thinking_are_collected_apart() -> None:
    partial = Partial()
    for kind, text in (("thinking", "hm"), ("text", "He"), ("thinking", "m"), ("text", "llo")):
        partial.add(kind, text)
    assert partial.value() == PartialData(text="Hello", thinking="hmm")


def test_tool_input_is_not_shown() -> None:
    partial = Partial()
    partial.add("input_json", '{"comm')
    partial.add("", "x")
    assert partial.value() is None


def test_the_complete_line_ends_it() -> None:
    partial = Partial()
    partial.add("text", "Hello")
    partial.clear()
    assert partial.value() is None
    partial.add("text", "again")
    assert partial.value() == PartialData(text="again", thinking="")
