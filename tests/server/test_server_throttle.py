"""Whoever fails often waits."""

from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.limits import Throttle
from pocket_agent.server.peer import source_of

ADDRESS = "192.0.2.7"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait(throttle: Throttle, address: str = ADDRESS) -> int:
    """How long this address is to wait."""
    try:
        throttle.check(address)
    except RateLimitedError as error:
        found = error.details["retry_after"]
        assert isinstance(found, int)
        assert str(found) in error.message
        return found
    return 0


def test_a_few_failures_cost_nothing_and_each_further_one_twice_as_much() -> None:
    throttle = Throttle(Clock())
    waits = []
    for _ in range(16):
        throttle.failed(ADDRESS)
        waits.append(wait(throttle))
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert wait(throttle, "192.0.2.8") == 0, "nobody else waits"


def test_the_wait_ends_and_an_hour_later_all_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(7):
        throttle.failed(ADDRESS)
    assert wait(throttle) == 2
    clock.now += 2.1
    assert wait(throttle) == 0
    throttle.failed(ADDRESS)
    assert wait(throttle) == 4
    clock.now += 3700
    throttle.failed(ADDRESS)
    assert wait(throttle) == 0


def test_who_gets_in_begins_anew() -> None:
    throttle = Throttle(Clock())
    for _ in range(9):
        throttle.failed(ADDRESS)
    throttle.succeeded(ADDRESS)
    assert wait(throttle) == 0
    assert len(throttle) == 0


def test_an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4() -> None:
    assert source_of("2001:db8:1:2::1") == source_of("2001:db8:1:2:ffff::9") != source_of("2001:db8:1:3::1")
    assert source_of("::ffff:192.0.2.7") == source_of("192.0.2.7") == "192.0.2.7"
    assert source_of("fe80::1%eth0") == source_of("fe80::2")
    assert source_of("") == ""


def test_many_addresses_fill_no_memory_and_the_oldest_is_forgotten() -> None:
    throttle = Throttle(Clock())
    for _ in range(9):
        throttle.failed(ADDRESS)
    for number in range(20_000):
        throttle.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(throttle) == 10_000
    assert wait(throttle) == 0


@given(st.text(max_size=50))
def test_any_text_is_a_source(address: str) -> None:
    throttle = Throttle(Clock())
    throttle.failed(address)
    throttle.check(address)
    throttle.succeeded(address)
