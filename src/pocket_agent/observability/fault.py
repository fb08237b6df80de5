"""What the log tells of an exception: where it was raised, and what it says if that quotes nobody.

Many exceptions quote the value that they were raised for (`int("...")`, a KeyError, pydantic's), which may be
a prompt or what an agent said. So a message is told only of types whose messages come from the code alone.
"""

import sqlite3
import traceback
from collections.abc import Iterator
from typing import Final

from pocket_agent.errors import PocketAgentError
from pocket_agent.observability.secret import masked

_OWN_WORDS: Final = (PocketAgentError, OSError, sqlite3.Error)
_BUILTIN_OWN_WORDS: Final = (
    ArithmeticError,
    AttributeError,
    ImportError,
    IndexError,
    MemoryError,
    NameError,
    RecursionError,
    TypeError,
    UnicodeError,
)
"""Of these only the types themselves, since a library's subclass may say more."""
_FRAMES: Final = 25
_LINKS: Final = 5
"""How many exceptions of a chain, or of a group, are told."""
_LONGEST_MESSAGE: Final = 500


def error_name(error: BaseException) -> str:
    """The name of an exception's type, with its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def error_message(error: BaseException) -> str:
    """What an exception says, in one line without secrets; empty where it may quote somebody."""
    builtin = type(error).__module__ == "builtins" and isinstance(error, _BUILTIN_OWN_WORDS)
    if not builtin and not isinstance(error, _OWN_WORDS):
        return ""
    return masked(" ".join(str(error).split()))[:_LONGEST_MESSAGE]


def told(error: BaseException) -> str:
    """A traceback as Python prints it, oldest cause first, with no more than the log may hold."""
    parts = []
    for link, joint in _chain(error):
        parts += ["Traceback (most recent call last):\n"] if link.__traceback__ is not None else []
        parts += traceback.format_list(traceback.extract_tb(link.__traceback__, limit=-_FRAMES))
        message = error_message(link)
        parts.append(f"{error_name(link)}: {message}\n" if message else f"{error_name(link)}\n")
        if isinstance(link, BaseExceptionGroup):
            parts += [f"  | {line}\n" for part in link.exceptions[:_LINKS] for line in told(part).splitlines()]
        parts.append(joint)
    return "".join(parts).rstrip("\n")


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exceptions that led to one, the oldest first, and what stands between each and the next."""
    links: list[tuple[BaseException, str]] = [(error, "")]
    while len(links) < _LINKS:
        last = links[-1][0]
        if last.__cause__ is not None:
            links.append((last.__cause__, "\nThe above exception was the direct cause of the following exception:\n\n"))
        elif last.__context__ is not None and not last.__suppress_context__:
            links.append((last.__context__, "\nDuring handling of the above exception, another one occurred:\n\n"))
        else:
            break
    return reversed(links)
