"""pocket_agent.load.tally: what failed, by a name that tells one fault from another."""

import pytest

from pocket_agent.client import CertificateError, ConnectionLostError, ProtocolViolationError, UnreachableError
from pocket_agent.errors import InternalError, PocketAgentError, RateLimitedError
from pocket_agent.load.plan import Kind
from pocket_agent.load.tally import Tally, fault_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimitedError("slower"), "RATE_LIMITED"),
        (InternalError("oh"), "INTERNAL_ERROR"),
        (TimeoutError("late"), "TIMEOUT"),
        (ConnectionLostError("gone"), "CONNECTION_LOST"),
        (UnreachableError("nobody"), "UNREACHABLE"),
        (CertificateError("whose"), "CERTIFICATE"),
        (ProtocolViolationError("what"), "PROTOCOL_VIOLATION"),
    ],
)
def test_the_name_of_a_fault(error: PocketAgentError | TimeoutError, code: str) -> None:
    assert fault_code(error) == code


def test_faults_are_counted_by_kind_and_by_code_and_the_first_is_quoted() -> None:
    tally = Tally()
    tally.fault(Kind.LIST, RateLimitedError("slower"))
    tally.fault(Kind.JOIN, RateLimitedError("much slower"))
    tally.not_sent(Kind.JOIN)
    tally.unconnected(UnreachableError("nobody"))
    assert tally.failed == {Kind.LIST: 1, Kind.JOIN: 2}
    assert tally.errors == {"RATE_LIMITED": 2, "NOT_SENT": 1}
    assert tally.unopened == {"UNREACHABLE": 1}
    assert tally.said["RATE_LIMITED"] == "slower"
    assert tally.said["UNREACHABLE"] == "nobody"
