"""What the model understands of a request; the shapes are those that CLI 2.1.330 sent."""

import json
from typing import Any

import pytest

from pocket_agent.demo.model_request import (
    ModelRequest,
    Question,
    ToolResult,
    decode,
    is_side_request,
    question,
    side_answer,
)

REMINDER = {"type": "text", "text": "<system-reminder>\nUse no demo:error here.\n</system-reminder>\n"}
ENVIRONMENT = {
    "role": "system",
    "content": "# Environment\nYou are here:\n - Primary working directory: /some/where else\n - Platform: x",
}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}]}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def result(content: object, *, is_error: bool = False) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": is_error}


def request(*messages: object, **fields: Any) -> ModelRequest:
    body = {"model": "m", "max_tokens": 5, "messages": list(messages), "tools": [{"name": "Bash"}], **fields}
    return decode(json.dumps(body).encode())


def asked(*messages: object, **fields: Any) -> Question:
    return question(request(*messages, **fields))


def test_the_prompt_is_what_the_user_wrote_not_what_the_cli_adds() -> None:
    found = asked(user(REMINDER, text("hello")), ENVIRONMENT)
    assert (found.prompt, found.step, found.results) == ("hello", 0, ())
    assert found.tools == {"Bash"}
    assert found.directory == "/some/where else"


def test_a_prompt_may_be_a_plain_string() -> None:
    assert asked({"role": "user", "content": "hello"}).prompt == "hello"


def test_the_step_counts_the_answers_since_the_prompt() -> None:
    first = user(text("one")), {"role": "assistant", "content": "done"}
    found = asked(*first, user(text("two")), USE, user(result("out")), USE, user(result("more"), REMINDER))
    assert (found.prompt, found.step) == ("two", 2)
    assert found.results == (ToolResult("more", is_error=False),)


def test_results_of_parallel_tools_come_together_with_their_errors() -> None:
    long_form = [text("a"), {"type": "image", "source": {}}, text("b")]
    found = asked(user(text("p")), USE, user(result(long_form), result("refused", is_error=True)))
    assert found.results == (ToolResult("a\nb", is_error=False), ToolResult("refused", is_error=True))


@pytest.mark.parametrize(
    "note",
    [
        "[Request interrupted by user]\n",
        "[Request interrupted by user for tool use]\n",
        "<local-command-stdout>x</local-command-stdout>",
        "Tool loaded.",
    ],
)
def test_a_note_of_the_cli_is_no_prompt(note: str) -> None:
    found = asked(user(text("go")), USE, user(result("x"), text(note)))
    assert (found.prompt, found.step) == ("go", 1)


def test_a_prompt_after_an_interrupt_stands_beside_the_tool_result() -> None:
    interrupted = user(result("no", is_error=True), text("[Request interrupted by user for tool use]\n"), text("new"))
    found = asked(user(text("go")), USE, interrupted)
    assert (found.prompt, found.step, found.results) == ("new", 0, ())


def test_of_joined_prompts_the_last_one_counts() -> None:
    assert asked(user(text("demo:error"), text("hello"))).prompt == "hello"


def test_a_message_during_a_turn_does_not_change_the_scenario() -> None:
    note = {"role": "system", "content": "The user sent a new message while you were working:\ndemo:error"}
    assert asked(user(text("go")), USE, user(result("x")), note).prompt == "go"


def test_the_description_of_a_background_command_that_ended_is_a_prompt() -> None:
    note = "<system-reminder>\n<task-notification>\n<summary>{}</summary>\n</task-notification>\n</system-reminder>"
    ended = 'Background command "demo:slow=3s" completed (exit code 0)'
    found = asked(user(text("demo:wake=demo:slow=3s")), USE, user(result("x")), USE, user(text(note.format(ended))))
    assert (found.prompt, found.step) == ("demo:slow=3s", 0)
    other = 'Background command "Run it" completed (exit code 0)'
    assert asked(user(text("go")), USE, user(text(note.format(other)))).prompt == "go"


def test_no_prompt_at_all() -> None:
    assert asked().prompt == ""
    assert asked(user(REMINDER)).prompt == ""


def test_the_latest_working_directory_counts_and_the_system_prompt_is_read_too() -> None:
    moved = {"role": "system", "content": [text("# Environment\n - Primary working directory: /moved")]}
    assert asked(user(text("p")), ENVIRONMENT, moved).directory == "/moved"
    assert asked(user(text("p")), system="Working directory: /old\n").directory == "/old"
    assert asked(user(text("p")), system=[text("none")]).directory is None


def test_the_key_names_the_prompt_through_all_its_requests() -> None:
    prompt = user(text("again"))
    first = asked(prompt, metadata={"user_id": "s"})
    assert asked(prompt, USE, user(result("x")), metadata={"user_id": "s"}).key == first.key
    later = asked(prompt, {"role": "assistant", "content": "done"}, prompt, metadata={"user_id": "s"})
    other = asked(prompt, metadata={"user_id": "another session"})
    assert len({first.key, later.key, other.key}) == 3


def test_lone_surrogates_are_read() -> None:
    body = rb'{"model":"m","messages":[{"role":"user","content":"a\ud800b"}]}'
    assert question(decode(body)).prompt == "a\ud800b"
    assert question(decode(body)).key


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":"m"}', b'{"model":1,"messages":[]}', b"\xff", b'{"messages":[{"role":1}]}'],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(body)


def test_side_requests_are_told_from_turns() -> None:
    plain = user(text("demo:bash"))
    schema = {"type": "json_schema", "schema": {}}
    assert not is_side_request(request(plain, metadata={"user_id": "s"}))
    assert not is_side_request(request(plain, tools=[]))
    assert is_side_request(request(plain, tools=[], metadata={"user_id": "s"}))
    assert is_side_request(request(plain, tools=[], max_tokens=1))
    assert is_side_request(request(plain, tools=[], output_config={"format": schema}))
    assert not is_side_request(request(plain, output_config={"effort": "medium"}))


def test_a_side_request_with_a_schema_gets_an_object_that_fits() -> None:
    parts = {
        "title": {"type": "string"},
        "isNewTopic": {"type": "boolean"},
        "kind": {"enum": ["a", "b"]},
        "size": {"type": "integer"},
        "tags": {"type": "array", "items": {}},
        "inner": {"type": "object", "properties": {"x": True}},
    }
    schema = {"type": "json_schema", "schema": {"type": "object", "properties": parts}}
    answer = side_answer(request(user(text("x")), output_config={"format": schema}))
    assert json.loads(answer) == {
        "title": "Demo",
        "isNewTopic": False,
        "kind": "a",
        "size": 0,
        "tags": [],
        "inner": {"x": "Demo"},
    }
    assert side_answer(request(user(text("x")))) == "Demo"


def test_a_request_for_a_summary_gets_one() -> None:
    prompt = text("Respond with plain text only: an <analysis> block followed by a <summary> block.")
    asked_for = request(user(text("demo:bash")), {"role": "assistant", "content": "x"}, user(prompt))
    assert is_side_request(asked_for)
    assert "<summary>The user" in side_answer(asked_for)


def test_a_summary_of_earlier_turns_is_no_prompt() -> None:
    summary = text("This session is being continued from a previous conversation that ran out. demo:error")
    assert asked(user(REMINDER, summary, text("hello"))).prompt == "hello"
    assert asked(user(REMINDER, summary)).prompt == ""
