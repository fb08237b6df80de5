"""The types of values that settings have: what each accepts, from YAML, environment variables, flags and code.

A `ValueType` is the annotation of a field in `sections.py`: the words for documentation and errors, and the schema by
which pydantic-core parses the value. Text is accepted for every type: `"8443"` is a port, `"5m"` a duration, `"a, b"` a
list. Parsing a parsed value returns it unchanged.

pydantic's own parsing of text is not used for numbers, booleans, URLs and networks: it also accepts `1_000`, `t` or
integers for addresses, and normalizes URLs.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, get_args
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, SchemaValidator, core_schema

MAX_DURATION: Final = 3650 * 86400.0
"""Ten years in seconds, which event loops can wait for."""
MAX_SIZE: Final = 2**50
"""One pebibyte in bytes, which SQLite's integers can hold."""

_DURATION_EXAMPLES: Final = "500ms, 30s, 5m, 1h or 2d (a plain number is seconds)"
_SIZE_EXAMPLES: Final = "512KiB, 1MiB or 1GB (a plain number is bytes)"
_SECONDS: Final = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_BYTES: Final = {
    "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
    "TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1,
}  # fmt: skip
_BYTES_BY_LOWER: Final = {name.lower(): size for name, size in _BYTES.items()}
_MAX_UNIT_TEXT: Final = 64
_DECIMAL: Final = r"[0-9]{1,20}(?:\.[0-9]{1,40})?"
_DURATION: Final = re.compile(rf"-?(?:{_DECIMAL}|(?:{_DECIMAL}(?:ms|d|h|m|s))+)")
_DURATION_PART: Final = re.compile(rf"({_DECIMAL})(ms|d|h|m|s|)")
_SIZE: Final = re.compile(rf"-?({_DECIMAL}) ?([A-Za-z]{{0,3}})")

_BOOLEANS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,29})")
_REAL: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9_-]+)*\.?")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/?#@\[\]:]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_VARIABLE: Final = re.compile(r"[\0\ud800-\udfff]")
"""NUL, and lone surrogates, which cannot be written as UTF-8."""
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""The name of an HTTP header (RFC 9110, section 5.6.2)."""
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_RESERVED_FIELDS: Final = frozenset(
    ("timestamp", "level", "msg", "correlation_id", "project_id", "duration_ms", "trace_id", "span_id", "fields")
)
"""The fields that the server writes on every log line."""

_before = core_schema.no_info_before_validator_function
_after = core_schema.no_info_after_validator_function
_plain = core_schema.no_info_plain_validator_function


class RefusedError(ValueError):
    """A value that a setting does not accept; the text says why, without the value."""


class ValueKind(StrEnum):
    """How a value is printed and documented."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"
    TEXT = "text"
    PATH = "path"
    LIST = "list"
    MAPPING = "mapping"


@dataclass(frozen=True)
class PathContext:
    """Where the paths of a source start; pydantic's validation context.

    Attributes:
        home: replaces `~`; None without a home directory.
        base: the directory of relative paths; None when it was deleted.
    """

    home: Path | None
    base: Path | None

    def expand(self, value: object) -> object:
        """A path with `~` replaced; anything else unchanged."""
        if not isinstance(value, str | Path):
            return value
        text = str(value).strip()
        if text == "~" or text.startswith("~/"):
            if self.home is None:
                raise RefusedError("there is no home directory; set HOME")
            return str(self.home / text[2:])
        if text.startswith("~"):
            raise RefusedError("only ~/ is expanded, not the home directory of another user")
        return text

    def resolve(self, text: object) -> object:
        """An expanded path made absolute; anything else unchanged."""
        if not isinstance(text, str) or not text or text.startswith("/"):
            return text
        if self.base is None:
            raise RefusedError("relative to a directory that does not exist")
        return str(self.base / text)


@dataclass(frozen=True, eq=False)
class ValueType:
    """The type of a setting's value, with its bounds.

    Attributes:
        accepts: a noun phrase that completes "is not ...".
        schema: parses and checks the value.
        null: the word for None in print; None when the value is never None.
        raw: whether plain YAML scalars stay text (`1.10` stays `1.10`).
        secret: whether the value never appears in print or in an error.
    """

    kind: ValueKind
    accepts: str
    schema: CoreSchema
    null: str | None = None
    raw: bool = False
    secret: bool = False

    @cached_property
    def validator(self) -> SchemaValidator:
        """Parses values outside of a model."""
        return SchemaValidator(self.schema)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.schema

    def optional(self, null: str = "null", meaning: str = "not set") -> "ValueType":
        """A type that also accepts None, written as `null` or as the given word."""

        def read_null(value: object) -> object:
            if isinstance(value, str):
                return None if value.strip().lower() in {"null", null} else value
            return None if value is False and null == "off" else value

        schema = _before(read_null, core_schema.nullable_schema(self.schema))
        return replace(self, accepts=f"{self.accepts}, or {null} ({meaning})", schema=schema, null=null)


# --- parsers and printers


def parse_duration(value: object) -> float:
    """Seconds from `90`, `1.5`, `"30s"` or `"1h30m"`, to the microsecond; units are case-sensitive.

    Raises:
        RefusedError: not a duration, negative, not finite, or longer than `MAX_DURATION`.
    """
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _MAX_UNIT_TEXT or not _DURATION.fullmatch(text):
            raise RefusedError("not a duration")
        if text.startswith("-"):
            raise RefusedError("negative")
        value = float(sum(Decimal(count) * _SECONDS[unit or "s"] for count, unit in _DURATION_PART.findall(text)))
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        raise RefusedError("not a duration")
    if value < 0:
        raise RefusedError("negative")
    if value > MAX_DURATION:
        raise RefusedError(f"longer than {format_duration(MAX_DURATION)}")
    return round(float(value), 6)


def format_duration(seconds: float) -> str:
    """The largest unit that divides exactly, which `parse_duration` reads back: 5400.0 is `90m`, 0.5 is `500ms`.

    Args:
        seconds: from 0 to `MAX_DURATION`.
    """
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    for unit, unit_size in _SECONDS.items():
        if exact % unit_size == 0:
            return f"{int(exact / unit_size)}{unit}"
    return f"{exact:f}s"


def parse_size(value: object) -> int:
    """Bytes from `1024`, `"1MiB"` or `"1.5 GiB"`, in any case.

    A bare `K`, `M` or `G` is refused, because programs disagree on whether it is a power of 10 or of 2.

    Raises:
        RefusedError: not a size, negative, not whole bytes, or more than `MAX_SIZE`.
    """
    if isinstance(value, str):
        text = value.strip()
        found = _SIZE.fullmatch(text)
        if found and len(text) <= _MAX_UNIT_TEXT and (factor := _BYTES_BY_LOWER.get(found[2].lower() or "b")):
            exact = Decimal(found[1]) * factor
            if exact == exact.to_integral_value():
                value = -1 if text.startswith("-") else int(exact)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError("not a whole number of bytes")
    if value < 0:
        raise RefusedError("negative")
    if value > MAX_SIZE:
        raise RefusedError(f"more than {format_size(MAX_SIZE)}")
    return value


def format_size(size_bytes: int) -> str:
    """The largest unit that divides exactly, powers of 2 first: 1048576 is `1MiB`, 1000 is `1kB`."""
    if size_bytes == 0:
        return "0B"
    unit = next(name for name, factor in _BYTES.items() if size_bytes % factor == 0)
    return f"{size_bytes // _BYTES[unit]}{unit}"


def parse_url(value: object) -> str:
    """An http or https URL with a host, unchanged.

    Raises:
        RefusedError: it is not such a URL.
    """
    address = line(value)
    try:
        parts = urlsplit(address)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not address.isascii() or " " in address:
        raise RefusedError("not an http or https URL")
    return address


def check_header(name: object, value: object) -> tuple[str, str]:
    """The name and the value of an HTTP header (RFC 9110, section 5.5), of printable ASCII alone.

    Raises:
        RefusedError: the name or the value is not allowed in a header.
    """
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise RefusedError(f"{quote(name)} is not the name of a header")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise RefusedError(f"the value of {name} is not printable ASCII")
    return name, value.strip()


def is_uri(address: str) -> bool:
    """Whether text has the form SCHEME://REST (RFC 3986, section 3.1), all of it printable."""
    return _URI.fullmatch(address) is not None and address.isprintable()


def quote(value: object) -> str:
    """A value for a message: printable, at most 80 characters, in quotes when it is text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = ascii(value) if not isinstance(value, str) or not value.isprintable() else f"'{value}'"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def printable(name: str) -> str:
    """A name or a path unchanged, or quoted when it is not printable or longer than 200 characters."""
    return name if name.isprintable() and len(name) <= 200 else quote(name)


def line(value: object) -> str:
    """One printable, stripped, non-empty line.

    Raises:
        RefusedError: the value is not such a line.
    """
    if not isinstance(value, str):
        raise RefusedError("not text")
    if not value.strip():
        raise RefusedError("empty")
    if not value.isprintable():
        raise RefusedError("has characters that are not printable")
    return value.strip()


def _line_schema(*, pattern: str | None = None, max_length: int | None = None) -> CoreSchema:
    anchored = f"^(?:{pattern})$" if pattern is not None else None
    return _before(line, core_schema.str_schema(strict=True, pattern=anchored, max_length=max_length))


def _parse_host(value: object) -> str:
    name = line(value)
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if not _HOST_NAME.fullmatch(name):
            raise RefusedError("not an IP address or a host name") from None
        return name.lower()


def _parse_path(value: object) -> Path:
    return Path(line(str(value) if isinstance(value, Path) else value))


def _split_list(value: object) -> list[object]:
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise RefusedError("not a list")
    return list(value)


def _split_mapping(value: object) -> Mapping[object, object]:
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = _json(value)
        else:
            parts = [part.partition("=") for part in value.split(",") if part.strip()]
            if not all(sign for _, sign, _ in parts):
                raise RefusedError("not a JSON object or NAME=value pairs")
            value = _unique([(name.strip(), rest) for name, _, rest in parts])
    if not isinstance(value, Mapping):
        raise RefusedError("not a mapping")
    return value


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RefusedError("a name is given twice")
    return found


def _json(document: str) -> object:
    try:
        value: object = json.loads(document, object_pairs_hook=_unique)
    except RefusedError:
        raise
    except (ValueError, RecursionError):
        raise RefusedError("not valid JSON") from None
    return value


# --- scalars


def _read_boolean(value: object) -> object:
    return _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value


BOOLEAN: Final = ValueType(
    ValueKind.BOOLEAN, "true or false", _before(_read_boolean, core_schema.bool_schema(strict=True))
)
"""The words of YAML 1.1 and of shells are accepted as well."""


def number(low: int, high: int, note: str = "") -> ValueType:
    """A whole number within bounds."""

    def read(value: object) -> object:
        return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else value

    schema = _before(read, core_schema.int_schema(strict=True, ge=low, le=high))
    return ValueType(ValueKind.NUMBER, f"a whole number from {low} to {high}{note}", schema)


def real(low: float, high: float, note: str = "") -> ValueType:
    """A number with or without a fraction, within bounds."""

    def read(value: object) -> object:
        return float(value) if isinstance(value, str) and _REAL.fullmatch(value.strip()) else value

    schema = _before(read, core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low, le=high))
    return ValueType(ValueKind.NUMBER, f"a number from {low:g} to {high:g}{note}", schema)


def duration(*, positive: bool = False, least: float = 0.0, most: float = MAX_DURATION, note: str = "") -> ValueType:
    """Seconds, with or without a unit, from `least` up to `most`."""
    bounds = "above 0, " if positive else ""
    bounds += f"at least {format_duration(least)}, " if least else ""
    bounds += f"at most {format_duration(most)}, " if most < MAX_DURATION else ""
    schema = _before(parse_duration, core_schema.float_schema(gt=0.0 if positive else None, ge=least, le=most))
    return ValueType(ValueKind.DURATION, f"a duration {bounds}such as {_DURATION_EXAMPLES}{note}", schema)


def size(low: int = 0, high: int = MAX_SIZE, note: str = "") -> ValueType:
    """Bytes, with or without a unit."""
    bounds = f" of at least {format_size(low)}" if low else ""
    if high < MAX_SIZE:
        bounds = f" from {format_size(low)} to {format_size(high)}"
    schema = _before(parse_size, core_schema.int_schema(ge=low, le=high))
    return ValueType(ValueKind.SIZE, f"a size{bounds}, such as {_SIZE_EXAMPLES}{note}", schema)


def text(accepts: str, *, pattern: str | None = None) -> ValueType:
    """One line of text that matches a pattern, if there is one."""
    return ValueType(ValueKind.TEXT, accepts, _line_schema(pattern=pattern))


def choice(words: object, **synonyms: str) -> ValueType:
    """One of the words of a Literal, in any case."""
    names = list(get_args(words))

    def read(value: object) -> str:
        word = line(value).lower()
        return synonyms.get(word, word)

    return ValueType(ValueKind.TEXT, "one of " + ", ".join(names), _before(read, core_schema.literal_schema(names)))


HOST: Final = ValueType(ValueKind.TEXT, "an IP address or a host name", _plain(_parse_host))
URL: Final = ValueType(ValueKind.TEXT, "an http or https URL", _plain(parse_url))


def _parse_origin_url(value: object) -> str:
    parts = urlsplit(parse_url(value))
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        raise RefusedError("has more than a scheme, a host and a port")
    return f"{parts.scheme}://{parts.netloc}".lower()


ORIGIN_URL: Final = ValueType(ValueKind.TEXT, "an address such as https://agent.example", _plain(_parse_origin_url))
"""An http or https URL of a host alone: a web origin (RFC 6454, section 6.2)."""


def path(accepts: str = "a path", *, words: frozenset[str] = frozenset(), bare_names: bool = False) -> ValueType:
    """An absolute path; `~` and relative paths are completed when the source has a `PathContext`.

    `words` stay text; with `bare_names` a name without a slash stays relative, to be searched on PATH.
    """

    def read(value: object, info: ValidationInfo) -> Path | str:
        if isinstance(info.context, PathContext):
            value = info.context.expand(value)
            if not isinstance(value, str) or not (value in words or (bare_names and "/" not in value)):
                value = info.context.resolve(value)
        if isinstance(value, str) and value in words:
            return value
        parsed = _parse_path(value)
        if not parsed.is_absolute() and not (bare_names and len(parsed.parts) == 1):
            raise RefusedError("a relative path")
        return parsed

    return ValueType(ValueKind.PATH, accepts, core_schema.with_info_plain_validator_function(read))


# --- lists: YAML lists, and in text JSON or commas; a repeated item counts once


def _list(accepts: str, item: CoreSchema, most: int | None = None, *, secret: bool = False) -> ValueType:
    def unique(items: tuple[object, ...]) -> tuple[object, ...]:
        found = tuple(dict.fromkeys(items))
        if most is not None and len(found) > most:
            raise RefusedError(f"has more than {most} items")
        return found

    schema = _before(_split_list, _after(unique, core_schema.tuple_variable_schema(item)))
    return ValueType(ValueKind.LIST, accepts, schema, secret=secret)


def path_list(accepts: str) -> ValueType:
    """A tuple of absolute paths, in which `~` is replaced."""

    def read(value: object, info: ValidationInfo) -> Path:
        parsed = _parse_path(info.context.expand(value) if isinstance(info.context, PathContext) else value)
        if not parsed.is_absolute():
            raise RefusedError("a relative path")
        return parsed

    return _list(accepts, core_schema.with_info_plain_validator_function(read))


def _parse_origin(value: object) -> str:
    origin = line(value).lower().removesuffix("/")
    if not _ORIGIN.fullmatch(origin):
        raise RefusedError("not an origin")
    return origin


def _parse_network(value: object) -> str:
    """An IP network in its canonical form; an address is a network of one."""
    network = line(value)
    try:
        return str(ipaddress.ip_network(network, strict=False))
    except ValueError:
        raise RefusedError("not an IP address or a network") from None


def _parse_service(value: object) -> str:
    if not isinstance(value, str) or not is_uri(value.strip()):
        raise RefusedError("not a URL")
    return value.strip()


ORIGINS: Final = _list("a list of origins such as https://phone.example:8443", _plain(_parse_origin))
"""Web origins as browsers send them (RFC 6454, section 6.2)."""
NETWORKS: Final = _list("a list of IP addresses and networks such as 10.0.0.0/8", _plain(_parse_network))
HOSTS: Final = _list("a list of IP addresses and host names", _plain(_parse_host))
SERVICES: Final = _list("a list of apprise URLs such as ntfys://ntfy.sh/TOPIC", _plain(_parse_service), secret=True)


def name_list(accepts: str, *, most: int) -> ValueType:
    """A tuple of at most `most` short texts."""
    return _list(f"{accepts}, at most {most}", _line_schema(max_length=100), most)


def pattern_list(accepts: str, pattern: str) -> ValueType:
    """A tuple of texts that match a pattern."""
    return _list(accepts, _line_schema(pattern=pattern))


def choice_list(names: Sequence[str]) -> ValueType:
    """A tuple of some of the given words, in any case."""
    by_lower = {name.lower(): name for name in names}

    def read(value: object) -> object:
        return by_lower.get(line(value).lower(), value)

    return _list("a list of " + ", ".join(names), _before(read, core_schema.literal_schema(list(names))))


# --- mappings: YAML mappings, and in text JSON or NAME=value pairs; frozen


def _mapping(
    accepts: str,
    check: Callable[[object, object], tuple[str, object]],
    *,
    raw: bool = False,
    secret: bool = False,
) -> ValueType:
    def read(value: object) -> Mapping[str, object]:
        return MappingProxyType(_unique([check(name, text) for name, text in _split_mapping(value).items()]))

    return ValueType(ValueKind.MAPPING, accepts, _plain(read), raw=raw, secret=secret)


def _check_variable(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise RefusedError(f"{quote(name)} is not a variable name")
    if not isinstance(value, str) or _NOT_IN_VARIABLE.search(value):
        raise RefusedError(f"the value of {name} is not text")
    return name, value


def _check_header_in_lower_case(name: object, value: object) -> tuple[str, str]:
    name, text = check_header(name, value)
    return name.lower(), text


def _check_attribute(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
        raise RefusedError(f"{quote(name)} is not the name of an attribute")
    return name, line(value)


def _check_field(name: object, value: object) -> tuple[str, str | float]:
    name = line(name)
    if name in _RESERVED_FIELDS:
        raise RefusedError(f"every line already has a field {name}")
    if isinstance(value, str):
        return name, line(value)
    # 2**53: the numbers that every JSON parser reads exactly (RFC 8259, section 6).
    if isinstance(value, int | float) and -(2**53) <= value <= 2**53:
        return name, value
    raise RefusedError(f"the value of {quote(name)} is not text, a boolean or a number from -2^53 to 2^53")


VARIABLES: Final = _mapping("a mapping of variable names to texts", _check_variable, raw=True)
HEADERS: Final = _mapping("a mapping of header names to texts", _check_header_in_lower_case, raw=True, secret=True)
ATTRIBUTES: Final = _mapping("a mapping of names such as team.name to texts", _check_attribute, raw=True)
LOG_FIELDS: Final = _mapping("a mapping of names to texts, numbers or booleans", _check_field)
