"""Points at equal steps, in memory of a fixed size."""

from pocket_agent.observability.dashboard import Ring


def filled(points: int) -> Ring:
    """A ring for 4 points of two series, after so many of them."""
    ring = Ring(10, 4, 2)
    for number in range(points):
        ring.add(1000 * number, (number, -number))
    return ring


def test_what_was_added_is_there_in_order() -> None:
    ring = filled(3)
    numbers = ring.numbers(0)
    assert ring.times(numbers) == [0, 1000, 2000]
    assert ring.values(0, numbers) == [0, 1, 2]
    assert ring.values(1, numbers) == [0, -1, -2]


def test_beyond_the_capacity_the_oldest_go() -> None:
    ring = filled(10)
    assert ring.times(ring.numbers(0)) == [6000, 7000, 8000, 9000]
    assert ring.values(0, ring.numbers(8)) == [8, 9]
    assert list(ring.numbers(10)) == []


def test_a_negative_number_means_all_that_is_there() -> None:
    assert list(filled(2).numbers(-50)) == [0, 1]


def test_with_a_stride_who_comes_later_sees_the_same_points() -> None:
    assert list(filled(10).numbers(0, 2)) == [6, 8]
    assert list(filled(10).numbers(7, 2)) == [8]
    assert list(filled(11).numbers(7, 2)) == [8, 10]


def test_the_memory_does_not_grow() -> None:
    assert filled(0).size_bytes == filled(100).size_bytes == 4 * 3 * 8


def test_any_stretch_is_read_as_it_was_added() -> None:
    for points in range(12):
        ring = filled(points)
        for first in range(-1, points + 1):
            for stride in (1, 2, 3):
                numbers = ring.numbers(first, stride)
                assert ring.times(numbers) == [1000 * number for number in numbers]
                assert ring.values(1, numbers) == [-number for number in numbers]
