"""Settings that hold several values: lists and mappings, written in YAML, as JSON or with commas."""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pocket_agent.config.form import Form, Kind, Place, host, is_encodable, line, path, quote
from pocket_agent.config.unit import RefusedError

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""The name of an HTTP header (RFC 9110, section 5.6.2)."""
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_OF_EVERY_LINE: Final = frozenset(
    ("timestamp", "level", "msg", "correlation_id", "project_id", "duration_ms", "trace_id", "span_id", "fields")
)
"""What a log line says itself, so that no constant may stand there."""
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/?#@\[\]:]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def path_list(accepted: str) -> Form:
    """A tuple of absolute paths."""
    one = path()

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), one.parse)

    def complete(value: object, place: Place) -> object:
        return [place.expand(item) for item in _items(value)]

    return Form(Kind.LIST, accepted, parse, complete=complete)


def origin_list() -> Form:
    """A tuple of web origins as browsers send them (RFC 6454, section 6.2)."""
    accepted = "a list of origins such as https://phone.example:8443"

    def parse_one(value: object) -> str:
        origin = line(value).lower().removesuffix("/")
        if not _ORIGIN.fullmatch(origin):
            raise RefusedError("not an origin such as https://phone.example:8443")
        return origin

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), parse_one)

    return Form(Kind.LIST, accepted, parse)


def network_list() -> Form:
    """A tuple of IP networks in their canonical form; an address is a network of one."""
    accepted = "a list of IP addresses and networks such as 10.0.0.0/8"

    def parse_one(value: object) -> str:
        try:
            return str(ipaddress.ip_network(line(value), strict=False))
        except ValueError:
            raise RefusedError("neither an IP address nor a network such as 10.0.0.0/8") from None

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), parse_one)

    return Form(Kind.LIST, accepted, parse)


def host_list() -> Form:
    """A tuple of addresses and host names, without ports."""
    one = host()

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), one.parse)

    return Form(Kind.LIST, "a list of IP addresses and host names", parse)


def name_list(accepted: str, *, most: int) -> Form:
    """A tuple of at most so many short texts."""

    def parse_one(value: object) -> str:
        name = line(value)
        if len(name) > 100:
            raise RefusedError("longer than 100 characters")
        return name

    def parse(value: object) -> tuple[object, ...]:
        names = _each(_items(value), parse_one)
        if len(names) > most:
            raise RefusedError(f"more than {most}")
        return names

    return Form(Kind.LIST, f"{accepted}, at most {most}", parse)


def address_list() -> Form:
    """A tuple of addresses with a scheme, which may hold passwords and so are never shown."""
    accepted = "a list of apprise URLs such as ntfys://ntfy.sh/TOPIC"

    def parse(value: object) -> tuple[object, ...]:
        items = _items(value)
        if not all(isinstance(item, str) and is_address(item.strip()) for item in items):
            raise RefusedError("an item is no URL")
        return tuple(dict.fromkeys(str(item).strip() for item in items))

    return Form(Kind.LIST, accepted, parse, secret=True)


def is_address(text: str) -> bool:
    """Whether a text has the form SCHEME://REST (RFC 3986, section 3.1), all of it printable."""
    return _ADDRESS.fullmatch(text) is not None and text.isprintable()


def choice_list(*names: str) -> Form:
    """A tuple of some of a few words, spelled as they are here."""
    accepted = "a list of " + ", ".join(names)

    def parse_one(value: object) -> str:
        word = line(value)
        found = next((name for name in names if name.lower() == word.lower()), None)
        if found is None:
            raise RefusedError("none of them")
        return found

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), parse_one)

    return Form(Kind.LIST, accepted, parse)


def pattern_list(accepted: str, pattern: str) -> Form:
    """A tuple of texts that match a pattern."""
    compiled = re.compile(pattern)

    def parse_one(value: object) -> str:
        word = line(value)
        if not compiled.fullmatch(word):
            raise RefusedError("not such a text")
        return word

    def parse(value: object) -> tuple[object, ...]:
        return _each(_items(value), parse_one)

    return Form(Kind.LIST, accepted, parse)


def variables() -> Form:
    """Environment variables for a child process: names to texts, frozen."""
    accepted = "a mapping of variable names to texts"

    def check(name: object, value: object) -> str:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise RefusedError(f"{quote(name)} is not a variable name")
        if not isinstance(value, str) or "\0" in value or not is_encodable(value):
            raise RefusedError(f"the value of {name} is not a text")
        return value

    def parse(value: object) -> Mapping[str, str]:
        return MappingProxyType({str(k): check(k, v) for k, v in _pairs(value).items()})

    return Form(Kind.MAPPING, accepted, parse, raw=True)


def header_map() -> Form:
    """HTTP headers: names to texts, frozen; a name counts once, whatever its case."""
    accepted = "a mapping of header names to texts"

    def parse(value: object) -> Mapping[str, str]:
        checked = [check_header(name, text) for name, text in _pairs(value).items()]
        found = {name.lower(): text for name, text in checked}
        if len(found) < len(checked):
            raise RefusedError("a name is given twice")
        return MappingProxyType(found)

    return Form(Kind.MAPPING, accepted, parse, raw=True, secret=True)


def check_header(name: object, value: object) -> tuple[str, str]:
    """The name and the value of an HTTP header (RFC 9110, section 5.5), of printable ASCII alone.

    Raises:
        RefusedError: they cannot be one.
    """
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise RefusedError(f"{quote(name)} is not the name of a header")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise RefusedError(f"the value of {name} is not a text that a header can hold")
    return name, value.strip()


def attribute_map() -> Form:
    """Attributes of telemetry, such as `host.name`: names to texts, frozen."""
    accepted = "a mapping of names such as team.name to texts"

    def check(name: object, value: object) -> str:
        if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
            raise RefusedError(f"{quote(name)} is not the name of an attribute")
        return line(value)

    def parse(value: object) -> Mapping[str, str]:
        return MappingProxyType({str(k): check(k, v) for k, v in _pairs(value).items()})

    return Form(Kind.MAPPING, accepted, parse, raw=True)


def constants() -> Form:
    """Fields that stand on every log line: names to texts, numbers or booleans, frozen."""
    accepted = "a mapping of names to texts, numbers or booleans"

    def check(name: object, value: object) -> str | int | float | bool:
        if isinstance(value, str):
            return line(value)
        # 2**53: numbers that every reader of JSON takes as they are (RFC 8259, section 6).
        if isinstance(value, int | float) and -(2**53) <= value <= 2**53:
            return value
        raise RefusedError(f"the value of {quote(name)} is neither a text nor a boolean nor a usual number")

    def parse(value: object) -> Mapping[str, str | int | float | bool]:
        found = {line(k): check(k, v) for k, v in _pairs(value).items()}
        for name in sorted(_OF_EVERY_LINE & found.keys()):
            raise RefusedError(f"each line has its own {name}")
        return MappingProxyType(found)

    return Form(Kind.MAPPING, accepted, parse)


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise RefusedError("not a list")
    return list(value)


def _each(items: list[object], parse: Callable[[object], object]) -> tuple[object, ...]:
    parsed: list[object] = []
    for position, item in enumerate(items, start=1):
        try:
            parsed.append(parse(item))
        except RefusedError as error:
            raise RefusedError(f"item {position}, {quote(item)}: {error}") from None
    return tuple(dict.fromkeys(parsed))


def _pairs(value: object) -> Mapping[object, object]:
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = _json(value)
        else:
            parts = [part.partition("=") for part in value.split(",") if part.strip()]
            if not all(sign for _, sign, _ in parts):
                raise RefusedError("neither a JSON object nor NAME=value pairs")
            value = _unique([(name.strip(), rest) for name, _, rest in parts])
    if not isinstance(value, Mapping):
        raise RefusedError("not a mapping")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise RefusedError("a name is given twice")
    return dict(pairs)


def _json(text: str) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_unique)
    except RefusedError:
        raise
    except (ValueError, RecursionError):
        raise RefusedError("not valid JSON") from None
    return value
