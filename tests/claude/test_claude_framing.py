"""Lines come out whole, in order and with their place in the stream, however the bytes arrive."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.stream import Line, LineFramer, Oversized

MAX_LINE = 8


def expected(stream: bytes, start: int = 0) -> list[Line | Oversized]:
    """The slow and obvious way."""
    lines: list[Line | Oversized] = []
    end = start
    for piece in stream.split(b"\n")[:-1]:
        end += len(piece) + 1
        line = piece.removesuffix(b"\r")
        if len(line) > MAX_LINE:
            lines.append(Oversized(len(line), end))
        elif line:
            lines.append(Line(line, end))
    return lines


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[low:high] for low, high in pairwise(edges)]


STREAMS = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc", b"0123456", b"x" * 40, b"\xff"])).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 500)), st.integers(0, 2**40))
def test_any_chunking_gives_the_same_lines(stream: bytes, places: list[int], start: int) -> None:
    framer = LineFramer(MAX_LINE, start=start)
    lines = [line for chunk in cut(stream, places) for line in framer.feed(chunk)]
    assert lines == expected(stream, start)
    complete, newline, rest = stream.rpartition(b"\n")
    assert framer.pending == len(rest)
    assert framer.consumed == start + len(complete) + len(newline)


@given(STREAMS, st.lists(st.integers(0, 500)))
def test_reading_on_from_any_end_gives_the_rest(stream: bytes, places: list[int]) -> None:
    whole = expected(stream)
    for number, line in enumerate(whole):
        framer = LineFramer(MAX_LINE, start=line.end)
        rest = [later for chunk in cut(stream[line.end :], places) for later in framer.feed(chunk)]
        assert rest == whole[number + 1 :]


@given(STREAMS, st.lists(st.integers(0, 500)))
def test_memory_is_bounded(stream: bytes, places: list[int]) -> None:
    framer = LineFramer(MAX_LINE)
    for chunk in cut(stream, places):
        framer.feed(chunk)
        assert sum(map(len, framer._parts)) <= MAX_LINE + 1


def test_a_line_of_exactly_the_limit_passes_with_either_line_end() -> None:
    framer = LineFramer(MAX_LINE)
    assert framer.feed(b"12345678\n12345678\r\n123456789\n") == [
        Line(b"12345678", 9),
        Line(b"12345678", 19),
        Oversized(9, 29),
    ]


def test_a_line_of_100_megabytes_becomes_one_note_and_the_stream_goes_on() -> None:
    framer = LineFramer(1024)
    chunk = b"x" * 1_000_000
    assert all(framer.feed(chunk) == [] for _ in range(100))
    assert framer.pending == 100_000_000
    assert framer.feed(b"\nnext\n") == [Oversized(100_000_000, 100_000_001), Line(b"next", 100_000_006)]


def test_the_end_of_the_stream_completes_the_last_line() -> None:
    framer = LineFramer(MAX_LINE)
    assert framer.feed(b"a\nhalf") == [Line(b"a", 2)]
    assert framer.finish() == [Line(b"half", 6)]
    assert framer.finish() == []
    assert framer.consumed == 6


def test_the_end_of_the_stream_completes_an_oversized_line() -> None:
    framer = LineFramer(MAX_LINE)
    framer.feed(b"x" * 50)
    assert framer.finish() == [Oversized(50, 50)]


def test_empty_lines_are_skipped_but_counted() -> None:
    framer = LineFramer(MAX_LINE)
    assert framer.feed(b"\n\r\n\na\n\n") == [Line(b"a", 6)]
    assert framer.consumed == 7
