"""pocket_agent.config.unit: durations and sizes."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.config.unit import (
    MAX_DURATION,
    MAX_SIZE,
    RefusedError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("0", 0.0),
        (" 90 ", 90.0),
        ("0.1s", 0.1),
        (90, 90.0),
        (1.25, 1.25),
        (0, 0.0),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "5M", "5 m", "m", "5:30", "1_000", "1e3", "inf", "nan", "-5s", "-1", "5m-", "\u0661s",
        "5mm", "3651d",
        "9" * 21, "9" * 5000, "1" * 20 + "d", "1m" * 100, True, None, [], {}, -1, -0.5,
        math.inf, -math.inf, math.nan, 10**400, b"5m",
    ],
)  # fmt: skip
def test_other_durations_are_refused(value: object) -> None:
    with pytest.raises(RefusedError):
        parse_duration(value)


@UNHURRIED
@given(st.floats(min_value=0, max_value=MAX_DURATION))
def test_a_printed_duration_reads_back_as_the_same(value: float) -> None:
    seconds = parse_duration(value)
    assert parse_duration(format_duration(seconds)) == seconds
    assert abs(seconds - value) <= 0.000_001


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"), (0.5, "500ms"), (0.000_25, "0.00025s"), (30.0, "30s"), (61.0, "61s"), (5400.0, "90m"),
        (86_400.0, "1d"), (90 * 86_400.0, "90d"), (MAX_DURATION, "3650d"),
    ],
)  # fmt: skip
def test_durations_are_printed_with_the_largest_exact_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("1MiB", 2**20),
        ("512KiB", 2**19),
        ("1GB", 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("1kB", 1000),
        ("2mib", 2**21),
        ("7B", 7),
        ("0", 0),
        (4096, 4096),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        "", "MiB", "1M", "1K", "1 G", "1MiBs", "0.3KiB", "0.5", "-1", "-1MiB", "1e6", "0x10", "2PiB",
        "1,5MiB",
        "9" * 5000, True, None, 1.0, 1.5, math.nan, -1, 2**50 + 1, [], b"1",
    ],
)  # fmt: skip
def test_other_sizes_are_refused(value: object) -> None:
    with pytest.raises(RefusedError):
        parse_size(value)


@UNHURRIED
@given(st.integers(min_value=0, max_value=MAX_SIZE))
def test_a_printed_size_reads_back_as_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1000, "1kB"), (1024, "1KiB"), (2**30, "1GiB"), (1_000_000, "1MB")],
)
def test_sizes_are_printed_with_the_largest_exact_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@UNHURRIED
@given(st.text() | st.integers() | st.floats())
def test_anything_else_is_refused_and_nothing_more(value: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            parsed = parse(value)
        except RefusedError:
            continue
        assert 0 <= parsed <= max(MAX_DURATION, MAX_SIZE)
