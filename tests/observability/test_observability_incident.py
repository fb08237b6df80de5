"""The last errors, as a person may see them."""

import typing

import pytest

from pocket_agent import events
from pocket_agent.events import Event
from pocket_agent.model import ExecutionStatus
from pocket_agent.observability import status
from pocket_agent.observability.catalogue import CODE_OF_REJECTION
from pocket_agent.observability.metrics import MetricObserver
from pocket_agent.observability.status import RecentError, RecentErrors
from tests.observability.sample import KINDS, example


def told(*happened: Event) -> list[RecentError]:
    """What is kept of these events, the newest first."""
    incidents = RecentErrors(lambda: 1000.0)
    for event in happened:
        incidents.emit(event)
    return incidents.newest()


def refused(code: str, message: str | None, request_id: str = "r") -> events.RequestHandled:
    """A request that was answered with an error."""
    return events.RequestHandled("execute", code, 0.1, "p", request_id, message)


def test_a_request_that_failed() -> None:
    (found,) = told(refused("INVALID_PATH", "There is no such directory."))
    assert found == RecentError("INVALID_PATH", "execute", "There is no such directory.", 1, 1000.0, "r", "p")


def test_what_went_well_is_none() -> None:
    assert told(example(events.RequestHandled, code=None), example(events.ExecutionFinished, code=None)) == []


def test_the_same_error_is_one_that_is_counted() -> None:
    found = told(*(refused("RATE_LIMITED", "Too many.", f"r{number}") for number in range(1000)))
    assert [(one.count, one.correlation_id) for one in found] == [(1000, "r999")]


def test_the_newest_comes_first_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_MAX_ERRORS", 3)
    letters = [refused("INTERNAL_ERROR", f"fault {letter}") for letter in "abcdb"]
    assert [one.message for one in told(*letters)] == ["fault b", "fault d", "fault c"]


def test_what_a_client_wrote_is_left_out() -> None:
    message = "Unknown message type 'my secret prompt' at https://me:password@host/path?token=abc"
    (found,) = told(refused("INVALID_MESSAGE", message))
    assert found.message == "Unknown message type '…' at https://host/…"
    assert len(told(refused("INVALID_MESSAGE", "x" * 10_000))[0].message) < 350


def test_an_error_that_says_nothing_says_what_its_code_means() -> None:
    finished = example(events.ExecutionFinished, status=ExecutionStatus.TIMEOUT, code=None)
    (found,) = told(finished)
    assert (found.code, found.operation) == ("EXECUTION_TIMEOUT", "execution")
    assert found.message == "The execution ran longer than `timeouts.execution`."


@pytest.mark.parametrize("reason", CODE_OF_REJECTION)
def test_a_client_that_was_turned_away(reason: str) -> None:
    (found,) = told(example(events.ConnectionRejected, reason=reason))
    assert (found.code, found.operation) == (CODE_OF_REJECTION[reason], "connection")
    assert "word" not in found.message, "its address is not told"


def test_it_keeps_what_the_metrics_count() -> None:
    wrong = {}
    for kind in KINDS:
        code = {"code": "EXECUTION_FAILED"} if str in _types_of(kind, "code") else {}
        event = example(kind, **code)
        metrics = MetricObserver()
        metrics.emit(event)
        counted = {
            (sample.labels["code"], sample.labels["operation"])
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "pocket_agent_errors_total" and sample.value > 0
        }
        kept = {(one.code, one.operation) for one in told(event)}
        if kept != counted and not (kind is events.RequestHandled and counted == {("other", "other")}):
            wrong[kind] = kept ^ counted
    assert wrong == {}


def _types_of(kind: type[Event], field: str) -> tuple[object, ...]:
    """The types that a field of an event may have; none when it has no such field."""
    hint = typing.get_type_hints(kind).get(field)
    return typing.get_args(hint) or (hint,)
