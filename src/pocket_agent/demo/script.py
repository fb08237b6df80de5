"""What scenarios are written with: their arguments, filler text, and the words for a tool's outcome; pure."""

import re
from itertools import cycle, islice
from typing import Final

from pocket_agent.demo.conversation import ToolResult

MAX_COUNT: Final = 100_000
MAX_SECONDS: Final = 3600.0
MAX_SIZE_BYTES: Final = 64 * 2**20

_UNITS_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_UNITS_BYTES: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20}
_QUANTITY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([a-z]{0,3})")
_QUOTE_CHARACTERS: Final = 400
_FILLER: Final = (
    "the demo model writes one word after another so that you can watch them arrive on every screen at once"
)


class InvalidArgumentError(ValueError):
    """The value after a keyword cannot be used; the message says why."""


def first_word(argument: str) -> str:
    """The argument of a keyword that takes one word; the rest of the line is prose."""
    return argument.split(maxsplit=1)[0].rstrip(".,;:!?)\"'`") if argument.strip() else ""


def count(argument: str, default: int) -> int:
    """A whole number from 1 to `MAX_COUNT`.

    Raises:
        InvalidArgumentError: it is something else.
    """
    word = first_word(argument)
    if not word:
        return default
    if re.fullmatch(r"[0-9]{1,9}", word) is None or not 1 <= int(word) <= MAX_COUNT:
        raise InvalidArgumentError(f"{word[:40]!r} is not a number from 1 to {MAX_COUNT}.")
    return int(word)


def duration_seconds(argument: str, default: float) -> float:
    """A time such as `3s`, `250ms` or `2m`, at most `MAX_SECONDS`.

    Raises:
        InvalidArgumentError: it is something else.
    """
    word = first_word(argument)
    if not word:
        return default
    seconds = _quantity(word, _UNITS_SECONDS, "a time such as 3s, 250ms or 2m")
    if seconds > MAX_SECONDS:
        raise InvalidArgumentError(f"{word[:40]!r} is longer than {MAX_SECONDS:.0f}s.")
    return seconds


def size_bytes(argument: str, default: int) -> int:
    """A size such as `1MiB`, `64KiB` or `1000`, from 1 to `MAX_SIZE_BYTES`.

    Raises:
        InvalidArgumentError: it is something else.
    """
    word = first_word(argument)
    if not word:
        return default
    size = int(_quantity(word, _UNITS_BYTES, "a size such as 1MiB, 64KiB or 1000"))
    if not 1 <= size <= MAX_SIZE_BYTES:
        raise InvalidArgumentError(f"{word[:40]!r} is not between 1 byte and {MAX_SIZE_BYTES // 2**20}MiB.")
    return size


def words(total: int) -> str:
    """A text of exactly `total` words."""
    return " ".join(islice(cycle(_FILLER.split()), total))


def outcome(results: tuple[ToolResult, ...], success: str) -> str:
    """The closing words after a tool was used: what it gave back, or that it failed or was refused."""
    for result in results:
        if result.is_error:
            return f"The tool was refused or failed, so I stop here: {_quote(result.text)}"
    shown = [_quote(result.text) for result in results if result.text]
    return "\n".join([success, *shown])


def _quote(text: str) -> str:
    return text if len(text) <= _QUOTE_CHARACTERS else text[:_QUOTE_CHARACTERS] + " ..."


def _quantity(word: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    found = _QUANTITY.fullmatch(word.lower())
    factor = None if found is None else units.get(found[2])
    if found is None or factor is None:
        raise InvalidArgumentError(f"{word[:40]!r} is not {expected}.")
    return float(found[1]) * factor
