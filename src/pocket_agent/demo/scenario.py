"""What the scripted model says and does: one pure function per keyword, question in, reply out.

A keyword is a word of its own in the prompt, `demo:NAME` or `demo:NAME=VALUE`, so that prompts
which people write hardly ever hit one. `SCENARIOS` is the one table of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from pocket_agent.demo.awkward import AWKWARD_TEXT
from pocket_agent.demo.conversation import Question
from pocket_agent.demo.markup import HOSTILE_TEXT, MARKDOWN_TEXT
from pocket_agent.demo.reply import Clearing, Failure, Message, Reply, Text, Thinking, ToolUse, say
from pocket_agent.demo.script import (
    MAX_COUNT,
    MAX_SECONDS,
    MAX_SIZE_BYTES,
    InvalidArgumentError,
    count,
    duration_seconds,
    first_word,
    outcome,
    size_bytes,
    words,
)

_ECHO_CHARACTERS: Final = 500
_SLOW_DELTAS_PER_SECOND: Final = 10
_STREAM_DELTA_SECONDS: Final = 0.005
_DEFAULT_COMMAND: Final = "echo 'Hello from the demo model' > demo.txt"
_DEFAULT_BACKGROUND: Final = "sleep 5"
_KEYWORD: Final = re.compile(r"(?<!\S)demo:([a-z]+)(?:=([^\n]*)|(?=[\s.,;:!?)\"'`]|$))")


def plain(_question: Question, _argument: str) -> Reply:
    """A short text."""
    return say("This is a plain answer of the demo model.")


def long_text(_question: Question, argument: str) -> Reply:
    """A streamed text of many words."""
    return Message((Text(words(count(argument, 200)), delta_seconds=_STREAM_DELTA_SECONDS),))


def lines(_question: Question, argument: str) -> Reply:
    """A streamed text of many numbered lines."""
    total = count(argument, 100)
    text = "\n".join(f"Line {number} of {total}: {words(8)}" for number in range(1, total + 1))
    return Message((Text(text, delta_characters=80),))


def blocks(_question: Question, argument: str) -> Reply:
    """Many text blocks in one message; the CLI prints each as an `assistant` line of its own."""
    total = count(argument, 20)
    return Message(tuple(Text(f"Block {number} of {total}.") for number in range(1, total + 1)))


def bash(question: Question, argument: str) -> Reply:
    """One shell command, which needs an approval unless the CLI knows it as harmless."""
    command = argument.strip() or _DEFAULT_COMMAND
    if question.step == 0:
        return _bash(command, "Run the command of the prompt")
    return say(outcome(question.results, "The command ran."))


def edit(question: Question, argument: str) -> Reply:
    """A new file, read back and changed: Write, Read, Edit."""
    if question.directory is None:
        return say("I do not know the working directory, so I cannot name a file in it.")
    # A name of its own for each prompt: the CLI refuses to write over a file that it has not read.
    name = PurePosixPath(first_word(argument) or f"demo-{question.key[:8]}.md").name
    path = f"{question.directory}/{name}"
    return _in_turn(
        question,
        ToolUse("Write", {"file_path": path, "content": "# A note\n\nThe demo model wrote this.\n"}),
        ToolUse("Read", {"file_path": path}),
        ToolUse("Edit", {"file_path": path, "old_string": "wrote this", "new_string": "wrote and edited this"}),
        then=f"I wrote {name}, read it back and edited it.",
    )


def tools(question: Question, _argument: str) -> Reply:
    """Several tools, one after the other; the second needs an approval."""
    return _in_turn(
        question,
        ToolUse("Bash", {"command": "pwd", "description": "Show the working directory"}),
        ToolUse("Bash", {"command": "date > demo-tools.txt", "description": "Write the time to a file"}),
        ToolUse("Bash", {"command": "cat demo-tools.txt", "description": "Read the file"}),
        then="I used three tools in a row.",
    )


def loop(question: Question, argument: str) -> Reply:
    """Many harmless commands, one after the other, which need no approval."""
    total = count(argument, 5)
    if question.step < total and not any(result.is_error for result in question.results):
        return _bash(f"echo step {question.step + 1} of {total}", "Count")
    return say(outcome(question.results, f"I ran {total} commands in a row."))


def parallel(question: Question, argument: str) -> Reply:
    """Several commands in one message, each of which needs an approval."""
    total = count(argument, 3)
    if question.step == 0:
        calls = (f"echo {number} > demo-parallel-{number}.txt" for number in range(1, total + 1))
        return Message(
            tuple(ToolUse("Bash", {"command": call, "description": "Write a number to a file"}) for call in calls)
        )
    return say(outcome(question.results, f"I ran {total} commands at once."))


def todo(question: Question, _argument: str) -> Reply:
    """A todo list that is made, worked on and finished."""
    if not question.tools & {"TodoWrite", "ToolSearch"}:
        return say("This CLI offers no todo list.")
    # 2.1.330 keeps the schema of some tools back until the model searches for them.
    load = ToolUse("ToolSearch", {"query": "select:TodoWrite", "max_results": 1})
    return _in_turn(question, load, *_TODO_STEPS, then=_TODO_DONE)


def ask(question: Question, _argument: str) -> Reply:
    """A question to a person, with answers to choose from."""
    load = ToolUse("ToolSearch", {"query": "select:AskUserQuestion", "max_results": 1})
    asking = ToolUse("AskUserQuestion", {"questions": _QUESTIONS})
    return _in_turn(question, *([] if "AskUserQuestion" in question.tools else [load]), asking, then="So be it.")


def agent(question: Question, argument: str) -> Reply:
    """A subagent, which works on after this answer; its own prompt is the rest of the line."""
    call = {
        "description": "Demo subagent",
        "prompt": argument.strip() or "demo:bash",
        "subagent_type": "general-purpose",
    }
    if question.step == 0:
        return Message((ToolUse("Agent", call),))
    return say("I started a subagent.")


def background(question: Question, argument: str) -> Reply:
    """A shell command that runs in the background, after this answer too."""
    command = argument.strip() or _DEFAULT_BACKGROUND
    call = {"command": command, "description": "Run in the background", "run_in_background": True}
    if question.step == 0:
        return Message((ToolUse("Bash", call),))
    return say(outcome(question.results, "The command was started."))


def wake(question: Question, argument: str) -> Reply:
    """A background command that ends at once; the turn that the CLI then begins answers the rest of the line."""
    call = {"command": "sleep 0.1", "description": argument.strip() or "demo:text", "run_in_background": True}
    if question.step == 0:
        return Message((ToolUse("Bash", call),))
    return say("A command runs in the background.")


def plan(question: Question, _argument: str) -> Reply:
    """A plan that a person approves (in the permission mode `plan`), then a new file."""
    load = ToolUse("ToolSearch", {"query": "select:ExitPlanMode", "max_results": 1})
    leaving = ToolUse("ExitPlanMode", {"plan": "1. Write a note.", "allowedPrompts": []})
    write = ToolUse("Write", {"file_path": f"{question.directory}/planned-{question.key[:8]}.md", "content": "Done."})
    return _in_turn(question, load, leaving, write, then="The plan is carried out.")


def think(_question: Question, _argument: str) -> Reply:
    """A thinking block, then text."""
    return Message((Thinking("The user wants to see me think. This is a thought."), Text("I thought about it.")))


def error(_question: Question, argument: str) -> Reply:
    """An error of the API that a retry does not cure; `credit` is that of an account without any."""
    if first_word(argument) == "credit":
        return Failure(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
    return Failure(400, "invalid_request_error", "The demo model was asked to refuse this request.")


def overload(_question: Question, argument: str) -> Reply:
    """An overload that clears after some tries (the CLI, 2.1.330, makes ten more)."""
    # It waits 0.6 s before the second try and about twice as long before each further one; no header shortens that.
    failure = Failure(529, "overloaded_error", "Overloaded")
    tries = count(argument, 1)
    return Clearing(failure, tries, say(f"The overload cleared after {tries} failed tries."))


def slow(_question: Question, argument: str) -> Reply:
    """A text whose words come slowly; interrupt it, or wait."""
    seconds = duration_seconds(argument, 3.0)
    deltas = max(1, round(seconds * _SLOW_DELTAS_PER_SECOND))
    text = " ".join(f"{number:05}" for number in range(1, deltas + 1))
    return Message((Text(text, delta_characters=6, delta_seconds=seconds / deltas),))


def huge(_question: Question, argument: str) -> Reply:
    """A very large text, in one block."""
    size = size_bytes(argument, 2**20)
    line = "All work and no play makes the demo model a dull model.\n"
    text = (line * (size // len(line) + 1))[:size]
    return Message((Text(text, delta_characters=16384),))


def awkward(_question: Question, _argument: str) -> Reply:
    """A text with every awkward character."""
    return Message((Text(AWKWARD_TEXT, delta_characters=7),))


def markdown(_question: Question, _argument: str) -> Reply:
    """A text with headings, lists, a table and code."""
    return Message((Text(MARKDOWN_TEXT, delta_characters=60),))


def hostile(_question: Question, _argument: str) -> Reply:
    """A text that tries to run as a program in a browser."""
    return Message((Text(HOSTILE_TEXT, delta_characters=60),))


@dataclass(frozen=True)
class Scenario:
    """A keyword's function, and how to write it."""

    play: Callable[[Question, str], Reply]
    argument: str = ""

    @property
    def help(self) -> str:
        """What it does, in a line."""
        return (self.play.__doc__ or "").partition("\n")[0]


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "text": Scenario(plain),
        "words": Scenario(long_text, "200"),
        "lines": Scenario(lines, "100"),
        "blocks": Scenario(blocks, "20"),
        "bash": Scenario(bash, "COMMAND to the end of the line"),
        "edit": Scenario(edit, "FILE"),
        "tools": Scenario(tools),
        "loop": Scenario(loop, "5"),
        "parallel": Scenario(parallel, "3"),
        "todo": Scenario(todo),
        "think": Scenario(think),
        "ask": Scenario(ask),
        "agent": Scenario(agent, "PROMPT to the end of the line"),
        "background": Scenario(background, "COMMAND to the end of the line"),
        "wake": Scenario(wake, "PROMPT to the end of the line"),
        "plan": Scenario(plan),
        "error": Scenario(error, "credit"),
        "overload": Scenario(overload, "1"),
        "slow": Scenario(slow, "3s"),
        "huge": Scenario(huge, "1MiB"),
        "awkward": Scenario(awkward),
        "markdown": Scenario(markdown),
        "hostile": Scenario(hostile),
    }
)
"""Every scenario by its keyword; the value of `argument` is the default, where it is one."""


def choose(question: Question) -> tuple[str, Reply]:
    """The name of the scenario that a question asks for, and its reply; `greeting` without a keyword."""
    found = _KEYWORD.search(question.prompt)
    if found is None:
        return "greeting", say(_greeting(question.prompt))
    name, argument = found[1], found[2] or ""
    scenario = SCENARIOS.get(name)
    if scenario is None:
        return "greeting", say(f"I know no demo:{name}.\n\n{keywords()}")
    try:
        return name, scenario.play(question, argument)
    except InvalidArgumentError as problem:
        return name, say(f"demo:{name}: {problem}\n\n{keywords()}")


def keywords() -> str:
    """A text that lists the scenarios, for people."""
    rows = [
        (f"demo:{name}" + (f"[={scenario.argument}]" if scenario.argument else ""), scenario.help)
        for name, scenario in SCENARIOS.items()
    ]
    width = max(len(keyword) for keyword, _ in rows)
    limits = f"Numbers go up to {MAX_COUNT}, sizes to {MAX_SIZE_BYTES // 2**20}MiB, times to {MAX_SECONDS:.0f}s."
    return "\n".join([*(f"  {keyword:<{width}}  {text}" for keyword, text in rows), limits])


def _greeting(prompt: str) -> str:
    shown = prompt if len(prompt) <= _ECHO_CHARACTERS else prompt[:_ECHO_CHARACTERS] + " ..."
    return (
        "This is the demo model of Pocket Agent Server: a script, not an AI. You wrote:\n\n"
        f"{shown}\n\n"
        f"Write one of these words in a prompt to see something happen:\n\n```\n{keywords()}\n```"
    )


def _bash(command: str, description: str) -> Message:
    return Message((ToolUse("Bash", {"command": command, "description": description}),))


def _in_turn(question: Question, *uses: ToolUse, then: str) -> Reply:
    """The next tool of `uses`; at the end, or once one failed or was refused, a closing text."""
    failed = any(result.is_error for result in question.results)
    if question.step < len(uses) and not failed:
        return Message((Text(f"Step {question.step + 1} of {len(uses)}."), uses[question.step]))
    return say(outcome(question.results, then))


_TODO_DONE: Final = "The todo list is done."
_TODO_TASKS: Final = (("Look around", "Looking around"), ("Do the work", "Doing the work"))
_TODO_STEPS: Final = tuple(
    ToolUse(
        "TodoWrite",
        {
            "todos": [
                {
                    "content": content,
                    "activeForm": active,
                    "status": "completed" if place < done else "in_progress" if place == done else "pending",
                }
                for place, (content, active) in enumerate(_TODO_TASKS)
            ]
        },
    )
    for done in range(len(_TODO_TASKS) + 1)
)

_QUESTIONS: Final = (
    {
        "question": "Where should the orders be kept?",
        "header": "Storage",
        "multiSelect": False,
        "options": [
            {"label": "SQLite", "description": "One file beside the program, nothing to run"},
            {"label": "PostgreSQL", "description": "A server, for many writers at once"},
        ],
    },
    {
        "question": "Which reports are wanted?",
        "header": "Reports",
        "multiSelect": True,
        "options": [
            {"label": "Daily", "description": "What was sold, every evening"},
            {"label": "Monthly", "description": "With taxes"},
        ],
    },
)
