"""pocket_agent.cli.chat: how a conversation is shown. No server, no terminal."""

import io
import json
import math
import re
import sys
import unicodedata
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pocket_agent.cli.chat.actions import Actions, find, summary
from pocket_agent.cli.chat.screen import Screen, Script
from pocket_agent.cli.chat.transcript import (
    SPACES,
    UNSEEN,
    Transcript,
    one_line,
    plain,
    result_line,
    tool_call,
    tool_request,
    tool_result,
)
from pocket_agent.client import Client
from pocket_agent.model import HoldReason, ProjectState
from pocket_agent.protocol.push import ProjectStateData, QueueHoldData
from pocket_agent.protocol.requests import ExecuteData
from tests.harness.tool import ROOT

ANY_TEXT = st.text(alphabet=st.characters())


class Shown:
    """A screen of a given width, and what is on it."""

    def __init__(self, width: int = 80) -> None:
        self._out = io.StringIO()
        self.screen = Screen(Console(file=self._out, width=width, force_terminal=False))

    @property
    def text(self) -> str:
        return self._out.getvalue()

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.strip()]


def delta(text: str, kind: str = "text") -> dict[str, Any]:
    return event("content_block_delta", delta={"type": f"{kind}_delta", kind: text})


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "stream_event", "parent_tool_use_id": None, "event": {"type": kind, **more}}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": list(blocks)}}


def joined(**more: Any) -> dict[str, Any]:
    return {"state": "IDLE", "approvals": [], "queue": [], **more}


def approval(approval_id: str = "a1", **given: Any) -> dict[str, Any]:
    return {"approval_id": approval_id, "tool_name": "Bash", "input": {"command": "date"}, "title": None, **given}


def test_sessions_that_a_terminal_opens_and_closes_are_reported_once() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    session = {"session_id": "s1", "title": "at the desk", "active": True}
    for active in (True, True, False):
        transcript.frame(
            "sessions_changed", {"project_id": "p", "sessions": [{**session, "active": active}], "gone": []}
        )
    assert shown.lines == [
        "a terminal has opened the session “at the desk” (s1)",
        "a terminal has closed the session “at the desk” (s1)",
    ]


def test_turns_of_a_terminal_are_shown_as_such() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("prompt", {"execution_id": "e1", "prompt": "one", "by": "phone"})
    transcript.frame("terminal_turns", {"session_id": "s1"})
    typed = {"execution_id": "u", "prompt": "two", "by": "terminal", "typed_at": "2026-01-01T00:00:00Z"}
    transcript.frame("prompt", typed)
    transcript.frame("agent_message", {**assistant({"type": "text", "text": "answer"}), "entrypoint": "cli"})
    transcript.frame("terminal_turns", {"session_id": "s1", "lost": True})
    assert shown.lines[1:4] == ["── in a terminal ──", "> two  (terminal)", "answer"]
    assert "may be missing" in shown.lines[4]
    assert transcript.last_execution == "e1"


@given(ANY_TEXT)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    safe = plain(text)
    for character in safe:
        code = ord(character)
        assert character in "\n\t" or code >= 0x20
        assert not 0x7F <= code <= 0x9F
        assert not 0x202A <= code <= 0x202E
        assert not 0x2066 <= code <= 0x2069
    safe.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï😀", "plain, ünï😀"),
        ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x9b31m\x7f", "<U+009B>31m␡"),
        ("safe\u202eevil", "safe<U+202E>evil"),
        ("\ud800", "\ufffd"),
        ("a\u2028b", "a\nb"),
        ("\U000e0041", "<U+E0041>"),
        ("x\u200b\u3164\u2800\u00ad", "x<U+200B><U+3164><U+2800><U+00AD>"),
        ("👩‍💻 ❤️ می‌خواهم", "👩‍💻 ❤️ می‌خواهم"),
    ],
)
def test_what_replaces_them(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_the_web_client_marks_the_same_characters() -> None:
    source = (ROOT / "webui" / "src" / "text" / "visible.ts").read_text("utf-8")
    for name, own in (("UNSEEN", UNSEEN), ("SPACES", SPACES)):
        declared = source.partition(f"const {name} =")[2].partition(";")[0]
        ranges = "".join(re.findall(r'"([^"]+)"', declared))
        theirs = re.compile("[" + re.sub(r"\\\\u\{(\w+)\}", lambda found: f"\\U{int(found[1], 16):08x}", ranges) + "]")
        ours = re.compile(f"[{own}]")
        every = [chr(code) for code in range(sys.maxunicode + 1)]
        assert [one for one in every if ours.match(one)] == [one for one in every if theirs.match(one)]


def test_every_format_character_and_look_alike_space_is_marked_where_a_user_decides() -> None:
    fillers = "\u115f\u1160\u3164\uffa0\u2800"
    selectors = [chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0000, 0xE0200))]
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    spaces = [one for one in every if unicodedata.category(one) == "Zs" and one != " "]
    formats = [one for one in every if unicodedata.category(one) == "Cf"]
    assert len(spaces) > 10
    assert len(formats) > 100
    for one in (*spaces, *formats, *fillers, *selectors):
        mark = f"<U+{ord(one):04X}>"
        assert (plain(f"a{one}b"), one_line(f"a{one}b", 20)) == (f"a{mark}b", f"a{mark}b")
        assert plain(f"a{one}b", prose=True) == (f"a{one}b" if one in spaces else f"a{mark}b")
    assert plain("クロード　です") == "クロード　です", "the wide space of Japanese text"


def test_one_line() -> None:
    assert one_line(" a\n\tb ", 10) == "a b"
    assert one_line("abcdef", 4) == "abc…"


def test_streamed_text_is_shown_once() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("agent_message", event("content_block_start"))
    for part in ("Hel", "lo\nwor", "ld"):
        transcript.frame("agent_message", delta(part))
    assert shown.text == "Hello\n"
    assert shown.screen.tail == "world"
    transcript.frame("agent_message", assistant({"type": "text", "text": "Hello\nworld"}))
    transcript.frame("agent_message", event("content_block_stop"))
    assert shown.text == "Hello\nworld\n"
    assert shown.screen.tail == ""


def test_text_whose_beginning_was_streamed_is_completed() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("agent_message", delta("One "))
    transcript.frame("agent_message", assistant({"type": "text", "text": "One two"}))
    assert shown.text == "One two\n"


def test_text_that_was_not_streamed_is_shown_whole() -> None:
    shown = Shown()
    Transcript(shown.screen).frame("agent_message", assistant({"type": "text", "text": "All of it"}))
    assert shown.text == "All of it\n"


def test_thinking_and_text_do_not_mix() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("agent_message", delta("hm", "thinking"))
    transcript.frame("agent_message", delta("well"))
    transcript.frame("agent_message", assistant({"type": "text", "text": "well"}))
    assert shown.lines == ["hm", "well"]


@given(st.lists(ANY_TEXT, max_size=8), st.integers(min_value=2, max_value=30))
def test_however_it_is_streamed_every_character_is_shown_in_order(parts: list[str], width: int) -> None:
    shown = Shown(width)
    transcript = Transcript(shown.screen)
    for part in parts:
        transcript.frame("agent_message", delta(part))
    transcript.frame("agent_message", assistant({"type": "text", "text": "".join(parts)}))

    def letters(text: str) -> str:
        return "".join(text.split()).replace("\u240d", "")  # a CR LF may come in two parts

    assert letters(shown.text) == letters(plain("".join(parts), prose=True))


def test_a_join_goes_on_with_what_is_being_written() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("agent_message", delta("The first"))
    transcript.joined(joined(state="EXECUTING", partial={"text": "The first and", "thinking": ""}), behind=False)
    assert transcript.executing
    transcript.frame("agent_message", delta(" the last"))
    transcript.frame("agent_message", assistant({"type": "text", "text": "The first and the last"}))
    assert shown.text == "The first and the last\n"


def test_a_join_with_entries_to_catch_up_shows_the_message_only_when_it_is_whole() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.joined(joined(partial={"text": "new beg", "thinking": ""}), behind=True)
    transcript.frame("agent_message", assistant({"type": "text", "text": "old"}))
    transcript.frame("agent_message", delta("inning"))
    transcript.frame("agent_message", assistant({"type": "text", "text": "new beginning"}))
    transcript.frame("agent_message", event("content_block_start"))
    transcript.frame("agent_message", delta("next"))
    assert shown.lines == ["old", "new beginning"]
    assert shown.screen.tail == "next"


def test_what_helpers_of_the_agent_write_is_not_streamed() -> None:
    shown = Shown()
    Transcript(shown.screen).frame("agent_message", delta("x") | {"parent_tool_use_id": "t"})
    assert shown.text + shown.screen.tail == ""


def test_an_approval_is_shown_in_full_and_remembered_until_it_is_answered() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen, hint="y or n")
    command = "echo " + "x" * 500 + "\nrm -rf \x1b[2Kbuild"
    transcript.frame("approval_requested", approval(input={"command": command, "timeout": 5}))
    assert list(transcript.approvals) == ["a1"]
    assert "x" * 500 in shown.text
    assert "rm -rf ␛[2Kbuild" in shown.text
    assert '"timeout": 5' in shown.text
    assert "y or n" in shown.text
    transcript.frame("approval_requested", approval())
    assert shown.text.count("asks to use") == 1
    transcript.frame("approval_resolved", {"approval_id": "a1", "behavior": "deny", "by": "phone", "message": "no"})
    assert not transcript.approvals
    assert "denied by phone: no" in shown.text


def test_a_request_says_who_asks_and_what_always_allows() -> None:
    rule = {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "touch {x}"}], "behavior": "allow"}
    mode = {"type": "setMode", "mode": "acceptEdits"}
    for suggestions, words in (([rule], "Bash: touch {x}"), ([mode], "all edits of files"), ([], "nothing more")):
        shown = Shown()
        transcript = Transcript(shown.screen, hint="a: allow for this session: {always}")
        transcript.frame("approval_requested", approval(suggestions=suggestions, agent_id="t-1"))
        assert "A subagent asks" in shown.text
        assert f"allow for this session: {words}" in shown.text


def test_a_change_of_the_mode_and_of_what_runs_in_the_background_is_said() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    idle: dict[str, object] = {"state": "IDLE", "permission_mode": None, "tasks": []}
    transcript.frame("project_state", idle)
    assert shown.text == ""
    task = {"task_id": "t-1", "type": "local_agent", "description": "Look around"}
    transcript.frame("project_state", idle | {"permission_mode": "acceptEdits", "tasks": [task]})
    assert "permission mode: acceptEdits" in shown.text
    assert "in the background: Look around (subagent)" in shown.text
    transcript.frame("project_state", idle | {"permission_mode": "acceptEdits"})
    assert "nothing runs in the background any more" in shown.text


def test_a_join_tells_what_waits_and_forgets_what_does_not() -> None:
    shown = Shown()
    transcript = Transcript(shown.screen)
    transcript.frame("approval_requested", approval("gone"))
    transcript.joined(joined(approvals=[approval("new")], queue=[{"position": 1}]), behind=True)
    assert list(transcript.approvals) == ["new"]
    assert transcript.queue == [{"position": 1}]
    transcript.frame("approval_cancelled", {"approval_id": "new", "reason": "the execution ended"})
    assert not transcript.approvals
    assert "the execution ended" in shown.text


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("prompt", {"prompt": "do\nthis", "by": "phone"}, ["> do  (phone)", "  this"]),
        ("process_killed", {}, ["The execution was killed."]),
        ("session_reset", {}, ["── a new session begins ──"]),
        (
            "session_resumed",
            {"session_id": "s", "fork": True, "title": "first\nwords"},
            ["── a copy of the session “first words” goes on ──"],
        ),
        ("agent_partial", {"text": "half", "thinking": ""}, ["half", "The agent was stopped while it wrote this."]),
        ("error", {"code": "EXECUTION_FAILED", "message": "it broke"}, ["EXECUTION_FAILED: it broke"]),
        ("project_deleted", {"project_id": "p"}, ["The project was deleted."]),
        ("conversation_deleted", {"project_id": "p"}, ["The conversation was deleted."]),
        ("something_new", {"x": 1}, []),
        ("agent_message", {"type": "something_new"}, []),
        ("agent_message", {"type": "user", "message": {"content": "typed"}}, []),
        (
            "agent_message",
            {"type": "user", "message": {"content": [{"type": "tool_result", "content": "done"}]}},
            ["  ⎿ done"],
        ),
        (
            "agent_message",
            {"type": "system", "subtype": "api_retry", "retry_delay_ms": 617, "error_status": 529},
            ["the model does not answer (529); again in 0.6 s"],
        ),
        ("agent_message", {"type": "result", "is_error": True, "errors": ["e1"]}, ["✗ e1", "✗ "]),
        ("agent_message", assistant({"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}), ["● Bash ls"]),
        ("agent_message", {"type": "assistant", "message": None}, []),
    ],
)
def test_every_kind_of_frame(kind: str, data: dict[str, Any], words: list[str]) -> None:
    shown = Shown()
    Transcript(shown.screen).frame(kind, data)
    assert shown.lines == words


def test_states_and_queues_are_remembered() -> None:
    transcript = Transcript(Shown().screen)
    seen = []
    for state in ("EXECUTING", "ERROR", "EXECUTING", "IDLE"):
        transcript.frame("project_state", {"state": state})
        seen.append(transcript.executing)
    assert seen == [True, False, True, False]
    transcript.frame("queue_state", {"queue": [{"position": 1}]})
    assert transcript.queue == [{"position": 1}]


def test_the_line_of_a_result() -> None:
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 234, "output_tokens": 5}
    data = {"duration_ms": 1234, "usage": usage, "total_cost_usd": 0.01234}
    assert result_line(data) == "✓ 1.2 s · 1,234 tokens in, 5 out · $0.0123 so far"
    assert result_line({"is_error": True}) == "✗ "


def text_of(lines: list[Any]) -> str:
    return "\n".join(line.plain for line in lines)


def test_an_edit_is_shown_as_a_diff() -> None:
    given = {"file_path": "/p/a.py", "old_string": "one\ntwo\n", "new_string": "one\n2\n"}
    assert text_of(tool_call("Edit", given)) == "● Edit /p/a.py\n   one\n  -two\n  +2"
    assert text_of(tool_request("Edit", given)) == "  /p/a.py\n   one\n  -two\n  +2"


def test_a_long_change_is_bounded_in_a_card_and_whole_in_a_request() -> None:
    given = {"file_path": "/p/a.txt", "content": "\n".join(f"line {number}" for number in range(100))}
    assert "84 more lines" in text_of(tool_call("Write", given))
    assert "line 99" in text_of(tool_request("Write", given))


def test_other_tools_are_shown_as_json() -> None:
    assert text_of(tool_call("Mine", {"a": [1]})) == '● Mine {"a": [1]}'
    assert json.loads(text_of(tool_request("Mine", {"a": [1]}))) == {"a": [1]}
    assert text_of(
        tool_request("MultiEdit", {"file_path": "/f", "edits": [{"old_string": "a", "new_string": "b"}]})
    ) == ("  /f\n  -a\n  +b")


def test_results_are_bounded() -> None:
    assert "88 more lines" in text_of(tool_result("\n".join("x" * 3 for _ in range(100)), is_error=False))
    assert "more characters" in text_of(tool_result("y" * 5000, is_error=True))
    assert (
        text_of(tool_result([{"type": "text", "text": "a"}, {"type": "image"}], is_error=False)) == "  ⎿ a\n    [image]"
    )
    assert text_of(tool_result(None, is_error=False)) == "  ⎿ (nothing)"


def test_a_script_gets_the_answer_alone() -> None:
    out, notes = io.StringIO(), io.StringIO()
    transcript = Transcript(Script(out, Console(file=notes, width=80)))
    transcript.frame("prompt", {"prompt": "hi", "by": "me"})
    transcript.frame("agent_message", delta("hm", "thinking"))
    transcript.frame("agent_message", assistant({"type": "thinking", "thinking": "hm"}))
    transcript.frame("agent_message", delta("Hel"))
    transcript.frame("agent_message", assistant({"type": "text", "text": "Hello"}))
    transcript.frame("agent_message", assistant({"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}))
    assert out.getvalue() == "Hello\n"
    assert "● Bash ls" in notes.getvalue()


def project(name: str, path: str) -> ProjectStateData:
    return ProjectStateData(f"id-{name}", path, name, ProjectState.IDLE, None, "t", "t", "e", 0, 0, 0, None, None)


def test_a_project_is_found_by_path_id_or_a_name_that_only_it_has(tmp_path: Any) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    projects = [project("one", str(folder)), project("two", "/x/two"), project("two", "/y/two")]
    assert find(projects, str(tmp_path / "link")) is projects[0]
    assert find(projects, "one") is projects[0]
    assert find(projects, "id-one") is projects[0]
    assert find(projects, "two") is None
    assert find(projects, "/x/two/") is projects[1]


def test_a_queue_on_hold_is_told_once_with_what_ends_it() -> None:
    shown = Shown(width=200)
    transcript = Transcript(shown.screen)
    held = {"reason": "usage_limit", "message": "The account's usage limit is reached.", "since": "t"}
    for hold in (None, held, held, None):
        transcript.frame("project_state", {"state": "IDLE", "queue_hold": hold})
        assert transcript.hold == (held["message"] if hold else "")
    assert shown.text.count("usage limit is reached. (/continue)") == 1
    transcript.frame(
        "project_state", {"state": "IDLE", "queue_hold": {"reason": "trust", "message": "New.", "since": "t"}}
    )
    assert "New. (/trust)" in shown.text


def test_a_paused_execution_is_shown_once_with_the_ways_out() -> None:
    shown = Shown(200)
    transcript = Transcript(shown.screen)
    message = "The account's usage limit is reached. It goes on at 15:00."
    state = {"state": "IDLE", "queue_hold": {"reason": "usage_limit", "message": message}}
    info = {"status": "rejected", "rateLimitType": "five_hour", "utilization": 1}
    for _ in range(2):
        transcript.frame("agent_message", {"type": "rate_limit_event", "rate_limit_info": info})
    transcript.frame(
        "execution_paused", {"execution_id": "e", "reason": "usage_limit", "message": message, "until": None}
    )
    transcript.frame("project_state", state)
    assert shown.lines == ["usage limit of five hour: reached", f"paused: {message} (/continue, or /cancel 1)"]
    assert (transcript.hold, transcript.way_out) == (message, "/continue")
    transcript.frame("prompt", {"execution_id": "e", "prompt": "A short one.", "continues": "usage_limit"})
    assert shown.lines[-1] == "── the paused prompt continues ──"


@pytest.mark.parametrize(
    ("state", "pending", "held", "word"),
    [
        (ProjectState.IDLE, 0, False, "IDLE"),
        (ProjectState.IDLE, 0, True, "on hold"),
        (ProjectState.EXECUTING, 0, True, "EXECUTING"),
        (ProjectState.EXECUTING, 1, True, "waits for approval"),
    ],
)
def test_a_list_says_what_a_conversation_waits_for(state: ProjectState, pending: int, held: bool, word: str) -> None:
    hold = QueueHoldData(HoldReason.LOST, "Why.", "t", None) if held else None
    one = msgspec.structs.replace(project("one", "/x"), state=state, pending_approvals=pending, queue_hold=hold)
    assert summary(one) == f"main conversation  {word}"


class Answers:
    """A client that records what it was asked for."""

    online = True

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def approve(self, _: str, approval_id: str, **__: object) -> None:
        self.asked.append(("approve", approval_id))

    async def deny(self, _: str, approval_id: str, reason: str | None, **__: object) -> None:
        self.asked.append(("deny", approval_id, reason))

    async def execute(self, _: str, prompt: str, **__: object) -> ExecuteData:
        self.asked.append(("execute", prompt))
        return ExecuteData("p", "e", "started", 0)


async def test_an_answer_to_a_request_that_has_just_ended_is_no_other_answer_and_no_prompt() -> None:
    shown, client = Shown(200), Answers()
    transcript = Transcript(shown.screen)
    actions = Actions(cast(Client, client), "p", transcript, cast(Any, None))
    for name in ("a1", "a2", "a3"):
        transcript.frame("approval_requested", approval(name))
    await actions.carry_out("y")
    transcript.frame("approval_resolved", {"approval_id": "a1", "behavior": "allow", "by": "chat"})
    await actions.carry_out("y")  # the user has seen the own answer
    transcript.frame("approval_resolved", {"approval_id": "a2", "behavior": "allow", "by": "chat"})
    assert client.asked == [("approve", "a1"), ("approve", "a2")]
    transcript.frame("approval_cancelled", {"approval_id": "a1", "reason": "unknown here"})
    transcript.frame("approval_requested", approval("a4"))
    transcript.frame("approval_resolved", {"approval_id": "a3", "behavior": "deny", "by": "phone"})
    await actions.carry_out("y")  # was meant for a3
    transcript.frame("approval_cancelled", {"approval_id": "a4", "reason": "answered in the terminal"})
    await actions.carry_out("n not today")
    await actions.carry_out("a")
    assert len(client.asked) == 2
    assert shown.text.count("nothing was sent") == 3
    transcript.ended = ("a4", -math.inf)
    await actions.carry_out("y")  # the agent has asked in words
    assert client.asked[2:] == [("execute", "y")]


async def test_a_value_for_a_question_that_has_ended_is_no_prompt() -> None:
    shown, client = Shown(200), Answers()
    transcript = Transcript(shown.screen)
    actions = Actions(cast(Client, client), "p", transcript, cast(Any, None))
    form = {"properties": {"port": {"type": "integer"}}, "required": ["port"]}
    asked = {"mcp_server_name": "m", "message": "Which?", "requested_schema": form}
    transcript.frame("approval_requested", {"approval_id": "q", "tool_name": "Elicitation", "input": asked})
    await actions.carry_out("y")
    assert shown.lines[-1].startswith("port")
    transcript.frame("approval_cancelled", {"approval_id": "q", "reason": "answered by phone"})
    assert actions.form is None
    await actions.carry_out("8080")
    assert client.asked == []
    assert shown.lines[-1].startswith("The question has ended")
    await actions.carry_out("go on")
    assert client.asked == [("execute", "go on")]
