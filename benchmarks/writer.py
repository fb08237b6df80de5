"""A CLI that does nothing but write lines: `flood N` as fast as it can, `paced N RATE` at a steady rate.

Each line is 300 bytes with its newline; a paced one carries the time of its writing (monotonic clock,
nanoseconds), which is the same for all processes of a machine.
"""

import json
import os
import sys
import time

LINE_BYTES = 300
_HEAD = '{"type":"user","t":"%020d","text":"'
_FILL = "x" * (LINE_BYTES - len(_HEAD % 0) - 3)
_RESULT = b'{"type":"result","subtype":"success","is_error":false,"result":"done"}\n'


def line(at: int) -> bytes:
    """One line of 300 bytes."""
    return f'{_HEAD % at}{_FILL}"}}\n'.encode()


def flood(count: int) -> None:
    """Write lines in large pieces."""
    piece = line(0) * 1000
    for _ in range(count // 1000):
        os.write(1, piece)


def paced(count: int, rate: int) -> None:
    """Write one line at a time, `rate` a second."""
    begin = time.monotonic()
    for number in range(count):
        pause = begin + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        os.write(1, line(time.monotonic_ns()))


def main() -> None:
    """Serve prompts until the input ends."""
    if "--version" in sys.argv:
        print("9.9.9 (benchmark)")
        return
    for text in sys.stdin:
        message = json.loads(text)
        if message["type"] != "user":
            continue
        match message["message"]["content"].split():
            case ["flood", count]:
                flood(int(count))
            case ["paced", count, rate]:
                paced(int(count), int(rate))
        os.write(1, _RESULT)


if __name__ == "__main__":
    main()
