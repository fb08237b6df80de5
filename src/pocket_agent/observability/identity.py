"""What ties a log line and an exemplar to a trace."""

from collections.abc import Callable
from typing import NamedTuple

from pocket_agent.model import ExecutionContext


class TraceIdentity(NamedTuple):
    """The span of an execution.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        span_id: 16 of them.
        sampled: whether the span is exported.
    """

    trace_id: str
    span_id: str
    sampled: bool


Identify = Callable[[ExecutionContext], TraceIdentity | None]
"""The span of an execution, the same one at each call; None when tracing is off."""


def untraced(_: ExecutionContext) -> None:
    """The `Identify` of a server that does not trace."""
    return
