"""Values for the tests of `pocket_agent.conversation`."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec

from pocket_agent.model import (
    Approval,
    ApprovalId,
    ApprovalStatus,
    ConversationRecord,
    ExecuteOptions,
    Execution,
    ExecutionId,
    ExecutionStatus,
    Milliseconds,
    ProjectState,
    project_of,
)

BEGAN = Milliseconds(1_700_000_000_000)


def project(**changes: Any) -> ConversationRecord:
    """A project with an empty log."""
    made = ConversationRecord(
        number=1,
        id=project_of("p-1"),
        path="/srv/./p",
        real_path="/srv/p",
        name="p",
        state=ProjectState.IDLE,
        session_id=None,
        epoch="0123abcd",
        head=0,
        first=1,
        created_at=BEGAN,
        last_active=BEGAN,
    )
    return msgspec.structs.replace(made, **changes)


def execution(**changes: Any) -> Execution:
    """An execution that runs."""
    made = Execution(
        id=ExecutionId("e-1"),
        conversation_id=project_of("p-1"),
        prompt_id=None,
        prompt="do  it\nnow",
        options=ExecuteOptions(),
        status=ExecutionStatus.RUNNING,
        position=1,
        created_at=BEGAN,
        started_at=BEGAN,
        by="phone",
    )
    return msgspec.structs.replace(made, **changes)


def approval(name: str = "a-1", **changes: Any) -> Approval:
    """A tool request that waits since `BEGAN`."""
    made = Approval(
        id=ApprovalId(name),
        conversation_id=project_of("p-1"),
        execution_id=ExecutionId("e-1"),
        request_id=f"r-{name}",
        request=tool_request(),
        status=ApprovalStatus.PENDING,
        created_at=BEGAN,
        created_tick=0,
    )
    return msgspec.structs.replace(made, **changes)


def tool_request(**fields: Any) -> bytes:
    """What the CLI asks for, without the envelope."""
    return line(subtype="can_use_tool", tool_name="Bash", input={"command": "date"}, **fields)


def line(**fields: Any) -> bytes:
    """A line of the CLI."""
    return json.dumps(fields).encode()


def numbered_ids() -> Callable[[], ApprovalId]:
    """Ids a-1, a-2, ..."""
    numbers = itertools.count(1)
    return lambda: ApprovalId(f"a-{next(numbers)}")
