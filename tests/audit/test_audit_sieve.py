"""Which records are written: all of what was done, and a bounded number of refusals and logins."""

import dataclasses

import pytest

from pocket_agent.audit.audit_log import GENESIS, AuditRecord, AuditSampler, bounded, encode

AT = "2030-01-02T03:04:05.678Z"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(address: str = "192.0.2.8", **fields: object) -> AuditRecord:
    """A login with a wrong token."""
    return AuditRecord(AT, "login", "UNAUTHORIZED", address=address, details=fields)


@pytest.mark.parametrize("action", ["execute", "device_revoke", "pair", "approval_respond", "settings_change"])
def test_what_was_done_is_always_written(action: str) -> None:
    sieve, done = AuditSampler(Clock()), AuditRecord(AT, action, by="phone", device_id="d-1", address="192.0.2.7")
    assert all(sieve.take(done) == done for _ in range(10_000))


@pytest.mark.parametrize(
    "cheap",
    [
        refused(),
        AuditRecord(AT, "login", by="phone", device_id="d-1", address="192.0.2.7"),
        AuditRecord(AT, "execute", "FORBIDDEN", by="guest", device_id="d-2", address="192.0.2.7"),
        AuditRecord(AT, "pair", "RATE_LIMITED", address="192.0.2.7"),
    ],
)
def test_what_costs_nothing_is_written_so_often_and_then_once_a_minute(cheap: AuditRecord) -> None:
    clock = Clock()
    sieve = AuditSampler(clock)
    assert sum(sieve.take(cheap) is not None for _ in range(5000)) == 20
    clock.now = 3600.0
    found = [sieve.take(cheap) for _ in range(5000)]
    assert sum(record is not None for record in found) == 20
    assert found[0] is not None
    assert found[0].details == {"left_out": {f"{cheap.action} {cheap.outcome}": 4980}}
    assert sieve.rest() == {f"{cheap.action} {cheap.outcome}": 4980}
    assert sieve.rest() == {}


def test_what_one_does_hides_nothing_of_another() -> None:
    sieve = AuditSampler(Clock())
    for _ in range(1000):
        sieve.take(refused())
    other = sieve.take(refused("192.0.2.9"))
    assert other is not None
    assert other.details == {"left_out": {"login UNAUTHORIZED": 980}}


def test_what_was_counted_together_counts_so_often() -> None:
    sieve = AuditSampler(Clock())
    for _ in range(30):
        sieve.take(refused(count=7))
    assert sieve.rest() == {"login UNAUTHORIZED": 70}


def test_many_addresses_have_one_allowance_and_fill_no_memory() -> None:
    clock = Clock()
    sieve = AuditSampler(clock)
    written = 0
    for number in range(200_000):
        clock.now = number / 10  # ten a second, for more than five hours
        written += sieve.take(refused(f"2001:db8::{number:x}")) is not None
    assert 500 + 2000 - 5 <= written <= 500 + 2000
    assert len(sieve._sources) == 1000


def test_what_a_day_of_refusals_writes() -> None:
    """The figures of docs/audit.md."""

    def login(number: int) -> AuditRecord:
        return refused(f"2001:db8:1234:5678:90ab:cdef:{number % 65536:x}:1", reason="unauthorized")

    def long(size: int) -> AuditRecord:
        return AuditRecord(AT, "execute", "FORBIDDEN", "x" * 200, "d", "::1", "p", {"x": "x" * (size - 100)})

    longest = max(size for size in range(0, 65_536, 64) if "x" in bounded(long(size)).details)

    def request(number: int) -> AuditRecord:
        return dataclasses.replace(long(longest - 100), device_id=f"d-{number}")

    for made, limit in ((login, 3e6), (request, 80e6)):
        clock = Clock()
        sieve, written = AuditSampler(clock), 0
        for second in range(86_400):
            clock.now = float(second)
            record = sieve.take(made(second))
            written += len(encode(bounded(record), 10**6, GENESIS)) + 1 if record is not None else 0
        assert limit / 2 < written < limit


def test_many_kinds_fill_no_memory() -> None:
    sieve = AuditSampler(Clock())
    for number in range(1000):
        for _ in range(22):
            sieve.take(AuditRecord(AT, f"kind-{number}", "FORBIDDEN", address="192.0.2.8"))
    rest = sieve.rest()
    assert len(rest) == 101
    assert rest["others"] > 0
