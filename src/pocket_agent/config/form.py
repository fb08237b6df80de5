"""What a setting accepts, whatever source it comes from: a parser, and the words for a person.

A form is the annotation of a field in `settings.py`. The same parser reads a YAML value, an
environment variable and a flag, so a text is always welcome where it means the value: `"8443"`
is a port, `"5m"` a duration, `"a, b"` a list. Parsing a parsed value gives it back.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from pocket_agent.config.unit import (
    DURATION_EXAMPLES,
    MAX_DURATION,
    SIZE_EXAMPLES,
    RefusedError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


class Kind(StrEnum):
    """How a value is read, printed and documented."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"
    TEXT = "text"
    PATH = "path"
    LIST = "list"
    MAPPING = "mapping"


@dataclass(frozen=True)
class Place:
    """Where the paths of a source start.

    Attributes:
        home: what `~` stands for; None when there is no home directory.
        base: what relative paths are relative to; None when it is gone.
    """

    home: Path | None
    base: Path | None

    def expand(self, value: object) -> object:
        """A path with `~` written out; anything else as it is."""
        if not isinstance(value, str | Path):
            return value
        text = str(value).strip()
        if text == "~" or text.startswith("~/"):
            if self.home is None:
                raise RefusedError("there is no home directory; set HOME")
            return str(self.home / text[2:])
        if text.startswith("~"):
            raise RefusedError("only ~/ is understood, not the home of another user")
        return text

    def resolve(self, value: object) -> object:
        """An absolute path; anything else as it is."""
        text = self.expand(value)
        if not isinstance(text, str) or not text or text.startswith("/"):
            return text
        if self.base is None:
            raise RefusedError("relative to a directory that does not exist")
        return str(self.base / text)


def _as_it_is(value: object, place: Place) -> object:
    return value


@dataclass(frozen=True)
class Form:
    """One kind of value, with its bounds.

    Attributes:
        accepted: completes "give ..." and "accepts ...".
        parse: the value out of anything; raises RefusedError, whose text says what is wrong.
        null: the word that stands for None in print, or None when the value is never None.
        complete: makes the paths in a source's value absolute, before `parse`.
        raw: whether scalars keep the text of the file (`1.10` stays `1.10`).
        secret: whether the value is shown to nobody, in no message either.
    """

    kind: Kind
    accepted: str
    parse: Callable[[object], object]
    null: str | None = None
    complete: Callable[[object, Place], object] = _as_it_is
    raw: bool = False
    secret: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Make pydantic validate the field with `parse` and nothing else."""
        return core_schema.no_info_plain_validator_function(self.parse)

    def optional(self, null: str = "null", meaning: str = "not set") -> "Form":
        """The same form that also accepts None, written as `null` or as the given word."""

        def is_absent(value: object) -> bool:
            if isinstance(value, str):
                return value.strip().lower() in {"null", null}
            return value is None or (value is False and null == "off")

        def parse(value: object) -> object:
            return None if is_absent(value) else self.parse(value)

        def complete(value: object, place: Place) -> object:
            return value if is_absent(value) else self.complete(value, place)

        return replace(
            self,
            accepted=f"{self.accepted}, or {null} ({meaning})",
            parse=parse,
            complete=complete,
            null=null,
        )


_WORDS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,29})")
_REAL: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9_-]+)*\.?")


def boolean() -> Form:
    """True or false; the words of YAML 1.1 and of shells are understood."""

    def parse(value: object) -> bool:
        known = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(known, bool):
            raise RefusedError("neither true nor false")
        return known

    return Form(Kind.BOOLEAN, "true or false", parse)


def number(low: int, high: int, note: str = "") -> Form:
    """A whole number within bounds."""
    accepted = f"a whole number from {low} to {high}{note}"

    def parse(value: object) -> int:
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RefusedError("not a whole number")
        return _bounded(value, low, high, str)

    return Form(Kind.NUMBER, accepted, parse)


def real(low: float, high: float, note: str = "") -> Form:
    """A number with or without a fraction, within bounds."""
    accepted = f"a number from {low:g} to {high:g}{note}"

    def parse(value: object) -> float:
        if isinstance(value, str) and _REAL.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RefusedError("not a number")
        if not low <= value <= high:
            raise RefusedError(f"not from {low:g} to {high:g}")
        return float(value)

    return Form(Kind.NUMBER, accepted, parse)


def duration(*, positive: bool = False, least: float = 0.0, most: float = MAX_DURATION, note: str = "") -> Form:
    """Seconds, with or without a unit, from `least` up to `most`."""
    bounds = "above 0, " if positive else ""
    if least:
        bounds += f"at least {format_duration(least)}, "
    if most < MAX_DURATION:
        bounds += f"at most {format_duration(most)}, "
    accepted = f"a duration {bounds}such as {DURATION_EXAMPLES}{note}"

    def parse(value: object) -> float:
        seconds = parse_duration(value)
        if positive and seconds == 0:
            raise RefusedError("must be more than 0s")
        if seconds < least:
            raise RefusedError(f"shorter than {format_duration(least)}")
        if seconds > most:
            raise RefusedError(f"longer than {format_duration(most)}")
        return seconds

    return Form(Kind.DURATION, accepted, parse)


def size(low: int = 0, high: int | None = None, note: str = "") -> Form:
    """Bytes, with or without a unit."""
    bounds = f" of at least {format_size(low)}" if low else ""
    if high is not None:
        bounds = f" from {format_size(low)} to {format_size(high)}"

    def parse(value: object) -> int:
        return _bounded(parse_size(value), low, high, format_size)

    return Form(Kind.SIZE, f"a size{bounds}, such as {SIZE_EXAMPLES}{note}", parse)


def text(accepted: str, *, pattern: str = r"\S(?:.*\S)?") -> Form:
    """A line of text that matches a pattern."""
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        words = line(value)
        if not compiled.fullmatch(words):
            raise RefusedError("not such a text")
        return words

    return Form(Kind.TEXT, accepted, parse)


def choice(*names: str, synonyms: Mapping[str, str] = MappingProxyType({})) -> Form:
    """One of a few words, in any case."""
    accepted = "one of " + ", ".join(names)

    def parse(value: object) -> str:
        word = line(value).lower()
        word = synonyms.get(word, word)
        if word not in names:
            raise RefusedError("none of them")
        return word

    return Form(Kind.TEXT, accepted, parse)


def host() -> Form:
    """An address or a host name to listen on."""
    accepted = "an IP address or a host name"

    def parse(value: object) -> str:
        name = line(value)
        bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        try:
            return str(ipaddress.ip_address(bare))
        except ValueError:
            if not _HOST_NAME.fullmatch(name):
                raise RefusedError("neither of these") from None
            return name.lower()

    return Form(Kind.TEXT, accepted, parse)


def path(accepted: str = "a path", *, words: frozenset[str] = frozenset(), bare_names: bool = False) -> Form:
    """An absolute path; its source completes `~` and relative ones.

    `words` stay what they are; with `bare_names` so does a name without a slash (it is looked
    up on PATH).
    """

    def parse(value: object) -> Path | str:
        if isinstance(value, str) and value in words:
            return value
        place = Path(line(str(value) if isinstance(value, Path) else value))
        if not place.is_absolute() and not (bare_names and len(place.parts) == 1):
            raise RefusedError("a relative path")
        return place

    def complete(value: object, place: Place) -> object:
        text = place.expand(value)
        if not isinstance(text, str) or text in words or (bare_names and "/" not in text):
            return text
        return place.resolve(text)

    return Form(Kind.PATH, accepted, parse, complete=complete)


def is_encodable(line: str) -> bool:
    """Whether a text can be written as UTF-8: no lone surrogates (bytes that were none)."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def quote(value: object) -> str:
    """A value for a message: printable, bounded, and plainly a text when it is one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = ascii(value) if not isinstance(value, str) or not value.isprintable() else f"'{value}'"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def printable(name: str) -> str:
    """A name or a path as it is, unless it would disturb a terminal or a log."""
    return name if name.isprintable() and len(name) <= 200 else quote(name)


def line(value: object) -> str:
    """One printable, stripped, non-empty line.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(value, str):
        raise RefusedError("not a text")
    if not value.strip():
        raise RefusedError("empty")
    if not value.isprintable():
        raise RefusedError("has characters that cannot be printed")
    return value.strip()


def _bounded(value: int, low: int, high: int | None, show: Callable[[int], str]) -> int:
    if value < low:
        raise RefusedError(f"less than {show(low)}")
    if high is not None and value > high:
        raise RefusedError(f"more than {show(high)}")
    return value
