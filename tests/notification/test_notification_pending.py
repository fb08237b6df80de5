"""What is told when, and what is not told at all."""

from typing import Any

import pytest

from pocket_agent.notification.outbox import Descriptions, FinishedExecution, PendingDigests, ProjectDigest
from pocket_agent.settings import NotificationSettings, Settings


class Texts(Descriptions):
    """The texts of projects that do not exist."""

    def __init__(self) -> None:
        self.name = lambda conversation_id: f"name-{conversation_id}"

    def approval(self, conversation_id: str, approval_id: str) -> str | None:
        return f"detail of {approval_id}"

    def prompt(self, conversation_id: str, execution_id: str) -> str | None:
        return f"prompt of {execution_id}"


class Desk:
    """What waits, with a clock that is set and people who watch."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.watching: set[str] = set()
        self.pending = PendingDigests(Settings(notifications=NotificationSettings(**settings)), lambda: self.now)

    def take(self, after: float = 0.0) -> list[ProjectDigest]:
        """What is told after a while."""
        self.now += after
        return self.pending.take(self.watching.__contains__, Texts())

    def ask(self, approval_id: str, conversation_id: str = "p") -> None:
        """A tool wants to run."""
        self.pending.approval_requested(conversation_id, approval_id, "Bash")

    def end(self, seconds: float = 100.0, code: str | None = None, conversation_id: str = "p") -> None:
        """An execution ends."""
        end = FinishedExecution(seconds, code)
        self.pending.execution_finished(conversation_id, "e", end, seen=conversation_id in self.watching)


def test_an_approval_is_told_once_when_nobody_answered_for_a_while() -> None:
    desk = Desk(approval_delay=15.0)
    desk.ask("a")
    assert desk.take(14.9) == []
    (news,) = desk.take(0.1)
    assert [approval.tool for approval in news.approvals] == ["Bash"]
    assert news.name == "name-p"
    assert not desk.pending.any
    assert desk.take(10_000) == []


def test_one_that_is_answered_within_seconds_is_not() -> None:
    desk = Desk()
    desk.ask("a")
    desk.pending.approval_resolved("a")
    assert not desk.pending.any
    assert desk.take(10_000) == []


def test_who_watches_is_not_told_but_who_leaves_is() -> None:
    desk = Desk(approval_delay=15.0)
    desk.watching.add("p")
    desk.ask("a")
    for _ in range(100):
        assert desk.take(1.0) == []
    desk.watching.clear()
    assert desk.take(14.0) == []
    assert len(desk.take(1.0)) == 1


def test_always_tells_those_who_watch_as_well() -> None:
    desk = Desk(when="always")
    desk.watching.add("p")
    desk.ask("a")
    desk.end(code="EXECUTION_FAILED")
    (news,) = desk.take(15.0)
    assert (len(news.approvals), news.failed) == (1, 1)


def test_short_successes_and_what_somebody_saw_are_not_told() -> None:
    desk = Desk(finished_after=60.0)
    desk.end(59.9)
    assert not desk.pending.any
    desk.watching.add("p")
    desk.end(1000.0)
    desk.end(code="EXECUTION_FAILED")
    assert not desk.pending.any
    desk.watching.clear()
    desk.end(60.0)
    desk.end(0.1, "EXECUTION_FAILED", "q")
    assert [(news.finished, news.failed) for news in desk.take()] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("kind", ["approval", "finished", "failed"])
def test_each_kind_can_be_switched_off(kind: str) -> None:
    desk = Desk(**{kind: False})
    desk.ask("a", "approval")
    desk.end(conversation_id="finished")
    desk.end(code="EXECUTION_FAILED", conversation_id="failed")
    told = {news.conversation_id for news in desk.take(15.0)}
    assert told == {"approval", "finished", "failed"} - {kind}


def test_what_happens_in_the_pause_of_a_project_comes_in_one() -> None:
    desk = Desk(project_pause=60.0, approval_delay=0.0)
    desk.ask("a")
    assert len(desk.take()) == 1
    desk.ask("b")
    desk.ask("c")
    desk.end(code="EXECUTION_FAILED")
    desk.pending.approval_resolved("b")
    assert desk.take(59.0) == []
    desk.ask("d", "q")
    assert [news.conversation_id for news in desk.take()] == ["q"], "another project does not wait for it"
    (news,) = desk.take(1.0)
    assert (len(news.approvals), news.failed) == (1, 1)


def test_beyond_the_messages_of_an_hour_all_comes_in_one() -> None:
    desk = Desk(max_per_hour=3, approval_delay=0.0, project_pause=0.0)
    for number in range(10):
        desk.ask(f"a{number}", f"p{number}")
        assert len(desk.take(1.0)) == (1 if number < 3 else 0)
    assert desk.take(3500) == []
    (first, *others) = desk.take(100)
    assert (first.conversation_id, len(others)) == ("p3", 6)


def test_of_many_ends_the_latest_are_told_and_all_are_counted() -> None:
    desk = Desk()
    for _ in range(1000):
        desk.end()
    (news,) = desk.take()
    assert (len(news.executions), news.finished) == (3, 1000)


def test_contents_are_told_only_when_that_is_wanted() -> None:
    for content, detail, prompt in ((False, None, None), (True, "detail of a", "prompt of e")):
        desk = Desk(content=content, approval_delay=0.0)
        desk.ask("a")
        desk.end()
        (news,) = desk.take()
        assert (news.approvals[0].detail, news.executions[0].detail) == (detail, prompt)


def test_a_project_that_is_deleted_is_not_told_of() -> None:
    desk = Desk()
    desk.ask("a")
    desk.end()
    desk.pending.deleted("p")
    assert not desk.pending.any


def test_a_flood_is_bounded() -> None:
    desk = Desk()
    accepted = [desk.pending.approval_requested("p", f"a{number}", "Bash") for number in range(1500)]
    assert accepted.count(True) == 1000


def test_conversations_of_a_project_are_told_apart_and_end_with_it() -> None:
    desk = Desk(approval_delay=0, when="unwatched")
    desk.watching = {"p"}
    desk.ask("a", "p")
    desk.ask("b", "p.1")
    desk.end(conversation_id="p.2", code="EXECUTION_FAILED")
    assert [digest.conversation_id for digest in desk.take(60)] == ["p.1", "p.2"], "only the main one is watched"
    desk.ask("c", "p.1")
    desk.ask("d", "p.2")
    desk.pending.deleted("p.1")
    assert [digest.conversation_id for digest in desk.take(60)] == ["p.2"]
    desk.ask("e", "p.2")
    desk.pending.deleted("p")
    assert desk.take(60) == []
