"""Scenarios of the scripted model: what each `demo:` keyword of a prompt makes it answer."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from pocket_agent.demo.model_request import Question, ToolResult

DELTA_CHARACTERS: Final = 24
"""Characters in one delta by default; a real model sends a few words."""


@dataclass(frozen=True)
class Text:
    """A text block, sent in deltas of `delta_characters` code points, each after a pause of `delta_seconds`."""

    text: str
    delta_characters: int = DELTA_CHARACTERS
    delta_seconds: float = 0.0


@dataclass(frozen=True)
class Thinking:
    """A thinking block."""

    text: str


@dataclass(frozen=True)
class ToolUse:
    """A request to use one of the CLI's tools; `input` is a JSON object."""

    name: str
    input: Mapping[str, object]


Block = Text | Thinking | ToolUse


@dataclass(frozen=True)
class Message:
    """An answer: the blocks of one assistant message, in order."""

    blocks: tuple[Block, ...]

    @property
    def stop_reason(self) -> str:
        """`tool_use` when the CLI must run a tool before the model continues, else `end_turn`."""
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.blocks) else "end_turn"


@dataclass(frozen=True)
class Failure:
    """An error of the API; `type` is one of https://docs.anthropic.com/en/api/errors."""

    status: int
    type: str
    message: str


@dataclass(frozen=True)
class Clearing:
    """A failure of the first `times` requests of a prompt, and the message that follows it."""

    failure: Failure
    times: int
    then: Message


@dataclass(frozen=True)
class Limit:
    """A usage limit of the account that is reached with this prompt, its reset, and the message after that."""

    seconds: float
    then: Message


Reply = Message | Failure | Clearing | Limit


def say(text: str) -> Message:
    """An answer of one plain text block."""
    return Message((Text(text),))


MARKDOWN_TEXT: Final = """\
## What I found

The total is computed **twice**: once in `Cart.total()` and again in the template. They disagree when a
coupon is used, because only the first one rounds.

1. Round in one place, at the end.
2. Let the template ask for the total:
   - no arithmetic in templates,
   - one test for each coupon.

```python
from decimal import ROUND_HALF_EVEN, Decimal


def total(self) -> Decimal:
    \"\"\"What the customer pays, rounded once.\"\"\"
    exact = sum((line.price * line.count for line in self.lines), Decimal())
    return (exact - self.discount(exact)).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
```

| coupon | before | after |
|---|---:|---:|
| none | 19.99 | 19.99 |
| 10 % | 17.99 | 17.99 |
| 3 for 2 | 13.33 | 13.32 |

- [x] find the difference
- [x] change `total`
- [ ] ask about orders that are paid already

> A cent is a cent. See [the decimal module](https://docs.python.org/3/library/decimal.html).

```sh
pytest tests/test_cart.py -k coupon
```
"""
"""The kinds of Markdown that agents usually write."""

_RUN: Final = "window.hacked=1"

HOSTILE_MARKUP: Final = (
    f"<script>{_RUN}</script>",
    f'<img src=x onerror="{_RUN}">',
    f"<svg onload={_RUN}><script>{_RUN}</script><a xlink:href='javascript:{_RUN}'><text>x</text></a></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={_RUN}&gt;'>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<object data='data:text/html,<script>{_RUN}</script>'></object><embed src='javascript:{_RUN}'>",
    f"<form action='javascript:{_RUN}'><button id=app name=body>Allow</button><input autofocus onfocus={_RUN}></form>",
    f"<details open ontoggle={_RUN}><summary>x</summary></details>",
    f"<video><source onerror={_RUN}></video><audio src=x onerror={_RUN}></audio><body onload={_RUN}>",
    "<style>* { display: none !important }</style><link rel=stylesheet href=https://evil.example/x.css>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example/'>",
    f"<a href='javascript:{_RUN}'>one</a> <a href=' java\tscript:{_RUN}'>two</a> <a href='vbscript:{_RUN}'>three</a>",
    f"[four](javascript:{_RUN}) [five](&#x6A;avascript:{_RUN}) [six](data:text/html,<script>{_RUN}</script>)",
    f"<javascript:{_RUN}> [seven]: javascript:{_RUN}\n\n[seven]",
    f"![pixel](https://evil.example/pixel.png) ![x](x\"onerror=\"{_RUN}) <img src='https://evil.example/pixel.png'>",
    f'[eight](https://evil.example/ "&quot; onmouseover={_RUN}")',
    "<button class='button primary allow' onclick='x'>Allow</button>",
    "<div class='dock sheet' style='position:fixed'>x</div>",
    "<a href='/settings' data-route id=root name=forms>nine</a> <p aria-live=assertive data-offset=1>ten</p>",
    f'```js"><img src=x onerror={_RUN}>\n<script>{_RUN}</script>\n```',
    f"| <img src=x onerror={_RUN}> |\n|---|\n| <script>{_RUN}</script> |",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'></noscript>",
    f"<template><script>{_RUN}</script></template>",
)
"""Markup that would run a script, load a foreign resource, or imitate a part of the page."""

HOSTILE_TEXT: Final = "\n\n".join(HOSTILE_MARKUP) + "\n\nThis is the end of it."


AWKWARD_CHARACTERS: Final = {
    "NUL": "a\x00b",
    "bell, backspace, delete": "\x07\x08\x7f",
    "ANSI colour and title": "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "carriage returns": "one\rtwo\r\nthree",
    "tabs and trailing blanks": "\ttab\t  \n",
    "quotes": "\"double\" 'single' `back` \u201ccurly\u201d \xabguillemets\xbb",
    "backslashes": "\\ \\\\ \\n \\u0041 C:\\temp",
    "line and paragraph separators": "U+2028:\u2028 U+2029:\u2029 NEL:\x85",
    "byte order mark, zero width": "\ufeff\u200b\u200c\u200d\u2060",
    "right to left": (
        "\u200f\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd "
        "\u0645\u0631\u062d\u0628\u0627 \u202eoverride\u202c end"
    ),
    "combining": "e\u0301 n\u0303 Z\u0351\u036b\u0343",
    "emoji, joiners, flags": (
        "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
        "\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f"
    ),
    "four bytes": "\U0001d54f \U0002070e \U0010fffd",
    "not characters": "\ufffe\uffff\ufffd",
    "half of a surrogate pair": "a\ud83db",
    "HTML": "<script>alert('x')</script> <img src=x onerror=alert(1)> &amp; &lt;",
    "JSON and SSE look-alikes": '{"type":"result"}\n\ndata: {"type":"error"}\nevent: message_stop',
    "Markdown": "```\nfence\n``` **bold** [link](javascript:alert(1)) | table |",
    "templates and shells": "{{ x }} ${HOME} $(true) %s %n {0}",
    "a very long word": "W" * 5000,
}
"""Awkward characters by name."""

AWKWARD_TEXT: Final = "\n".join(f"{name}: {text}" for name, text in AWKWARD_CHARACTERS.items())


MAX_COUNT: Final = 100_000
MAX_SECONDS: Final = 3600.0
MAX_SIZE_BYTES: Final = 64 * 2**20

_UNITS_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_UNITS_BYTES: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20}
_QUANTITY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([a-z]{0,3})")
_QUOTE_CHARACTERS: Final = 400
_FILLER: Final = (
    "the demo model writes one word after another so that you can watch them arrive on every screen at once"
)


class InvalidArgumentError(ValueError):
    """The value after a keyword is not valid; the message has the reason."""


def first_word(argument: str) -> str:
    """The argument of a keyword that takes one word; the rest of the line is ignored."""
    return argument.split(maxsplit=1)[0].rstrip(".,;:!?)\"'`") if argument.strip() else ""


def count(argument: str, default: int) -> int:
    """A whole number from 1 to `MAX_COUNT`; raises InvalidArgumentError for other text."""
    word = first_word(argument)
    if not word:
        return default
    if re.fullmatch(r"[0-9]{1,9}", word) is None or not 1 <= int(word) <= MAX_COUNT:
        raise InvalidArgumentError(f"{word[:40]!r} is not a number from 1 to {MAX_COUNT}.")
    return int(word)


def duration_seconds(argument: str, default: float) -> float:
    """A time such as `3s`, `250ms` or `2m`, at most `MAX_SECONDS`; raises InvalidArgumentError for other text."""
    word = first_word(argument)
    if not word:
        return default
    seconds = _quantity(word, _UNITS_SECONDS, "a time such as 3s, 250ms or 2m")
    if seconds > MAX_SECONDS:
        raise InvalidArgumentError(f"{word[:40]!r} is longer than {MAX_SECONDS:.0f}s.")
    return seconds


def size_bytes(argument: str, default: int) -> int:
    """A size such as `1MiB` or `1000`, from 1 to `MAX_SIZE_BYTES`; raises InvalidArgumentError for other text."""
    word = first_word(argument)
    if not word:
        return default
    size = int(_quantity(word, _UNITS_BYTES, "a size such as 1MiB, 64KiB or 1000"))
    if not 1 <= size <= MAX_SIZE_BYTES:
        raise InvalidArgumentError(f"{word[:40]!r} is not between 1 byte and {MAX_SIZE_BYTES // 2**20}MiB.")
    return size


def words(total: int) -> str:
    """A text of exactly `total` words."""
    return " ".join(islice(cycle(_FILLER.split()), total))


def outcome(results: tuple[ToolResult, ...], success: str) -> str:
    """The closing text after tools ran: their results, or that one failed or was refused."""
    for result in results:
        if result.is_error:
            return f"The tool was refused or failed, so I stop here: {_quote(result.text)}"
    shown = [_quote(result.text) for result in results if result.text]
    return "\n".join([success, *shown])


def _quote(text: str, limit: int = _QUOTE_CHARACTERS) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def _quantity(word: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    found = _QUANTITY.fullmatch(word.lower())
    factor = None if found is None else units.get(found[2])
    if found is None or factor is None:
        raise InvalidArgumentError(f"{word[:40]!r} is not {expected}.")
    return float(found[1]) * factor


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
    use = _bash(argument.strip() or _DEFAULT_COMMAND, "Run the command of the prompt")
    return _at_once(question, use, then=outcome(question.results, "The command ran."))


def edit(question: Question, argument: str) -> Reply:
    """A new file, read back and changed: Write, Read, Edit."""
    if question.directory is None:
        return say("I do not know the working directory, so I cannot name a file in it.")
    # A different name for each prompt: the CLI refuses to overwrite a file that it has not read.
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
        _bash("pwd", "Show the working directory"),
        _bash("date > demo-tools.txt", "Write the time to a file"),
        _bash("cat demo-tools.txt", "Read the file"),
        then="I used three tools in a row.",
    )


def loop(question: Question, argument: str) -> Reply:
    """Many harmless commands, one after the other, which need no approval."""
    total = count(argument, 5)
    if question.step < total and not any(result.is_error for result in question.results):
        return Message((_bash(f"echo step {question.step + 1} of {total}", "Count"),))
    return say(outcome(question.results, f"I ran {total} commands in a row."))


def again(question: Question, argument: str) -> Reply:
    """The same harmless command again and again, as an agent that goes round in circles.

    Each step takes a moment, as with a real model: without it the CLI would use a whole core.
    """
    total = count(argument, 30)
    if question.step < total and not any(result.is_error for result in question.results):
        return Message((Text("Again.", delta_seconds=0.25), _bash("echo 'Once more'", "Try again")))
    return say(outcome(question.results, f"I ran the same command {total} times."))


def stall(_question: Question, argument: str) -> Reply:
    """A text before which the model is silent, as if it were stalled."""
    seconds = duration_seconds(argument, 10.0)
    return Message((Text("I was silent.", delta_seconds=seconds),))


def parallel(question: Question, argument: str) -> Reply:
    """Several commands in one message, each of which needs an approval."""
    total = count(argument, 3)
    calls = (f"echo {number} > demo-parallel-{number}.txt" for number in range(1, total + 1))
    uses = (_bash(call, "Write a number to a file") for call in calls)
    return _at_once(question, *uses, then=outcome(question.results, f"I ran {total} commands at once."))


def todo(question: Question, _argument: str) -> Reply:
    """A todo list that is created, worked on and finished."""
    if not question.tools & {"TodoWrite", "ToolSearch"}:
        return say("This CLI offers no todo list.")
    # 2.1.330 withholds the schema of some tools until the model searches for them.
    load = ToolUse("ToolSearch", {"query": "select:TodoWrite", "max_results": 1})
    return _in_turn(question, load, *_TODO_STEPS, then=_TODO_DONE)


def ask(question: Question, _argument: str) -> Reply:
    """A question to the user, with answers to choose from."""
    load = ToolUse("ToolSearch", {"query": "select:AskUserQuestion", "max_results": 1})
    asking = ToolUse("AskUserQuestion", {"questions": _QUESTIONS})
    return _in_turn(question, *([] if "AskUserQuestion" in question.tools else [load]), asking, then="So be it.")


def use(question: Question, argument: str) -> Reply:
    """Any one tool, by its name, such as mcp__SERVER__TOOL, and its input as JSON."""
    name, _, given = argument.strip().partition(" ")
    try:
        input_ = json.loads(given or "{}")
    except ValueError as error:
        raise InvalidArgumentError(f"The input is not JSON: {error}.") from error
    if not name or not isinstance(input_, dict):
        raise InvalidArgumentError("The name of a tool and a JSON object are needed.")
    load = (
        [ToolUse("ToolSearch", {"query": f"select:{name}", "max_results": 1})] if "ToolSearch" in question.tools else []
    )
    return _in_turn(question, *load, ToolUse(name, input_), then="So be it.")


def agent(question: Question, argument: str) -> Reply:
    """A subagent, which continues after this answer; its own prompt is the rest of the line."""
    call = {
        "description": "Demo subagent",
        "prompt": argument.strip() or "demo:bash",
        "subagent_type": "general-purpose",
    }
    return _at_once(question, ToolUse("Agent", call), then="I started a subagent.")


def background(question: Question, argument: str) -> Reply:
    """A shell command that runs in the background, after this answer too."""
    command = argument.strip() or _DEFAULT_BACKGROUND
    call = {"command": command, "description": "Run in the background", "run_in_background": True}
    return _at_once(question, ToolUse("Bash", call), then=outcome(question.results, "The command was started."))


def wake(question: Question, argument: str) -> Reply:
    """A background command that ends at once; the turn that the CLI then begins answers the rest of the line."""
    call = {"command": "sleep 0.1", "description": argument.strip() or "demo:text", "run_in_background": True}
    return _at_once(question, ToolUse("Bash", call), then="A command runs in the background.")


def plan(question: Question, _argument: str) -> Reply:
    """A plan that the user approves (in the permission mode `plan`), then a new file."""
    load = ToolUse("ToolSearch", {"query": "select:ExitPlanMode", "max_results": 1})
    leaving = ToolUse("ExitPlanMode", {"plan": "1. Write a note.", "allowedPrompts": []})
    write = ToolUse("Write", {"file_path": f"{question.directory}/planned-{question.key[:8]}.md", "content": "Done."})
    return _in_turn(question, load, leaving, write, then="The plan is carried out.")


def think(_question: Question, _argument: str) -> Reply:
    """A thinking block, then text."""
    return Message((Thinking("The user wants to see me think. This is a thought."), Text("I thought about it.")))


def error(_question: Question, argument: str) -> Reply:
    """An error of the API that a retry does not fix; `credit` is that of an account without credit."""
    if first_word(argument) == "credit":
        return Failure(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
    return Failure(400, "invalid_request_error", "The demo model was asked to refuse this request.")


def overload(_question: Question, argument: str) -> Reply:
    """An overload that clears after some tries (the CLI, 2.1.330, makes ten more)."""
    # It waits 0.6 s before the second try and about twice as long before each further one; no header shortens that.
    failure = Failure(529, "overloaded_error", "Overloaded")
    tries = count(argument, 1)
    return Clearing(failure, tries, say(f"The overload cleared after {tries} failed tries."))


def limit(_question: Question, argument: str) -> Reply:
    """A usage limit of the account, which refuses every request until its reset."""
    return Limit(duration_seconds(argument, 5.0), say("The usage limit has been reset, and I continued."))


def slow(_question: Question, argument: str) -> Reply:
    """A text whose words arrive slowly; interrupt it, or wait."""
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
    """A text that tries to run a script in a browser."""
    return Message((Text(HOSTILE_TEXT, delta_characters=60),))


@dataclass(frozen=True)
class Scenario:
    """A keyword's function, and the form of its argument."""

    play: Callable[[Question, str], Reply]
    argument: str = ""

    @property
    def help(self) -> str:
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
        "again": Scenario(again, "30"),
        "stall": Scenario(stall, "10s"),
        "parallel": Scenario(parallel, "3"),
        "todo": Scenario(todo),
        "think": Scenario(think),
        "ask": Scenario(ask),
        "use": Scenario(use, "TOOL {JSON} to the end of the line"),
        "agent": Scenario(agent, "PROMPT to the end of the line"),
        "background": Scenario(background, "COMMAND to the end of the line"),
        "wake": Scenario(wake, "PROMPT to the end of the line"),
        "plan": Scenario(plan),
        "error": Scenario(error, "credit"),
        "overload": Scenario(overload, "1"),
        "limit": Scenario(limit, "5s"),
        "slow": Scenario(slow, "3s"),
        "huge": Scenario(huge, "1MiB"),
        "awkward": Scenario(awkward),
        "markdown": Scenario(markdown),
        "hostile": Scenario(hostile),
    }
)
"""Every scenario by its keyword; `argument` is the default value or its description."""


def choose(question: Question) -> tuple[str, Reply]:
    """The name and the reply of the scenario that a question asks for; `greeting` without a keyword."""
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
    """The list of scenarios, as a text."""
    rows = [
        (f"demo:{name}" + (f"[={scenario.argument}]" if scenario.argument else ""), scenario.help)
        for name, scenario in SCENARIOS.items()
    ]
    width = max(len(keyword) for keyword, _ in rows)
    limits = f"Numbers go up to {MAX_COUNT}, sizes to {MAX_SIZE_BYTES // 2**20}MiB, times to {MAX_SECONDS:.0f}s."
    return "\n".join([*(f"  {keyword:<{width}}  {text}" for keyword, text in rows), limits])


def _greeting(prompt: str) -> str:
    return (
        "This is the demo model of Pocket Agent Server: a script, not an AI. You wrote:\n\n"
        f"{_quote(prompt, _ECHO_CHARACTERS)}\n\n"
        f"Write one of these words in a prompt to see something happen:\n\n```\n{keywords()}\n```"
    )


def _bash(command: str, description: str) -> ToolUse:
    return ToolUse("Bash", {"command": command, "description": description})


def _at_once(question: Question, *uses: ToolUse, then: str) -> Reply:
    """All tools in one message; afterwards a closing text."""
    return Message(uses) if question.step == 0 else say(then)


def _in_turn(question: Question, *uses: ToolUse, then: str) -> Reply:
    """The next tool of `uses`; at the end, or after one failed or was refused, a closing text."""
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
            {"label": "SQLite", "description": "One file next to the program, nothing to run"},
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
