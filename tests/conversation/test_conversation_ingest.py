"""Lines of the CLI become one plan: what is said, and what changes with it."""

import json
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pocket_agent.claude.stream import Line, Oversized
from pocket_agent.conversation.conversation_log import ConversationLog, Draft
from pocket_agent.conversation.ingest import TITLE_CHARACTERS, BatchResult, Intake, waited_after, waited_ms
from pocket_agent.conversation.state import Partial, State
from pocket_agent.model import (
    Account,
    Approval,
    ApprovalId,
    ApprovalStatus,
    BackgroundTask,
    ConversationRecord,
    Direction,
    Execution,
    ExecutionStatus,
    HoldReason,
    Milliseconds,
    ProjectState,
    SessionRecord,
    TranscriptMark,
    Work,
    project_of,
)
from pocket_agent.protocol.push import ErrorData
from tests.conversation import sample
from tests.conversation.sample import BEGAN, line

SESSION = "11111111-2222-4333-8444-555555555555"


def log_of(project: ConversationRecord) -> ConversationLog:
    """A log that only knows its project."""
    return cast(ConversationLog, SimpleNamespace(record=project))


def intake(
    *,
    project: ConversationRecord | None = None,
    execution: Execution | None = None,
    approvals: tuple[Approval, ...] = (),
    session: SessionRecord | None = None,
    last: Execution | None = None,
    account: Account | None = None,
    end_status: ExecutionStatus | None = None,
    killed: bool = False,
    partial: Partial | None = None,
    queued: bool = False,
) -> Intake:
    """An intake for a session in some state."""
    state = State(
        log_of(project or sample.project()),
        current=execution,
        approvals={approval.id: approval for approval in approvals},
        session=session,
        last=last,
        account=account or Account(),
        end_status=end_status,
        killed=killed,
        partial=partial or Partial(),
        queue=[sample.execution()] if queued else [],
    )
    return Intake(state, new_approval_id=sample.numbered_ids())


def take(*lines: bytes | Oversized, **present: Any) -> BatchResult:
    """The plan for these lines."""
    return intake(**present).take(
        [text if isinstance(text, Oversized) else Line(text, number) for number, text in enumerate(lines, 1)]
    )


def data_of(draft: Draft) -> dict[str, Any]:
    """The payload of a draft."""
    payload: dict[str, Any] = json.loads(draft.data)
    return payload


def kinds(plan: BatchResult) -> list[str]:
    """What is said, in order."""
    return [draft.type for draft in plan.drafts]


def delta(text: str, **fields: Any) -> bytes:
    """A piece of text."""
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return line(type="stream_event", event=event, **fields)


def ask(request_id: str, **fields: Any) -> bytes:
    """A tool request."""
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "date"}, **fields}
    return line(type="control_request", request_id=request_id, request=request)


def result(**fields: Any) -> bytes:
    """The end of a turn."""
    return line(**{"type": "result", "subtype": "success", "is_error": False, "session_id": SESSION, **fields})


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"assistant" , "message":{"x":[1,2.50]}}',
        b'{"type":"user","message":{}}',
        b'{"type":"system","subtype":"status"}',
        b'{"type":"something_new","deep":{"a":null}}',
        b'{"no":"type"}',
        b'{"type":"assistant","text":"\\ud83d"}',
        b'{"type":7}',
    ],
)
def test_a_line_is_an_entry_byte_for_byte(text: bytes) -> None:
    plan = take(text)
    assert plan.drafts == [Draft("agent_message", text, Direction.CLAUDE)]
    assert plan.rejected == []


def test_partial_text_is_live_only() -> None:
    plan = take(delta("He"), delta("llo"))
    assert [draft.direction for draft in plan.drafts] == [None, None]
    assert plan.partial == [("text", "He"), ("text", "llo")]


def test_a_subagents_text_is_not_the_message_being_written() -> None:
    plan = take(delta("x", parent_tool_use_id="t-1"))
    assert kinds(plan) == ["agent_message"]
    assert plan.partial == []


@pytest.mark.parametrize(
    "text",
    [
        line(type="stream_event", event={"type": "message_start"}),
        line(type="assistant", message={}),
        result(),
    ],
)
def test_what_ends_a_partial_message(text: bytes) -> None:
    assert take(delta("x"), text).partial == [("text", "x"), ("clear", "")]


def test_a_subagents_message_ends_no_partial_message() -> None:
    assert take(line(type="assistant", parent_tool_use_id="t-1", message={})).partial == []


@pytest.mark.parametrize("text", [b"not json", b"[1]", b'"x"', b"\xff\xfe", b'{"half":', b"[" * 100_000])
def test_garbage_becomes_an_error_entry_and_the_stream_goes_on(text: bytes) -> None:
    plan = take(text, b'{"type":"user"}')
    assert kinds(plan) == ["error", "agent_message"]
    assert data_of(plan.drafts[0])["code"] == "INVALID_MESSAGE"
    assert plan.drafts[0].direction is Direction.SERVER
    assert len(plan.rejected) == 1


def test_a_line_that_is_too_long_becomes_an_error_entry() -> None:
    plan = take(Oversized(123_456, 123_457), b'{"type":"user"}')
    assert kinds(plan) == ["error", "agent_message"]
    assert data_of(plan.drafts[0])["code"] == "RESOURCE_LIMIT"
    assert "123456" in data_of(plan.drafts[0])["message"]


def test_init_opens_a_conversation_named_after_its_prompt() -> None:
    execution = sample.execution(prompt="  fix \n the\tbug  " + "x" * 200)
    plan = take(line(type="system", subtype="init", session_id=SESSION), execution=execution)
    assert plan.session is not None
    assert plan.session.id == SESSION
    assert plan.session.title.startswith("fix the bug xxx")
    assert len(plan.session.title) == TITLE_CHARACTERS
    assert plan.record == {"session_id": SESSION, "fork": False, "transcript": TranscriptMark(SESSION)}


def test_a_known_conversation_keeps_its_title_and_birth() -> None:
    known = SessionRecord(SESSION, project_of("p-1"), Milliseconds(1), Milliseconds(2), "old title")
    plan = take(
        line(type="system", subtype="init", session_id=SESSION),
        session=known,
        project=sample.project(session_id=SESSION),
        execution=sample.execution(),
    )
    assert plan.session is not None
    assert (plan.session.title, plan.session.created_at) == ("old title", 1)
    assert plan.session.last_active > 2
    assert plan.record == {}, "nothing about the project changes"


def test_a_fork_is_over_once_the_copy_is_there() -> None:
    plan = take(
        line(type="system", subtype="init", session_id="22222222-2222-4333-8444-555555555555"),
        project=sample.project(session_id=SESSION, fork=True),
        execution=sample.execution(),
    )
    assert plan.record == {"session_id": "22222222-2222-4333-8444-555555555555", "fork": False, "transcript": None}


def test_a_tool_request_waits_and_is_said() -> None:
    plan = take(ask("r-1", title="Run a command"), execution=sample.execution())
    assert kinds(plan) == ["approval_requested"]
    assert plan.drafts[0].direction is Direction.CLAUDE
    said = data_of(plan.drafts[0])
    assert (said["approval_id"], said["tool_name"], said["execution_id"]) == ("a-1", "Bash", "e-1")
    (opened,) = plan.opened.values()
    assert (opened.request_id, opened.status) == ("r-1", ApprovalStatus.PENDING)
    assert msgspec.json.decode(opened.request)["title"] == "Run a command"


@pytest.mark.parametrize(
    "text",
    [
        line(type="control_request", request_id="r-1", request={"subtype": "hook_callback"}),
        line(type="control_request", request_id="r-1", request={"subtype": "can_use_tool"}),
        line(type="control_request", request_id="r-1"),
    ],
)
def test_a_request_that_is_not_known_is_refused_so_that_the_agent_does_not_wait(text: bytes) -> None:
    plan = take(text, execution=sample.execution())
    assert plan.drafts == []
    (refusal,) = plan.refusals
    assert json.loads(refusal)["response"]["subtype"] == "error"
    assert json.loads(refusal)["response"]["request_id"] == "r-1"


def test_control_responses_are_for_who_asked() -> None:
    plan = take(line(type="control_response", response={"subtype": "success", "request_id": "q-1"}))
    assert plan.drafts == []
    assert [answer.request_id for answer in plan.answers] == ["q-1"]


def test_a_request_that_is_withdrawn_no_longer_waits() -> None:
    plan = take(
        line(type="control_cancel_request", request_id="r-a-7"),
        approvals=(sample.approval("a-7"), sample.approval("a-8")),
        execution=sample.execution(),
    )
    assert kinds(plan) == ["approval_cancelled"]
    assert list(plan.closed) == ["a-7"]
    assert plan.closed[ApprovalId("a-7")].status is ApprovalStatus.CANCELLED


def test_a_request_that_comes_and_goes_in_one_batch_is_said_twice_and_not_open() -> None:
    plan = take(ask("r-1"), line(type="control_cancel_request", request_id="r-1"), execution=sample.execution())
    assert kinds(plan) == ["approval_requested", "approval_cancelled"]
    assert plan.opened == {}
    assert list(plan.closed) == ["a-1"]


def test_a_withdrawal_of_what_is_not_open_is_nothing() -> None:
    assert kinds(take(line(type="control_cancel_request", request_id="zzz"))) == []
    assert kinds(take(line(type="control_cancel_request"), approvals=(sample.approval(),))) == []


def test_a_result_ends_the_execution() -> None:
    plan = take(result(total_cost_usd=0.5), execution=sample.execution())
    assert plan.finished is not None
    assert plan.finished.status is ExecutionStatus.SUCCESS
    assert plan.finished.finished_at is not None
    assert plan.record["state"] is ProjectState.IDLE
    assert kinds(plan) == ["agent_message"]


def test_a_result_that_is_an_error_says_so() -> None:
    plan = take(result(is_error=True, result="API Error: 529"), execution=sample.execution())
    assert plan.finished is not None
    assert plan.finished.status is ExecutionStatus.ERROR
    assert plan.record["state"] is ProjectState.ERROR
    assert kinds(plan) == ["agent_message", "error"]
    said = data_of(plan.drafts[-1])
    assert (said["code"], said["message"]) == ("EXECUTION_FAILED", "API Error: 529")
    assert said["details"] == {"execution_id": "e-1"}


def test_a_result_that_is_an_error_by_its_subtype_alone() -> None:
    for subtype in ("error_during_execution", "error_max_turns"):
        for end_status, status in ((None, ExecutionStatus.ERROR), (ExecutionStatus.KILLED, ExecutionStatus.KILLED)):
            plan = take(result(subtype=subtype), execution=sample.execution(), end_status=end_status)
            assert plan.finished is not None
            assert plan.finished.status is status


@pytest.mark.parametrize(
    ("end_status", "state"),
    [(ExecutionStatus.KILLED, ProjectState.IDLE), (ExecutionStatus.TIMEOUT, ProjectState.ERROR)],
)
def test_who_ended_it_decides_how_it_ended(end_status: ExecutionStatus, state: ProjectState) -> None:
    plan = take(result(is_error=True), execution=sample.execution(), end_status=end_status)
    assert plan.finished is not None
    assert plan.finished.status is end_status
    assert plan.record["state"] is state


def test_what_was_being_written_is_stored_when_the_execution_ends() -> None:
    partial = Partial()
    partial.take([("thinking", "so far"), ("text", "half a sen")])
    plan = intake(execution=sample.execution(), killed=True, partial=partial).finish(ExecutionStatus.KILLED, None)
    assert kinds(plan) == ["agent_partial", "process_killed"]
    assert data_of(plan.drafts[0]) == {"text": "half a sen", "thinking": "so far"}
    assert plan.drafts[0].direction is not None
    state = Partial()
    state.take(plan.partial)
    assert state.value() is None
    assert partial.value() is not None, "a plan changes nothing before it is stored"


def test_a_kill_is_an_entry_of_its_own() -> None:
    plan = intake(execution=sample.execution(), killed=True).finish(ExecutionStatus.KILLED, None)
    assert kinds(plan) == ["process_killed"]
    assert data_of(plan.drafts[0])["execution_id"] == "e-1"


def test_the_end_withdraws_what_still_waits() -> None:
    plan = take(ask("r-1"), result(), approvals=(sample.approval("b-1"),), execution=sample.execution())
    assert kinds(plan) == ["approval_requested", "agent_message", "approval_cancelled", "approval_cancelled"]
    assert plan.opened == {}
    assert set(plan.closed) == {"a-1", "b-1"}


def test_only_the_first_result_counts() -> None:
    plan = take(result(), result(is_error=True), execution=sample.execution())
    assert plan.finished is not None
    assert plan.finished.status is ExecutionStatus.SUCCESS
    assert kinds(plan) == ["agent_message", "agent_message"]


def test_a_result_without_an_execution_is_an_entry_and_nothing_else() -> None:
    plan = take(result())
    assert kinds(plan) == ["agent_message"]
    assert plan.finished is None
    assert "state" not in plan.record


def test_a_conversation_that_is_lost_is_not_continued() -> None:
    plan = take(
        result(is_error=True, errors=["No conversation found with session ID: x"]),
        project=sample.project(session_id=SESSION),
        execution=sample.execution(),
    )
    assert plan.session is None
    assert plan.record == {"session_id": None, "fork": False, "state": ProjectState.ERROR}
    assert "no longer exists" in data_of(plan.drafts[-1])["message"]


def test_a_prompt_that_the_agent_had_seen_ends_without_a_result() -> None:
    for uuid, ended in (("e-1", True), ("e-2", False)):
        text = line(type="command_lifecycle", state="completed", command_uuid=uuid)
        plan = take(text, execution=sample.execution())
        assert (plan.finished is not None) is ended
    text = line(type="command_lifecycle", state="started", command_uuid="e-1")
    assert take(text, execution=sample.execution()).finished is None


def test_errors_keep_their_details() -> None:
    error = ErrorData("EXECUTION_FAILED", "It ended.", {"stderr": "boom"})
    plan = intake(execution=sample.execution()).finish(ExecutionStatus.ERROR, error)
    assert data_of(plan.drafts[-1])["details"] == {"execution_id": "e-1", "stderr": "boom"}


def at(seconds: float) -> Milliseconds:
    """A time after the beginning."""
    return Milliseconds(BEGAN + round(seconds * 1000))


def test_waiting_counts_once_however_many_wait() -> None:
    one = sample.approval("a-1", created_tick=at(10))
    two = sample.approval("a-2", created_tick=at(15))
    both = {one.id: one, two.id: two}
    running = sample.execution(waited_ms=2000)
    assert waited_ms(running, {}, at(20)) == 2000
    assert waited_ms(running, both, at(20)) == 12_000


@pytest.mark.parametrize("first", ["a-1", "a-2"])
def test_the_first_answer_of_two_leaves_the_other_waiting(first: str) -> None:
    one = sample.approval("a-1", created_tick=at(10))
    two = sample.approval("a-2", created_tick=at(15))
    both = {one.id: one, two.id: two}
    running = sample.execution()
    kept = waited_after(running, both, ApprovalId(first), at(20))
    rest = {key: value for key, value in both.items() if key != first}
    running = sample.execution(waited_ms=kept)
    assert waited_ms(running, rest, at(20)) == 10_000, "the answer itself moves nothing"
    (last,) = rest
    assert waited_after(running, rest, last, at(30)) == 20_000


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 1000)), min_size=1, max_size=6))
def test_overlapping_waits_add_up_to_their_union(spans: list[tuple[int, int]]) -> None:
    """However they overlap, the sum is the time in which at least one waited."""
    moments = sorted(
        [(start, 1, number) for number, (start, _) in enumerate(spans)]
        + [(start + length, 0, number) for number, (start, length) in enumerate(spans)]
    )
    running = sample.execution()
    open_: dict[ApprovalId, Approval] = {}
    for moment, opens, number in moments:
        key = ApprovalId(str(number))
        if opens:
            open_[key] = sample.approval(str(number), created_tick=moment)
        else:
            running = sample.execution(waited_ms=waited_after(running, open_, key, moment))
            del open_[key]
    covered = {moment for start, length in spans for moment in range(start, start + length)}
    assert running.waited_ms == len(covered)


def test_a_clock_that_goes_back_makes_no_negative_wait() -> None:
    one = sample.approval("a-1", created_tick=at(10))
    assert waited_ms(sample.execution(waited_ms=5), {one.id: one}, at(3)) == 5


def test_the_end_counts_the_wait_that_it_cuts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocket_agent.conversation.ingest.tick", lambda: 5000)
    plan = take(result(), approvals=(sample.approval(),), execution=sample.execution(waited_ms=7))
    assert plan.finished is not None
    assert plan.finished.waited_ms == 5000 + 7


def test_the_wait_for_a_request_that_is_withdrawn_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocket_agent.conversation.ingest.tick", lambda: 5000)
    plan = take(
        line(type="control_cancel_request", request_id="r-a-7"),
        approvals=(sample.approval("a-7"),),
        execution=sample.execution(waited_ms=7),
    )
    assert plan.running is not None
    assert plan.running.waited_ms == 5000 + 7


def test_a_wait_that_is_withdrawn_just_before_the_end_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocket_agent.conversation.ingest.tick", lambda: 5000)
    plan = take(
        line(type="control_cancel_request", request_id="r-a-7"),
        result(),
        approvals=(sample.approval("a-7"),),
        execution=sample.execution(),
    )
    assert plan.finished is not None
    assert plan.finished.waited_ms == 5000
    assert plan.running is None, "what is finished does not run"


def system(subtype: str, **fields: Any) -> bytes:
    """A line of type `system`."""
    return line(type="system", subtype=subtype, **fields)


def lifecycle(state: str) -> bytes:
    """How far the CLI has come with the prompt of `sample.execution()`."""
    return line(type="command_lifecycle", command_uuid="e-1", state=state)


def doing(**fields: Any) -> Account:
    """The account of a process that does something."""
    return Account(work=Work(**fields))


SUBAGENT = BackgroundTask("t-1", "local_agent", "Look around")
COMMAND = BackgroundTask("b-1", "local_bash", "Serve")
OWN = {"origin": {"kind": "task-notification"}}


def work_after(*lines: bytes, **present: Any) -> Work:
    """What the process does after these lines."""
    account = take(*lines, **present).account
    assert account is not None
    return account.work


def test_background_tasks_are_followed() -> None:
    told = [{"task_id": "t-1", "task_type": "local_agent", "description": "Look around"}]
    (known,) = work_after(system("background_tasks_changed", tasks=told)).tasks
    assert known.started_at is not None
    assert replace(known, started_at=None) == SUBAGENT
    usage = {"total_tokens": 1200, "tool_uses": 2, "duration_ms": 5}
    progress = system("task_progress", task_id="t-1", usage=usage, last_tool_name="Bash", description="Running date")
    (busy,) = work_after(progress, account=doing(tasks=(SUBAGENT,))).tasks
    assert (busy.tokens, busy.tool_uses, busy.last_tool, busy.summary) == (1200, 2, "Bash", "Running date")
    again = system("background_tasks_changed", tasks=told)
    assert work_after(again, account=doing(tasks=(busy,))).tasks == (busy,)
    started = system("task_started", task_id="b-1", task_type="local_bash", description="Serve", is_backgrounded=True)
    tasks = work_after(started, account=doing(tasks=(SUBAGENT,))).tasks
    assert tuple(replace(task, started_at=None) for task in tasks) == (SUBAGENT, COMMAND)
    in_front = system("task_started", task_id="b-1", task_type="local_bash", is_backgrounded=False)
    assert work_after(in_front).tasks == ()
    ended = system("task_notification", task_id="b-1", status="completed")
    assert work_after(ended, account=doing(tasks=(SUBAGENT, COMMAND))).tasks == (SUBAGENT,)
    assert take(ended).notified
    assert not take(system("task_notification", task_id="b-1", status="stopped")).notified
    assert work_after(system("background_tasks_changed", tasks=[]), account=doing(tasks=(COMMAND,))).tasks == ()
    assert work_after(system("background_tasks_changed", tasks="?"), account=doing(tasks=(COMMAND,))).tasks == ()


@pytest.mark.parametrize("execution", [None, sample.execution()])
def test_a_result_withdraws_what_its_turn_asked_for_alone(execution: Execution | None) -> None:
    of_turn = sample.approval("a-8")
    of_subagent = sample.approval("a-9", request=sample.tool_request(agent_id="t-1"))
    plan = take(result(), execution=execution, approvals=(of_turn, of_subagent), account=doing(tasks=(SUBAGENT,)))
    assert list(plan.closed) == ["a-8"]
    # With the process everything ends.
    there = intake(execution=execution, approvals=(of_turn, of_subagent), account=doing(tasks=(SUBAGENT,)))
    gone = there.finish(ExecutionStatus.ERROR, None) if execution is not None else there.leave()
    assert list(gone.closed) == ["a-8", "a-9"]
    assert gone.account is not None
    assert gone.account.work == Work()


def test_a_subagent_that_waits_does_not_stop_the_clock_of_a_prompt() -> None:
    of_subagent = sample.approval("a-9", request=sample.tool_request(agent_id="t-1"))
    for tasks, counts in (((), True), ((SUBAGENT,), False)):
        plan = take(result(), execution=sample.execution(), approvals=(of_subagent,), account=doing(tasks=tasks))
        assert plan.finished is not None
        assert (plan.finished.waited_ms > 0) is counts


def test_a_subagent_of_a_subagent_does_not_stop_the_clock_of_a_prompt() -> None:
    """As 2.1.332 prints them: each runs in the foreground of the one that started it."""
    asking = sample.approval("a-9", request=sample.tool_request(agent_id="t-3"))
    chain = [
        system("task_started", task_id=f"t-{number}", is_backgrounded=False, parent_task_id=f"t-{number - 1}")
        for number in (2, 3)
    ]
    for tasks, counts in (((), True), ((SUBAGENT,), False)):
        plan = take(*chain, result(), execution=sample.execution(), approvals=(asking,), account=doing(tasks=tasks))
        assert plan.finished is not None
        assert (plan.finished.waited_ms > 0) is counts
    over = system("background_tasks_changed", tasks=[])
    assert work_after(*chain, over, account=doing(tasks=(SUBAGENT,))).nested == ()


def test_turns_are_told_apart() -> None:
    init = system("init", session_id=SESSION)
    named = system("init", session_id=SESSION, user_message_uuids=["e-1"])
    running = sample.execution()
    assert work_after(init).turn == "own"
    assert work_after(init, result(**OWN)).turn == ""
    assert work_after(init, execution=running).turn == "prompt"
    assert work_after(lifecycle("queued"), lifecycle("started"), named, execution=running).turn == "prompt"
    assert work_after(lifecycle("queued"), init, execution=running).turn == "own"
    assert work_after(init, lifecycle("queued"), execution=running).turn == "own"
    assert work_after(result(), init, execution=running).turn == "own"


def test_a_prompt_that_is_folded_into_an_own_turn_ends_with_that_turn() -> None:
    """As 2.1.330 prints it: the prompt is over before the result, which names it."""
    init, running = system("init", session_id=SESSION), sample.execution()
    folded = (init, lifecycle("queued"), lifecycle("started"), lifecycle("completed"))
    assert take(*folded, execution=running).finished is None
    for is_error, status in ((False, ExecutionStatus.SUCCESS), (True, ExecutionStatus.ERROR)):
        plan = take(*folded, result(**OWN, user_message_uuids=["e-1"], is_error=is_error), execution=running)
        assert plan.finished is not None
        assert plan.finished.status is status
    # The own turn may also end before the prompt is begun.
    behind = (init, lifecycle("queued"), result(**OWN))
    assert take(*behind, execution=running).finished is None
    plan = take(*behind, lifecycle("started"), result(user_message_uuids=["e-1"]), execution=running)
    assert plan.finished is not None
    assert plan.finished.status is ExecutionStatus.SUCCESS
    # What was known before a restart counts as well.
    plan = take(lifecycle("completed"), execution=running, account=doing(turn="own", prompt="started"))
    assert plan.finished is None
    # A result for other prompts is none for this one.
    assert take(result(user_message_uuids=["e-7"]), execution=running).finished is None


def test_a_prompt_that_a_hook_blocked_is_no_success() -> None:
    """As 2.1.330 prints it: the result itself tells of no error."""
    outcome = {"kind": "blocked_by_hook", "prompt_kept": False, "reason": "not today"}
    blocked = system("informational", content="...", prompt_submit_outcome=outcome)
    init = system("init", session_id=SESSION)
    plan = take(init, blocked, result(user_message_uuids=["e-1"], num_turns=0), execution=sample.execution())
    assert plan.finished is not None
    assert (plan.finished.status, plan.finished.code) == (ExecutionStatus.ERROR, "EXECUTION_FAILED")
    assert "not today" in data_of(plan.drafts[-1])["message"]
    plan = take(init, blocked, result(), init, result(), execution=sample.execution())
    assert plan.account is not None
    assert plan.account.work.blocked is None


def test_a_turn_that_a_hook_stopped_is_no_success() -> None:
    """As 2.1.332 ends it after `"continue": false` of a hook for tools, without an error and without a word."""
    plan = take(result(terminal_reason="hook_stopped", result=""), execution=sample.execution())
    assert plan.finished is not None
    assert plan.finished.status is ExecutionStatus.ERROR
    assert "hook" in data_of(plan.drafts[-1])["message"]


def test_a_change_of_the_permission_mode_that_nobody_asked_for_is_the_projects() -> None:
    def present(requested: str | None) -> Intake:
        state = State(
            log_of(sample.project(permission_mode="plan")),
            current=sample.execution(),
            account=doing(permission_mode="plan", requested_mode=requested),
        )
        return Intake(state, may_choose=lambda mode: mode != "bypassPermissions")

    changed = {"plan": "acceptEdits", "acceptEdits": None}
    for requested, stored in changed.items():
        plan = present(requested).take([Line(system("status", permissionMode="acceptEdits"), 1)])
        assert plan.record.get("permission_mode") == stored
        assert plan.account is not None
        assert (plan.account.work.permission_mode, plan.account.work.requested_mode) == ("acceptEdits", "acceptEdits")
    plan = present("plan").take([Line(system("status", permissionMode="bypassPermissions"), 1)])
    assert plan.account is not None
    assert plan.account.work.requested_mode == "bypassPermissions"
    assert "permission_mode" not in plan.record


def test_an_error_gives_no_conversation() -> None:
    """A CLI that cannot start names an id that it has just made up."""
    here = sample.project(session_id=SESSION)
    broken = result(is_error=True, session_id="another", errors=["Configuration error in x"])
    for present in ({}, {"execution": sample.execution()}):
        plan = take(broken, project=here, **present)
        assert (plan.session, plan.record.get("session_id", SESSION)) == (None, SESSION)
    assert take(result(session_id="another"), project=here).record["session_id"] == "another"


def test_a_result_that_is_repeated_ends_no_other_prompt() -> None:
    """It comes after the next prompt was written and before its `init`; the turn's own result counts."""
    init = line(type="system", subtype="init", session_id=SESSION, model="m")
    first = take(init, result(), execution=sample.execution())
    assert first.finished is not None
    for repeated in (result(), result(result="", session_id=""), result(is_error=True)):
        plan = take(repeated, execution=sample.execution(), account=first.account)
        assert plan.finished is None
        assert "queue_hold" not in plan.record
        later = take(repeated, init, result(), execution=sample.execution(), account=first.account)
        assert later.finished is not None
        assert later.finished.status is ExecutionStatus.SUCCESS


def test_a_cli_that_prints_its_init_once() -> None:
    """The turns after the first begin with the text of the agent."""
    first = take(system("init", session_id=SESSION, model="m"), result(), execution=sample.execution())
    for said in (delta("x"), line(type="assistant", message={})):
        plan = take(said, result(), execution=sample.execution(), account=first.account)
        assert plan.finished is not None
        assert plan.finished.status is ExecutionStatus.SUCCESS
    for other in (line(type="assistant", message={}, parent_tool_use_id="t-1"), line(type="user", message={})):
        assert take(other, result(), execution=sample.execution(), account=first.account).finished is None


LIMITED = line(
    type="rate_limit_event",
    rate_limit_info={
        "status": "rejected",
        "resetsAt": 1_760_000_000,
        "rateLimitType": "seven_day_opus",
        "unifiedWindows": {"five_hour": {"utilization": 0.25, "resetsAt": 1_750_000_000, "status": "allowed_warning"}},
    },
)


def test_a_usage_limit_pauses_the_execution() -> None:
    """The reset comes from the event, from the refused message, or from the text of an older CLI."""
    init = line(type="system", subtype="init", session_id=SESSION, model="m")
    info = {"rate_limit_info": {"status": "rejected", "resetsAt": 1_760_000_000}}
    refused = line(type="assistant", message={"model": "<synthetic>"}, api_error_params=info)
    limited = result(is_error=True, api_error_status=429, result="You've hit your limit")
    old = result(is_error=True, result="Claude AI usage limit reached|1760000000")
    for lines in ((LIMITED, limited), (refused, limited), (old,)):
        plan = take(init, *lines, execution=sample.execution())
        assert plan.finished is None
        assert plan.paused is not None
        assert (plan.paused.status, plan.paused.finished_at) == (ExecutionStatus.WAITING, None)
        hold = plan.record["queue_hold"]
        assert (hold.reason, hold.until, plan.record["state"]) == ("usage_limit", 1_760_000_000_000, "IDLE")
        assert kinds(plan)[-1] == "execution_paused"
        assert plan.account is not None
        assert plan.account.work.refused_until is None
    # The limit of an earlier turn, an interrupt, and another error do not pause it.
    assert take(init, LIMITED, init, limited, execution=sample.execution()).finished is not None
    assert take(init, LIMITED, limited, execution=sample.execution(), end_status=ExecutionStatus.KILLED).paused is None
    assert take(init, LIMITED, result(), execution=sample.execution()).paused is None
    assert take(init, LIMITED, limited).paused is None


def test_the_windows_of_the_limits() -> None:
    windows = {window.window: window for window in take(LIMITED).windows}
    assert (windows["five_hour"].utilization, windows["five_hour"].status) == (0.25, "allowed_warning")
    assert (windows["seven_day_opus"].utilization, windows["seven_day_opus"].status) == (1.0, "rejected")
    hostile = {"status": [], "resetsAt": 1e300, "rateLimitType": "x", "unifiedWindows": {"y": {"utilization": -1}}}
    assert take(line(type="rate_limit_event", rate_limit_info=hostile)).windows == ()


def test_a_broken_value_of_a_limit_hides_no_other() -> None:
    """Also a reset that is given in milliseconds or as text is one: without it the execution would end in an error."""
    init = line(type="system", subtype="init", session_id=SESSION, model="m")
    limited = result(is_error=True, api_error_status=429, result="You've hit your limit")
    window = {"utilization": 0.5, "resetsAt": 1_760_000_000, "status": "allowed"}
    broken = [
        None,
        {"utilization": None, "resetsAt": None, "status": None},
        {"utilization": "9%"},
        {"resetsAt": "soon"},
    ]
    for reset in (1_760_000_000, 1_760_000_000_000, "1760000000", "2025-10-09T08:53:20Z"):
        for number, value in enumerate([*broken, window]):
            info: dict[str, object] = {"status": "rejected", "resetsAt": reset, "rateLimitType": "five_hour"}
            info |= {"utilization": value, "unifiedWindows": {"seven_day": window, "other": value}}
            plan = take(
                init, line(type="rate_limit_event", rate_limit_info=info), limited, execution=sample.execution()
            )
            assert plan.paused is not None, info
            assert plan.record["queue_hold"].until == 1_760_000_000_000, info
            found = {one.window: (one.utilization, one.resets_at) for one in plan.windows}
            known = {"five_hour": (1.0, 1_760_000_000_000), "seven_day": (0.5, 1_760_000_000_000)}
            assert found == known | ({"other": known["seven_day"]} if number == len(broken) else {}), info
    none: list[object] = [None, 0, -1, True, "never", [], 1e300, "9" * 400]
    for no_reset in none:
        info = {"status": "rejected", "resetsAt": no_reset, "rateLimitType": "five_hour"}
        plan = take(init, line(type="rate_limit_event", rate_limit_info=info), limited, execution=sample.execution())
        assert (plan.paused, plan.windows) == (None, ()), info
        assert plan.finished is not None


FAULTS: dict[HoldReason | None, tuple[dict[str, Any], ...]] = {
    HoldReason.USAGE_LIMIT: (
        {"api_error_status": 429, "result": "API Error: Request rejected (429)"},
        {"result": "You've hit your session limit \u00b7 resets 3pm"},
        {"result": "5-hour limit reached \u2219 resets 3pm"},
        {"api_error_status": 400, "result": "API Error: 400 You have reached your specified API usage limits."},
        {"result": "You could not be served", "error": "rate_limit"},
    ),
    HoldReason.CREDIT: (
        {"api_error_status": 400, "result": "Credit balance is too low"},
        {"api_error_status": 402},
        {"error": "billing_error"},
    ),
    HoldReason.AUTHENTICATION: (
        {"api_error_status": 401},
        {"api_error_status": 403},
        {"result": "Not logged in \u00b7 Please run /login"},
        {"result": "Invalid API key \u00b7 Fix external API key"},
        {"result": 'API Error: 401 {"type":"error"}'},
        {"result": "Login expired \u00b7 Please run /login"},
        {"result": "Could not refresh your login: can't save to the Keychain"},
        {"result": "Authentication required \u00b7 Sign in again to continue"},
        {"api_error_status": 400, "result": "Your ANTHROPIC_API_KEY belongs to a disabled organization"},
        {"result": "Your apiKeyHelper script is failing"},
        {"result": "Anything", "error": "authentication_failed"},
    ),
    HoldReason.OVERLOADED: (
        {"api_error_status": 529},
        {"api_error_status": 500},
        {"result": "API Error: 529 {}"},
        {
            "api_error_status": 429,
            "result": "API Error: Server is temporarily limiting requests (not your usage limit)",
        },
        {"result": "Opus is experiencing high load, please use /model to switch to Sonnet", "error": "rate_limit"},
        {"result": "Anything", "error": "server_error"},
    ),
    HoldReason.NETWORK: (
        {"result": "API Error: Can't reach the API server (ENOTFOUND)"},
        {"result": "API Error: Connection refused (ECONNREFUSED)"},
        {"result": "API Error: Connection error."},
        {"result": "API Error: Request timed out."},
        {"result": "Request timed out. If the API is slow to answer, set API_TIMEOUT_MS above 1500."},
        {"api_error_status": 407, "result": "API Error: 407 proxy"},
    ),
    HoldReason.CONVERSATION: (
        {"errors": ["No conversation found with session ID: x"]},
        {"terminal_reason": "prompt_too_long", "api_error_status": 400, "result": "Prompt is too long"},
        {"terminal_reason": "blocking_limit", "result": "Context limit reached"},
        {"result": "Prompt is too long"},
    ),
    None: (
        {"api_error_status": 400, "result": "API Error: 400 messages: bad"},
        {"api_error_status": 404, "result": "There's an issue with the selected model (x)."},
        {"subtype": "error_max_turns"},
        {"result": "The tests fail: API Error: 529"},
        {"terminal_reason": "completed", "result": "Credit balance is too low"},
        {"is_error": False, "result": "Invalid API key"},
        {"terminal_reason": "image_error", "result": "Image was too large.", "error": "invalid_request"},
        {"terminal_reason": "completed", "result": "Done", "error": "server_error"},
    ),
}


def test_which_faults_hold_the_queue() -> None:
    for reason, results in FAULTS.items():
        for fields in results:
            init = line(type="system", subtype="init", session_id=SESSION, model="m")
            said = line(type="assistant", message={}, error=fields.get("error"))
            told = result(**{"is_error": True, **fields})
            held = take(init, said, told, execution=sample.execution(), queued=True).record.get("queue_hold")
            assert (held and held.reason) == reason, fields
            assert "queue_hold" not in take(init, told, execution=sample.execution()).record
            stopped = take(init, told, execution=sample.execution(), end_status=ExecutionStatus.KILLED, queued=True)
            assert "queue_hold" not in stopped.record or "errors" in fields


QUESTION: Final = {"subtype": "elicitation", "mcp_server_name": "crm", "message": "Who?", "mode": "form"}


def test_a_question_of_an_mcp_server_is_an_approval() -> None:
    asked = {**QUESTION, "requested_schema": {"properties": {"b": {"type": "string"}, "a": {"type": "string"}}}}
    plan = take(line(type="control_request", request_id="r-1", request=asked))
    (data,) = [data_of(draft) for draft in plan.drafts]
    assert (data["tool_name"], data["description"], data["suggestions"]) == ("Elicitation", "Who?", [])
    assert data["input"] == {name: value for name, value in asked.items() if name != "subtype"}
    assert list(data["input"]["requested_schema"]["properties"]) == ["b", "a"], "the order is that of the form"
    assert [approval.request_id for approval in plan.opened.values()] == ["r-1"]
    assert not plan.refusals


def test_a_question_that_cannot_be_shown_is_refused() -> None:
    faults: list[dict[str, object]] = [
        {"message": 5},
        {"mcp_server_name": None},
        {"requested_schema": {"properties": 1}},
    ]
    for broken in faults:
        plan = take(line(type="control_request", request_id="r-1", request={**QUESTION, **broken}))
        assert not plan.opened
        assert [json.loads(answer)["response"]["subtype"] for answer in plan.refusals] == ["error"]


def test_the_end_of_a_turn_withdraws_a_question_unless_a_subagent_may_have_asked() -> None:
    task = {"task_id": "t-1", "task_type": "local_agent", "description": "d"}
    asking = line(type="control_request", request_id="r-1", request=QUESTION)
    begun = line(type="system", subtype="background_tasks_changed", tasks=[task])
    for lines, left in (((asking,), 0), ((begun, asking), 1)):
        plan = take(*lines, result(), execution=sample.execution())
        assert len(plan.opened) == left, lines
