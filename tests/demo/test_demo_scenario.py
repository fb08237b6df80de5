"""Which scenario a prompt chooses, and what each one answers at each step."""

import re
from dataclasses import replace

import pytest

from pocket_agent.demo.model_request import Question, ToolResult
from pocket_agent.demo.scenario import (
    AWKWARD_CHARACTERS,
    SCENARIOS,
    Clearing,
    Failure,
    Limit,
    Message,
    Reply,
    Text,
    Thinking,
    ToolUse,
    choose,
    keywords,
)

GOOD = (ToolResult("fine", is_error=False),)
REFUSED = (ToolResult("not today", is_error=True),)
TOOLS = frozenset({"Bash", "Write", "Read", "Edit", "ToolSearch"})


def ask(prompt: str, step: int = 0, results: tuple[ToolResult, ...] = ()) -> Reply:
    return choose(Question(prompt, step, results, TOOLS, "/some/project", "0123456789abcdef"))[1]


def message(prompt: str, step: int = 0, results: tuple[ToolResult, ...] = ()) -> Message:
    reply = ask(prompt, step, results)
    assert isinstance(reply, Message)
    return reply


def said(reply: Message) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Text))


def used(reply: Message) -> list[ToolUse]:
    return [block for block in reply.blocks if isinstance(block, ToolUse)]


def played(prompt: str, limit: int = 20) -> tuple[list[ToolUse], str]:
    """The tools that a scenario uses when each one works, and its last words."""
    uses: list[ToolUse] = []
    for step in range(limit):
        reply = message(prompt, step, GOOD if step else ())
        if reply.stop_reason == "end_turn":
            return uses, said(reply)
        uses += used(reply)
    raise AssertionError(f"{prompt} does not come to an end")


def test_an_ordinary_prompt_is_greeted_and_echoed() -> None:
    reply = said(message("Please fix my demo"))
    assert "demo model" in reply
    assert "Please fix my demo" in reply
    assert all(f"demo:{name}" in reply for name in SCENARIOS)


def test_a_long_prompt_is_not_echoed_whole() -> None:
    assert len(said(message("x" * 100_000))) < 5_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_keyword_is_documented_chosen_and_answered(name: str) -> None:
    assert re.search(rf"^  demo:{name}\b.* {re.escape(SCENARIOS[name].help)}$", keywords(), re.MULTILINE)
    chosen, reply = choose(Question(f"Show me demo:{name} please", tools=TOOLS, directory="/d", key="k" * 16))
    assert chosen == name
    assert isinstance(reply, Message | Failure | Clearing | Limit)


@pytest.mark.parametrize(
    "prompt", ["demo:error", "do demo:error.", "(x)\ndemo:error, now", "demo:error=x", "demo:error\n"]
)
def test_a_keyword_is_a_word_of_its_own(prompt: str) -> None:
    assert isinstance(ask(prompt), Failure)


@pytest.mark.parametrize(
    "prompt", ["xdemo:error", "demo: error", "demo:errors", "a/demo:error", "Demo:error", "demo:error/x"]
)
def test_what_only_looks_like_a_keyword_is_none(prompt: str) -> None:
    assert not isinstance(ask(prompt), Failure)


def test_the_first_keyword_counts() -> None:
    assert choose(Question("demo:text demo:error"))[0] == "text"


def test_an_unknown_keyword_and_a_bad_argument_get_the_list() -> None:
    assert said(message("demo:nothing")).startswith("I know no demo:nothing.")
    assert "demo:words" in said(message("demo:nothing"))
    assert "'many' is not a number" in said(message("demo:words=many"))


def test_long_texts() -> None:
    assert len(said(message("demo:words=321")).split()) == 321
    assert said(message("demo:lines=500")).count("\n") == 499
    assert len(message("demo:blocks=5").blocks) == 5


@pytest.mark.parametrize(("prompt", "size"), [("demo:huge", 2**20), ("demo:huge=70KiB", 70 * 1024)])
def test_a_huge_text_has_the_asked_size(prompt: str, size: int) -> None:
    assert len(said(message(prompt)).encode()) == size


def test_a_command_goes_to_the_end_of_the_line() -> None:
    (use,) = used(message("Run demo:bash=make test && echo 'all good'\nand tell me"))
    assert use.name == "Bash"
    assert use.input["command"] == "make test && echo 'all good'"
    (default,) = used(message("demo:bash"))
    assert ">" in str(default.input["command"]), "the CLI asks before it writes a file"


def test_the_outcome_of_a_command_is_told() -> None:
    assert said(message("demo:bash", 1, GOOD)) == "The command ran.\nfine"


@pytest.mark.parametrize("name", ["bash", "edit", "tools", "loop", "parallel", "todo"])
def test_a_refused_tool_ends_the_scenario_with_words(name: str) -> None:
    reply = message(f"demo:{name}", 1, REFUSED)
    assert reply.stop_reason == "end_turn"
    assert "refused or failed" in said(reply)
    assert "not today" in said(reply)


def test_an_edit_writes_reads_and_edits_one_file_in_the_directory() -> None:
    uses, last = played("demo:edit=sub/../../notes.md")
    assert [use.name for use in uses] == ["Write", "Read", "Edit"]
    assert {use.input["file_path"] for use in uses} == {"/some/project/notes.md"}
    assert str(uses[2].input["old_string"]) in str(uses[0].input["content"])
    assert "notes.md" in last


def test_an_edit_takes_a_new_name_for_each_prompt() -> None:
    question = Question("demo:edit", directory="/d", key="a" * 16)
    paths = set()
    for asked in (question, replace(question, key="b" * 16)):
        reply = choose(asked)[1]
        assert isinstance(reply, Message)
        paths.add(used(reply)[0].input["file_path"])
    assert len(paths) == 2


def test_an_edit_without_a_directory_says_so() -> None:
    reply = choose(Question("demo:edit"))[1]
    assert isinstance(reply, Message)
    assert "directory" in said(reply)


def test_several_tools_in_a_row() -> None:
    uses, last = played("demo:tools")
    assert len(uses) == 3
    assert "three tools" in last
    counted, last = played("demo:loop=7")
    assert [use.input["command"] for use in counted] == [f"echo step {step} of 7" for step in range(1, 8)]
    assert "7 commands" in last


def test_parallel_tools_stand_in_one_message() -> None:
    assert len(used(message("demo:parallel=4"))) == 4
    assert message("demo:parallel=4", 1, GOOD * 4).stop_reason == "end_turn"


def test_the_todo_list_is_loaded_worked_on_and_finished() -> None:
    uses, _ = played("demo:todo")
    assert [use.name for use in uses] == ["ToolSearch", "TodoWrite", "TodoWrite", "TodoWrite"]
    todos = uses[-1].input["todos"]
    assert isinstance(todos, list)
    assert {todo["status"] for todo in todos} == {"completed"}
    bare = choose(Question("demo:todo", tools=frozenset({"Bash"})))[1]
    assert isinstance(bare, Message)
    assert "no todo list" in said(bare)


def test_work_that_outlives_its_answer() -> None:
    (subagent,), _ = played("demo:agent=demo:bash=touch x")
    assert (subagent.name, subagent.input["prompt"]) == ("Agent", "demo:bash=touch x")
    (command,), _ = played("demo:background=npm start")
    assert (command.input["command"], command.input["run_in_background"]) == ("npm start", True)
    (command,), _ = played("demo:wake=demo:slow=3s")
    assert (command.input["description"], command.input["run_in_background"]) == ("demo:slow=3s", True)
    assert [use.name for use in played("demo:plan")[0]] == ["ToolSearch", "ExitPlanMode", "Write"]


def test_thinking_comes_before_the_text() -> None:
    assert [type(block) for block in message("demo:think").blocks] == [Thinking, Text]


def test_failures() -> None:
    refused = ask("demo:error")
    assert isinstance(refused, Failure)
    assert (refused.status, refused.type) == (400, "invalid_request_error")
    overloaded = ask("demo:overload=2")
    assert isinstance(overloaded, Clearing)
    assert (overloaded.times, overloaded.failure.status) == (2, 529)
    assert overloaded.failure.type == "overloaded_error"


def test_a_slow_text_takes_the_asked_time() -> None:
    (block,) = message("demo:slow=2s").blocks
    assert isinstance(block, Text)
    deltas = -(-len(block.text) // block.delta_characters)
    assert deltas * block.delta_seconds == pytest.approx(2.0)
    assert deltas == 20


def test_the_awkward_text_holds_each_kind() -> None:
    text = said(message("demo:awkward"))
    assert all(characters in text for characters in AWKWARD_CHARACTERS.values())
    for character in "\x00\x1b\u2028\u202e\u200d\ufeff\ud83d\U0001f600\\\"'<":
        assert character in text
