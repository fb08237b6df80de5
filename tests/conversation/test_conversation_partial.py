"""Who joins in the middle of a message sees its beginning."""

from pocket_agent.conversation.state import Partial
from pocket_agent.protocol.requests import PartialData


def test_there_is_nothing_before_a_message() -> None:
    assert Partial().value() is None


def test_text_and_thinking_are_collected_apart() -> None:
    partial = Partial()
    for kind, text in (("thinking", "hm"), ("text", "He"), ("thinking", "m"), ("text", "llo")):
        partial.take([(kind, text)])
    assert partial.value() == PartialData(text="Hello", thinking="hmm")


def test_tool_input_is_not_shown() -> None:
    partial = Partial()
    partial.take([("input_json", '{"comm')])
    partial.take([("", "x")])
    assert partial.value() is None


def test_the_complete_line_ends_it() -> None:
    partial = Partial()
    partial.take([("text", "Hello")])
    partial.clear()
    assert partial.value() is None
    partial.take([("text", "again")])
    assert partial.value() == PartialData(text="again", thinking="")
