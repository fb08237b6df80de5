"""pocket_agent.observability.tracing: the ids of a trace, and which traces are kept."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pocket_agent.model import ExecutionContext, ExecutionId, ProjectId
from pocket_agent.observability.tracing import TraceSampler, remote_span, span_id, trace_identity, traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CLIENT = f"00-{TRACE}-{SPAN}-01"


def context(traceparent: str | None = None, execution_id: str | None = None) -> ExecutionContext:
    """What names an execution, a new one unless its id is given."""
    return ExecutionContext(ProjectId("p"), ExecutionId(execution_id or str(uuid.uuid4())), "c", traceparent)


def test_the_ids_follow_from_the_execution_alone() -> None:
    one = trace_identity(context(execution_id="e"), TraceSampler())
    assert trace_identity(context(execution_id="e"), TraceSampler()) == one
    other = trace_identity(context(execution_id="f"), TraceSampler())
    assert len({one.trace_id, other.trace_id, one.span_id, other.span_id}) == 4
    assert (len(one.trace_id), len(one.span_id)) == (32, 16)
    keys = ["execute", "queue", "prepare", "commit:1", "commit:2"]
    assert len({span_id(context(execution_id="e"), key) for key in keys}) == len(keys)


def test_the_clients_trace_is_continued() -> None:
    identity = trace_identity(context(CLIENT), TraceSampler(0.0))
    assert (identity.trace_id, identity.sampled) == (TRACE, True)
    assert identity.span_id != SPAN
    assert traceparent(identity) == f"00-{TRACE}-{identity.span_id}-01"
    two = [trace_identity(context(CLIENT, execution_id), TraceSampler()) for execution_id in "ab"]
    assert two[0].span_id != two[1].span_id


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (CLIENT, True),
        (CLIENT[:-2] + "00", False),
        (CLIENT[:-2] + "ff", True),
        (CLIENT[:-2] + "fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_header_is_read(header: str, sampled: bool) -> None:
    assert remote_span(header) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        CLIENT.upper(),
        CLIENT + "-01",
        CLIENT + "\n",
        " " + CLIENT,
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        "\u0660" * 55,
    ],
)
def test_a_malformed_header_counts_as_none(header: str | None) -> None:
    assert remote_span(header) is None
    assert trace_identity(context(header, "e"), TraceSampler()) == trace_identity(context(None, "e"), TraceSampler())


@given(
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9a-f]{0,4})?", fullmatch=True)
    | st.text("0f-1", min_size=50, max_size=60)
)
def test_headers_are_read_as_the_sdk_does(header: str) -> None:
    theirs = TraceContextTextMapPropagator().extract({"traceparent": header})
    (span,) = [value.get_span_context() for value in theirs.values()] or [None]  # type: ignore[attr-defined]
    ours = remote_span(header)
    if span is None or ours is None:
        assert span is None
        assert ours is None
    else:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (span.trace_id, span.span_id)
        assert ours.sampled == span.trace_flags.sampled


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 0.001, 0.25, 0.5, 1 / 3, 0.999, 1.0]))
def test_a_ratio_decides_as_the_sdk_does(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    assert TraceSampler(ratio).keeps(f"{trace_id:032x}", None) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_ratio_keeps_its_share() -> None:
    kept = sum(trace_identity(context(execution_id=f"e{number}"), TraceSampler(0.25)).sampled for number in range(4000))
    assert 900 < kept < 1100  # the same ids each time, so the same share


def test_without_parent_the_ratio_decides() -> None:
    assert trace_identity(context(), TraceSampler(1.0)).sampled
    assert not trace_identity(context(), TraceSampler(0.0)).sampled
    assert not trace_identity(context(CLIENT[:-2] + "00"), TraceSampler(1.0)).sampled


def test_a_sampler_may_ignore_the_client() -> None:
    assert not trace_identity(context(CLIENT), TraceSampler(0.0, parent_based=False)).sampled
    assert trace_identity(context(CLIENT[:-2] + "00"), TraceSampler(1.0, parent_based=False)).sampled
