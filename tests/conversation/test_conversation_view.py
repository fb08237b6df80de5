"""How a project looks to clients."""

import msgspec

from pocket_agent.claude.control import read_permission_request
from pocket_agent.conversation import state
from pocket_agent.model import BackgroundTask, Milliseconds, ProjectState, SessionRecord, project_of
from pocket_agent.protocol.push import BackgroundTaskData
from tests.conversation import sample


def test_the_path_is_shown_as_the_client_gave_it() -> None:
    shown = state.project_state_data(
        sample.project(path="/srv/./p", head=7, model="opus"),
        state=ProjectState.ERROR,
        permission_mode="plan",
        tasks=(BackgroundTask("t-1", "local_bash", "Serve"),),
        queue_depth=2,
        pending_approvals=1,
    )
    assert shown.path == "/srv/./p"
    assert shown.tasks == [BackgroundTaskData("t-1", "local_bash", "Serve")]
    assert shown.permission_mode == "plan"
    assert shown.created_at == "2023-11-14T22:13:20.000Z"
    assert (shown.state, shown.offset, shown.queue_depth, shown.pending_approvals, shown.model) == (
        ProjectState.ERROR,
        7,
        2,
        1,
        "opus",
    )


def test_places_in_the_queue_count_from_one() -> None:
    queue = [sample.execution(id="e-7", prompt="first"), sample.execution(id="e-8", prompt="second")]
    shown = state.queue_state_data(queue, None).queue
    assert [(item.execution_id, item.position, item.prompt) for item in shown] == [
        ("e-7", 1, "first"),
        ("e-8", 2, "second"),
    ]
    assert state.queue_state_data([], None).queue == []


def test_what_a_tool_would_do_stays_as_the_agent_wrote_it() -> None:
    raw = b'{"subtype":"can_use_tool","tool_name":"Bash","input":{"command" : "a\\u00e4"},"title":"Run it"}'
    request = read_permission_request("r-1", raw)
    assert request is not None
    shown = state.approval_requested_data(sample.approval(request=raw), request)
    assert bytes(shown.input) == b'{"command" : "a\\u00e4"}'
    assert (shown.tool_name, shown.title, shown.description) == ("Bash", "Run it", None)
    assert bytes(shown.suggestions) == b"[]"


def test_the_display_name_stands_in_for_a_title() -> None:
    raw = sample.tool_request(display_name="Shell", permission_suggestions=[{"type": "addRules"}])
    request = read_permission_request("r-1", raw)
    assert request is not None
    shown = state.approval_requested_data(sample.approval(request=raw), request)
    assert shown.title == "Shell"
    assert msgspec.json.decode(shown.suggestions) == [{"type": "addRules"}]


def test_a_conversation_tells_whether_it_is_the_present_one() -> None:
    value = SessionRecord("s-1", project_of("p-1"), Milliseconds(0), Milliseconds(1500), "first words")
    shown = state.session_data(value, current=True)
    assert (shown.session_id, shown.title, shown.created_at, shown.last_active, shown.current) == (
        "s-1",
        "first words",
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:01.500Z",
        True,
    )
