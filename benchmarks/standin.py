"""A CLI that writes as fast as it can, or at a pace: `flood N`, `pace N PER_SECOND`, `say`.

Its lines have 300 bytes and bear the time (nanoseconds of the machine's monotonic clock) at which
they were written. It runs without the package, by `python -S`.
"""

import json
import os
import sys
import time
from typing import Any

LINE_BYTES = 300
LINES_PER_WRITE = 200


def line(number: int, at: int) -> bytes:
    """One line of 300 bytes with its newline."""
    text = b'{"type":"user","number":%09d,"at":%019d,"text":"' % (number, at)
    return text + b"x" * (LINE_BYTES - len(text) - 3) + b'"}\n'


def write(data: bytes) -> None:
    """Write everything to the output."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def emit(**fields: Any) -> None:
    """Write one line."""
    write(json.dumps(fields).encode() + b"\n")


def flood(count: int) -> None:
    """Lines as fast as the file takes them; made before the first one is written."""
    numbers = range(1, count + 1)
    blocks = [
        b"".join(line(number, 0) for number in numbers[start : start + LINES_PER_WRITE])
        for start in range(0, count, LINES_PER_WRITE)
    ]
    emit(type="user", begin=time.monotonic_ns())
    for block in blocks:
        write(block)


def pace(count: int, per_second: int) -> None:
    """One line after the other, each in a write of its own."""
    begun = time.monotonic_ns()
    for number in range(1, count + 1):
        due = begun + number * 1_000_000_000 // per_second
        left = due - time.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)
        write(line(number, time.monotonic_ns()))


def main() -> None:
    """Serve prompts until the input ends."""
    if "--version" in sys.argv:
        print("9.9.9 (stand-in)")
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # not on the core that the server was given
    for text in sys.stdin:
        message = json.loads(text)
        if message["type"] == "control_request":
            emit(type="control_response", response={"subtype": "success", "request_id": message["request_id"]})
            continue
        emit(type="system", subtype="init", session_id="11111111-2222-4333-8444-555555555555")
        match message["message"]["content"].split():
            case ["flood", count]:
                flood(int(count))
            case ["pace", count, per_second]:
                pace(int(count), int(per_second))
        emit(type="result", subtype="success", is_error=False, result="done")


if __name__ == "__main__":
    main()
