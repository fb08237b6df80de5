"""Removes secrets and quoted values from text that goes into the log.

Many exceptions quote the value that they were raised for (`int("...")`, a KeyError, pydantic's), which may
be a prompt or the agent's output. So messages are logged only of exception types whose messages contain
nothing but text of the code.
"""

import re
import sqlite3
import traceback
from collections.abc import Iterator
from typing import Final

from pocket_agent.errors import PocketAgentError

_TOKEN: Final = re.compile(r"\bpa_[\w-]+")  # a device's token (server/auth.py)
_CREDENTIALS: Final = re.compile(r"\b(bearer|basic|digest)\s+[^\s'\",;]+", re.IGNORECASE)
_URL: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s/?#'\"]*)([/?#][^\s'\"]*)?", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"([\w-]*(?:token|secret|password|passwd|api[-_]?key|authorization|cookie)[\w-]*['\"]?\s*[:=]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s,;&]+)",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"")


def redact(text: str) -> str:
    """The text without tokens and credentials, and URLs reduced to scheme, host and port."""
    text = _TOKEN.sub("pa_…", text)
    text = _CREDENTIALS.sub(r"\1 …", text)
    text = _URL.sub(lambda found: found[1] + found[2] + ("/…" if found[3] else ""), text)
    return _NAMED.sub(r"\1…", text)


def strip_quotations(text: str) -> str:
    """The text without quoted values, as messages and `repr`s contain them."""
    return _QUOTED.sub("'…'", text)


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
"""Only the builtin types themselves, since a library's subclass may quote values."""
_MAX_FRAMES: Final = 25
_MAX_CHAIN: Final = 5  # logged exceptions of a chain, or of a group
_MAX_MESSAGE: Final = 500


def error_name(error: BaseException) -> str:
    """The name of an exception's type, with its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def error_message(error: BaseException) -> str:
    """The message of an exception, in one line without secrets; empty where it may quote a value."""
    builtin = type(error).__module__ == "builtins" and isinstance(error, _BUILTIN_OWN_WORDS)
    if not builtin and not isinstance(error, _OWN_WORDS):
        return ""
    return redact(" ".join(str(error).split()))[:_MAX_MESSAGE]


def redacted_traceback(error: BaseException) -> str:
    """A traceback as Python prints it, oldest cause first, with messages redacted and within the limits above."""
    parts = []
    for link, joint in _chain(error):
        parts += ["Traceback (most recent call last):\n"] if link.__traceback__ is not None else []
        parts += traceback.format_list(traceback.extract_tb(link.__traceback__, limit=-_MAX_FRAMES))
        message = error_message(link)
        parts.append(f"{error_name(link)}: {message}\n" if message else f"{error_name(link)}\n")
        if isinstance(link, BaseExceptionGroup):
            parts += [
                f"  | {line}\n"
                for part in link.exceptions[:_MAX_CHAIN]
                for line in redacted_traceback(part).splitlines()
            ]
        parts.append(joint)
    return "".join(parts).rstrip("\n")


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exceptions of a chain, the oldest first, each with the text between it and the next."""
    links: list[tuple[BaseException, str]] = [(error, "")]
    while len(links) < _MAX_CHAIN:
        last = links[-1][0]
        if last.__cause__ is not None:
            links.append((last.__cause__, "\nThe above exception was the direct cause of the following exception:\n\n"))
        elif last.__context__ is not None and not last.__suppress_context__:
            links.append((last.__context__, "\nDuring handling of the above exception, another one occurred:\n\n"))
        else:
            break
    return reversed(links)
