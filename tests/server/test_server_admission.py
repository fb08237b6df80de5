"""How many connections, requests and messages there may be."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.limits import Admission, Bucket, Buckets, Quotas
from pocket_agent.settings import LimitSettings, LiveSettings, Settings, load_settings

PHONE = "192.0.2.7"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock | None = None, *, proxies: tuple[str, ...] = (), **limits: Any) -> Admission:
    """With these limits."""
    settings = Settings().model_copy(
        update={
            "limits": LimitSettings(**limits),
            "server": Settings().server.model_copy(update={"trusted_proxies": proxies}),
        }
    )
    return Admission(settings, clock or Clock())


def test_one_address_has_so_many_connections_and_no_more() -> None:
    doors = admission(connections_per_address=3)
    assert [doors.enter(PHONE) for _ in range(5)] == [True] * 3 + [False] * 2
    assert doors.enter("192.0.2.8")
    assert list(doors.refused()) == [(PHONE, 2)]
    assert list(doors.refused()) == []
    doors.leave(PHONE)
    assert doors.enter(PHONE)
    assert doors.total == 4


def test_an_ipv6_network_is_one_address() -> None:
    doors = admission(connections_per_address=2)
    assert [doors.enter(f"2001:db8:1:2::{number}") for number in range(4)] == [True, True, False, False]
    assert doors.enter("2001:db8:1:3::1")


def test_connections_come_at_a_rate() -> None:
    clock = Clock()
    doors = admission(clock, requests_per_second=2, connections_per_address=1000)
    arrived = sum(doors.enter(PHONE) for _ in range(100))
    assert 20 <= arrived <= 21
    clock.now += 60
    assert doors.enter(PHONE)


def test_this_machine_and_trusted_proxies_are_not_counted() -> None:
    doors = admission(proxies=("10.0.0.1/32",), connections_per_address=1, requests_per_second=0.1)
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1"):
        assert all(doors.enter(address) for _ in range(50))
    doors.request("127.0.0.1")
    doors.request("127.0.0.1")
    with pytest.raises(RateLimitedError):
        for _ in range(3):
            doors.request("10.0.0.1")


def test_all_together_are_bounded_too() -> None:
    doors = admission(max_connections=1)
    entered = sum(doors.enter("127.0.0.1") for _ in range(1000))
    assert entered == 8 + 256
    assert not doors.enter(PHONE)
    doors.leave("127.0.0.1")
    assert doors.enter(PHONE)


def test_requests_wait_as_long_as_it_says() -> None:
    clock = Clock()
    doors = admission(clock, requests_per_second=1)
    with pytest.raises(RateLimitedError) as refused:
        for _ in range(100):
            doors.request(PHONE)
    wait = refused.value.details["retry_after"]
    assert isinstance(wait, int)
    clock.now += wait + 1
    doors.request(PHONE)


def test_addresses_fill_no_memory() -> None:
    doors = admission(requests_per_second=1, max_connections=1_000_000)
    for number in range(20_000):
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        if doors.enter(address):
            doors.leave(address)
        doors.request(address)
    assert len(doors._arrivals) <= 10_000
    assert len(doors._requests) <= 10_000
    assert not doors._open
    few = admission(connections_per_address=1)
    for number in range(5000):
        for _ in range(2):
            few.enter(f"10.0.{number // 256}.{number % 256}")
    assert len(list(few.refused())) <= 1000


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=50))
def test_a_bucket_gives_no_more_than_comes_in(steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    bucket = Bucket(rate=10, burst=50, clock=clock)
    given, largest, started = 0.0, 0.0, clock.now
    for pause, amount in steps:
        clock.now += pause
        if bucket.take(amount):
            given += amount
            largest = max(largest, amount)
        assert given <= 50 + 10 * (clock.now - started) + largest + 1e-6
        assert 0 <= bucket.wait() <= 5


def test_who_ignores_refusals_is_exhausted_and_recovers() -> None:
    clock = Clock()
    bucket = Bucket(rate=10, burst=50, clock=clock)
    taken = 0
    while not bucket.exhausted:
        bucket.take()
        taken += 1
    assert taken == 100
    clock.now += bucket.wait() + 0.1
    assert bucket.take()
    assert not bucket.exhausted


def test_the_idle_longest_are_forgotten_first() -> None:
    buckets = Buckets(1, 1)
    first = buckets.of("first")
    for number in range(9_999):
        buckets.of(str(number))
    assert buckets.of("first") is first
    buckets.of("one more")
    assert buckets.of("first") is first
    assert len(buckets) == 10_000


def test_a_device_has_one_quota_for_all_its_connections() -> None:
    limits = LimitSettings(messages_per_second=1, bytes_per_second=1024, message_size=2048)
    quotas = Quotas(Settings(limits=limits), Clock())
    one, again, other = quotas.of("d-1"), quotas.of("d-1"), quotas.of("d-2")
    assert [one.take(1) for _ in range(3)] == [True] * 3
    assert [again.take(1) for _ in range(3)] == [True, True, False]
    assert again.wait() > 0
    assert other.take(1)


def test_large_messages_use_up_a_quota_too() -> None:
    quota = Quotas(Settings(limits=LimitSettings(bytes_per_second=1024, message_size=1024)), Clock()).of("d-1")
    results = [quota.take(1024) for _ in range(20)]
    assert results[:5] == [True] * 5
    assert results[-1] is False
    assert quota.exhausted


def test_the_largest_message_is_always_possible() -> None:
    quota = Quotas(Settings(limits=LimitSettings(bytes_per_second=1024, message_size=64 * 2**20))).of("d-1")
    assert quota.take(64 * 2**20)
    assert not quota.exhausted


def test_the_clock_is_monotonic_by_default() -> None:
    before = time.monotonic()
    assert Bucket(1, 1)._at >= before


def test_limits_that_change_count_for_those_who_are_known_too() -> None:
    clock = Clock()
    live = LiveSettings(load_settings(config=None, environ={}, flags={"limits.exempt_addresses": []}))
    limited = Admission(live, clock)
    quotas = Quotas(live, clock)
    quota = quotas.of("d-1")
    limited.request("192.0.2.7")
    changed = {
        "limits.exempt_addresses": ["192.0.2.9/32"],
        "limits.requests_per_second": 0.1,
        "limits.messages_per_second": 1,
        "limits.connections_per_address": 1,
    }
    live.loaded = load_settings(config=None, environ={}, flags=changed)
    limited.renew()
    quotas.renew()
    limited.request("192.0.2.7")
    with pytest.raises(RateLimitedError):
        limited.request("192.0.2.7")
    for _ in range(100):
        limited.request("192.0.2.9")
    assert sum(quota.take(1) for _ in range(100)) == 5
    assert limited.enter("192.0.2.8")
    assert not limited.enter("192.0.2.8")
