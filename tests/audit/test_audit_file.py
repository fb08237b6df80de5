"""The audit log as a file: its chain, its mode, who writes it, and how each kind of tampering shows."""

import dataclasses
import errno
import json
import multiprocessing
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.audit.audit_log import EMPTY, GENESIS, MAX_LINE, AuditRecord, Head, append, bounded, digest_of, encode
from pocket_agent.audit.verification import Verification, verify
from tests.harness import DEADLINE_SECONDS

AT = "2030-01-02T03:04:05.678Z"


def record(number: int = 1, **fields: Any) -> AuditRecord:
    """One of several."""
    return AuditRecord(AT, f"action-{number}", **fields)


def written(path: Path, count: int = 5) -> Head:
    """A log of so many records, in two goes."""
    head = append(path, [record(number) for number in range(1, count)], EMPTY)
    return append(path, [record(count)], head)


def lines(path: Path) -> list[bytes]:
    """The lines, each with its end."""
    return path.read_bytes().splitlines(keepends=True)


def test_a_record_is_a_line_that_names_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = append(path, [record(by="phone", address="192.0.2.7", details={"execution_id": "e"}), record(2)], EMPTY)
    first, second = (json.loads(line) for line in lines(path))
    assert first == {
        "seq": 1,
        "time": AT,
        "action": "action-1",
        "outcome": "ok",
        "by": "phone",
        "address": "192.0.2.7",
        "details": {"execution_id": "e"},
        "prev": GENESIS,
    }
    assert second["prev"] == digest_of(lines(path)[0].rstrip(b"\n"))
    assert head == Head(2, digest_of(lines(path)[1].rstrip(b"\n")))
    assert verify(path, head) == Verification(2, AT, AT, 0, ())


def test_what_was_written_is_never_written_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    for end, torn in ((None, b""), (None, b"torn"), (-60, b"")):
        before = path.read_bytes()[:end] + torn
        path.write_bytes(before)
        head = append(path, [record(6)], head)
        assert path.read_bytes().startswith(before)


def test_it_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    before = os.umask(0)
    try:
        head = append(path, [record()], EMPTY)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        append(path, [record()], head)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_it_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r".") as refused:
        append(tmp_path / "audit.log", [record()], EMPTY)
    assert refused.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_its_place_does_not_stop_the_server(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log")
    trying = threading.Thread(target=_append_long, args=(tmp_path / "audit.log",), daemon=True)
    trying.start()
    trying.join(DEADLINE_SECONDS)
    assert not trying.is_alive()


def _append_long(path: Path) -> None:
    long = dataclasses.replace(record(), details={"long": "x" * 8000})
    with pytest.raises(OSError, match=r"."):
        append(path, [long] * 100, EMPTY)


@given(st.text(), st.dictionaries(st.text(), st.text() | st.none() | st.integers()))
def test_nothing_breaks_a_line_or_colours_a_terminal(text: str, details: dict[str, Any]) -> None:
    line = encode(AuditRecord(AT, text, text, text, text, text, text, details), 7, GENESIS)
    assert all(0x20 <= byte < 0x7F for byte in line)
    assert json.loads(line)["by"] == text


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "the first is removed": (lambda rows: rows[1:], "does not follow|missing"),
    "one in the middle is removed": (lambda rows: [*rows[:2], *rows[3:]], "1 records are missing"),
    "the last is removed": (lambda rows: rows[:-1], "1 more are missing"),
    "the end is removed": (lambda rows: rows[:2], "3 more are missing"),
    "all are removed": (lambda rows: [], "5 more are missing"),
    "one is changed": (
        lambda rows: [*rows[:2], rows[2].replace(b"action-3", b"action-X"), *rows[3:]],
        "line 4 does not",
    ),
    "the last is changed": (lambda rows: [*rows[:4], rows[4].replace(b"action-5", b"action-X")], "not the one that"),
    "two are swapped": (lambda rows: [rows[0], rows[2], rows[1], *rows[3:]], "does not follow"),
    "one is doubled": (lambda rows: [*rows[:2], rows[1], *rows[2:]], "does not follow"),
    "one is put in": (lambda rows: [*rows[:2], encode(record(9), 3, "0" * 64) + b"\n", *rows[2:]], "does not follow"),
    "one is cut": (lambda rows: [*rows[:4], rows[4][:20]], "has no end|not a record"),
    "one is no JSON": (lambda rows: [*rows[:2], b"{\n", *rows[3:]], "not a record"),
    "one is another JSON": (lambda rows: [*rows[:2], b"[1]\n", *rows[3:]], "not a record"),
    "one is deep": (lambda rows: [*rows[:2], b"[" * 100_000 + b"\n", *rows[3:]], "not a record"),
    "one is not UTF-8": (lambda rows: [*rows[:2], b'{"seq":"\xff"}\n', *rows[3:]], "not a record"),
    "an empty one is put in": (lambda rows: [*rows[:2], b"\n", *rows[2:]], "not a record"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_shows(tmp_path: Path, case: str) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    assert verify(path, head).problems == ()
    change, says = TAMPERING[case]
    path.write_bytes(b"".join(change(lines(path))))
    problems = verify(path, head).problems
    assert problems
    assert any(part in problem for problem in problems for part in says.split("|")), problems


def test_a_chain_of_ones_own_does_not_fit_the_database(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    path.unlink()
    written(path, 4)
    append(path, [record(77)], EMPTY)
    assert any("not the one that the database knows" in problem for problem in verify(path, head).problems)


def test_who_writes_the_file_and_the_database_is_seen_by_a_copy_alone(tmp_path: Path) -> None:
    """The limit that docs/audit.md names, and what helps against it: a copy of the lines on another machine."""
    path = tmp_path / "audit.log"
    written(path)
    copied = lines(path)[-1]
    path.unlink()
    forged = append(path, [record(number) for number in (1, 9, 3, 4, 5)], EMPTY)
    assert verify(path, forged).problems == ()
    seen = Head(json.loads(copied)["seq"], digest_of(copied.rstrip(b"\n")))
    assert verify(path, seen).problems == ("record 5 is not the one that the database knows",)


def test_a_log_that_was_moved_away_begins_anew_and_verify_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    known = written(path)
    path.rename(tmp_path / "old.log")
    head = append(path, [record(6)], known)
    assert [json.loads(line)["action"] for line in lines(path)] == ["tampered", "action-6"]
    assert any("5 records are missing" in problem for problem in verify(path, head).problems)
    assert verify(tmp_path / "old.log", known).problems == (), "with the database of that time it is whole"


def test_a_log_that_is_ahead_of_the_database_is_whole(tmp_path: Path) -> None:
    """The server was killed between the file and the database."""
    path = tmp_path / "audit.log"
    known = append(path, [record(1)], EMPTY)
    append(path, [record(2)], known)
    assert verify(path, known).problems == ()
    assert verify(path, EMPTY).problems == ()


def test_a_cut_shows_for_ever(tmp_path: Path) -> None:
    """Numbers go on behind what the database knows, so that the gap is not closed by what comes later."""
    path = tmp_path / "audit.log"
    head = written(path)
    path.write_bytes(b"".join(lines(path)[:2]))
    later = append(path, [record(6)], head)
    assert later.seq == 7, "behind one that notes that the log was tampered with"
    assert any("3 records are missing" in problem for problem in verify(path, later).problems)


TORN = [
    b'{"seq":6,"ti',
    b"{",
    b'{"seq":6,"action":"action-6","prev":"' + b"0" * 64 + b'"',
    b"\0" * 100_000,
    b"x" * (9 * MAX_LINE),
    "ä".encode()[:1],
]


@pytest.mark.parametrize("number", range(len(TORN)))
@pytest.mark.parametrize("empty", [False, True])
def test_what_a_crash_has_left_of_a_line_is_told_by_the_next(tmp_path: Path, number: int, empty: bool) -> None:
    path = tmp_path / "audit.log"
    head = EMPTY if empty else written(path)
    with path.open("ab") as opened:
        opened.write(TORN[number])
    assert verify(path, head).problems, "until somebody writes again nobody knows that it was a crash"
    head = append(path, [record(6)], head)
    rows = [json.loads(line) for line in lines(path)[-2:]]
    assert [row["action"] for row in rows] == ["torn", "action-6"]
    assert rows[0]["details"] == {"bytes": len(TORN[number]), "sha256": digest_of(TORN[number])}
    assert verify(path, head) == Verification(2 if empty else 7, AT, AT, 1, ())
    with path.open("ab") as opened:
        opened.write(b"once more")
    head = append(path, [record(7)], head)
    assert verify(path, head).torn == 2
    assert verify(path, head).problems == ()


def test_what_is_torn_twice_before_anybody_writes_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    with path.open("ab") as opened:
        opened.write(b"one\ntwo\n")
    head = append(path, [record(6)], head)
    assert (verify(path, head).torn, verify(path, head).problems) == (1, ())


def test_a_line_that_is_whole_but_for_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert append(path, [record(6)], head).seq == 6
    assert verify(path, head) == Verification(6, AT, AT, 0, ())


def test_nobody_makes_a_crash_of_a_record_that_was_known(tmp_path: Path) -> None:
    """Its line is cut, or replaced by another text: what is written behind it does not excuse that."""
    for change in (lambda line: line[:20], lambda line: b"nonsense\n"):
        path = tmp_path / "audit.log"
        head = written(path)
        path.write_bytes(b"".join(lines(path)[:4]) + change(lines(path)[4]))
        later = append(path, [record(6)], head)
        assert any("1 records are missing" in problem for problem in verify(path, later).problems)
        path.unlink()


def test_nobody_explains_away_a_line_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    head = append(
        path, [record(1), AuditRecord(AT, "torn", details={"bytes": 3, "sha256": "0" * 64}), record(2)], EMPTY
    )
    rows = lines(path)
    path.write_bytes(rows[0] + b"abc\n" + b"".join(rows[1:]))
    assert any("not a record" in problem for problem in verify(path, head).problems)


def test_a_log_is_verified_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_many, args=(path, 300))
    writer.start()
    looks = 0
    while writer.is_alive():
        if path.exists():
            assert verify(path, EMPTY).problems == ()
            looks += 1
    assert writer.exitcode == 0
    assert looks > 0


LONG: list[dict[str, object]] = [
    {"options": {"add_dirs": ["/" + "😀" * 4095] * 50}},
    {"projects": ["p" * 200] * 1000},
    {"path": "\x1b" * 4096},
]


@pytest.mark.parametrize("number", range(len(LONG)))
def test_no_request_makes_a_long_line(tmp_path: Path, number: int) -> None:
    """So the next writer always finds the last one, and nobody fills the disk."""
    path = tmp_path / "audit.log"
    head = append(path, [AuditRecord(AT, "x", by="😀" * 9000, details=LONG[number]), record(2)], EMPTY)
    assert all(len(line) < MAX_LINE for line in lines(path))
    first = json.loads(lines(path)[0])
    assert set(first["details"]) == {"too_long"}
    assert len(first["by"]) == 200
    assert verify(path, append(path, [record(3)], head)) == Verification(3, AT, AT, 0, ())


def test_what_was_left_out_is_told_next_to_details_that_are_too_long() -> None:
    found = bounded(AuditRecord(AT, "x", details={**LONG[0], "left_out": {"login UNAUTHORIZED": 3}})).details
    assert set(found) == {"too_long", "left_out"}
    assert found["left_out"] == {"login UNAUTHORIZED": 3}


def test_what_is_bounded_is_bounded_again_to_the_same() -> None:
    long = AuditRecord(AT, "x", details=LONG[0])
    assert bounded(bounded(long)) == bounded(long)
    assert bounded(record(details={"a": 1})) == record(details={"a": 1})


@given(*(st.text(min_size=200, max_size=200) for _ in range(2)), st.text(min_size=500, max_size=700))
def test_the_longest_line_is_as_long_as_it_may_be(first: str, second: str, text: str) -> None:
    long = AuditRecord(first, second, first, second, first, second, first, {"a": text})
    assert len(encode(bounded(long), 10**12, GENESIS)) < MAX_LINE


def test_a_disk_that_fills_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    head = written(path)
    whole = path.read_bytes()
    write, calls = os.write, []

    def refuse(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:10])

    monkeypatch.setattr("pocket_agent.audit.audit_log.os.write", refuse)
    with pytest.raises(OSError, match="No space"):
        append(path, [record(6)], head)
    monkeypatch.undo()
    assert path.read_bytes() == whole
    assert verify(path, append(path, [record(6)], head)).problems == ()


def _write_many(path: Path, count: int) -> None:
    for number in range(count):
        append(path, [record(number)], EMPTY)


def test_several_programs_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, 30)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert verify(path, EMPTY) == Verification(120, AT, AT, 0, ())


def test_only_so_many_problems_are_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"x\n" * 1000)
    problems = verify(path, EMPTY).problems
    assert len(problems) == 21
    assert problems[-1] == "and 980 more problems"


def test_who_writes_the_file_alone_cannot_rewrite_the_chain(tmp_path: Path) -> None:
    """The next record goes on from what the server knows, not from what the file says."""

    def rewritten(kept: list[bytes]) -> bytes:
        """A chain that is whole in itself, with another record in the middle."""
        prev, text = GENESIS, b""
        for number, line in enumerate(kept, 1):
            fields = json.loads(line) | {"action": "nothing"} if number == 3 else json.loads(line)
            made = json.dumps(fields | {"prev": prev}, separators=(",", ":")).encode()
            prev, text = digest_of(made), text + made + b"\n"
        return text

    changes: dict[str, Callable[[list[bytes]], bytes]] = {
        "rewritten": rewritten,
        "shortened": lambda kept: b"".join(kept[:-1]),
        "emptied": lambda _: b"",
        "last changed": lambda kept: b"".join(kept[:-1]) + kept[-1].replace(b"action-5", b"action-6"),
        "rewritten and longer": lambda kept: rewritten([*kept, kept[-1].replace(b'"seq":5', b'"seq":6')]),
    }
    for name, change in changes.items():
        path = tmp_path / f"{name}.log"
        known = written(path)
        path.write_bytes(change(lines(path)))
        head = append(path, [record(6)], known)
        assert [json.loads(line)["action"] for line in lines(path)[-2:]] == ["tampered", "action-6"], name
        assert verify(path, head).problems, name
        after = append(path, [record(7)], head)
        assert json.loads(lines(path)[-1])["action"] == "action-7", name
        assert [json.loads(line)["action"] for line in lines(path)].count("tampered") == 1, name
        assert verify(path, after).problems, "it stays broken at that place"


def test_records_of_a_process_that_did_not_store_the_head_are_no_tampering(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    known = written(path)
    append(path, [record(6), record(7)], known)  # and killed
    head = append(path, [record(8)], known)
    assert head.seq == 8
    assert verify(path, head).problems == ()
