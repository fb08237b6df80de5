"""Which trace an execution belongs to, and whether it is kept; a pure function of what names it.

Ids come out of the execution's own id by hash. So whoever asks gets the same answer at any time, also
from a server that was killed and started again in the middle: one trace, and no span without its parent.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from pocket_agent.model import ExecutionContext
from pocket_agent.observability.identity import TraceIdentity

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 1
"""The flag of a trace that is kept (W3C Trace Context, section 3.2.2.5)."""


class RemoteSpan(NamedTuple):
    """The span of a client that an execution belongs to; ids as in `TraceIdentity`."""

    trace_id: str
    span_id: str
    sampled: bool


@dataclass(frozen=True, slots=True)
class Sampler:
    """Decides which executions are traced.

    Attributes:
        ratio: the share of them, from 0 to 1.
        parent_based: whether the flag of the client's trace decides where there is one.
    """

    ratio: float = 1.0
    parent_based: bool = True

    def keeps(self, trace_id: str, parent: RemoteSpan | None) -> bool:
        """Whether the trace is kept; the same answer as any SDK gives that samples by trace id."""
        if parent is not None and self.parent_based:
            return parent.sampled
        return int(trace_id[16:], 16) < round(self.ratio * 2**64)


def remote_span(traceparent: str | None) -> RemoteSpan | None:
    """Read a `traceparent` (W3C Trace Context, sections 3.2 and 4.3); None for one that is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return RemoteSpan(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def identify(context: ExecutionContext, sampler: Sampler) -> TraceIdentity:
    """The span `claude.execute` of an execution."""
    parent = remote_span(context.traceparent)
    trace_id = parent.trace_id if parent is not None else _digest(context, "trace", 16)
    return TraceIdentity(trace_id, span_id(context, "execute"), sampler.keeps(trace_id, parent))


def span_id(context: ExecutionContext, key: str) -> str:
    """The id of a span of an execution; `key` tells it from the others of the same execution."""
    return _digest(context, f"span:{key}", 8)


def traceparent(identity: TraceIdentity) -> str:
    """The same as the header that hands a trace on (W3C Trace Context, section 3.2)."""
    return f"00-{identity.trace_id}-{identity.span_id}-{int(identity.sampled):02x}"


def _digest(context: ExecutionContext, salt: str, length: int) -> str:
    """So many bytes, in hexadecimal. All zeros, which no id may be, are as likely as a collision."""
    return sha256(f"{context.execution_id}:{salt}".encode()).hexdigest()[: 2 * length]
