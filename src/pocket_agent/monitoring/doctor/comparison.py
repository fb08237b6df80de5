"""Compares the configuration that a program has in force with the rendered one, by meaning; pure.

A program returns its configuration with its defaults filled in, durations in its own notation and lists in any order.
A `Grammar` says which keys have which defaults; every other difference is reported with its path.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any, Final

from pocket_agent.settings import format_duration

HIDDEN: Final = "<secret>"
"""What Prometheus and Alertmanager return in place of a secret."""
_SHOWN: Final = 160
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[ywdhms]))+")
_PART: Final = re.compile(r"(\d+)(ms|[ywdhms])")
_UNITS: Final = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_MATCHER: Final = re.compile(r'\s*"?([a-zA-Z_][a-zA-Z0-9_]*)"?\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*', re.DOTALL)
_LISTED: Final = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"])+')
_LEGACY: Final = {"match": "=", "match_re": "=~"}
_PASSWORD: Final = re.compile(r"://[^/@\s]+@")


_CLASS: Final = re.compile(r"\[:(\w+):\]")
_CLASSES: Final = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z", "space": r"\s", "upper": "A-Z",
    "word": r"\w", "xdigit": "0-9A-Fa-f",
}  # fmt: skip


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()
"""In place of a value that one side does not have."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """How the configuration of a program is written.

    Attributes:
        defaults: the values by key that mean the same as no value, in any supported version; also 0, false and empty
            values, unless the key is listed.
        ordered: the keys of lists whose order has an effect.
        matchers: the keys of lists of matchers of labels.
        secrets: the keys of values that are never shown.
        ignored: keys that are not compared.
    """

    defaults: Mapping[str, tuple[Any, ...]]
    ordered: frozenset[str] = frozenset()
    matchers: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def is_default(self, key: str, value: Any) -> bool:
        """Whether a value has the same effect as its absence."""
        if value in (None, "", [], {}) and key not in self.defaults:
            return True
        if key in self.defaults:
            return any(_same(value, default) for default in self.defaults[key])
        return value is False or value == 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is not the rendered one.

    Attributes:
        keys: the path, as `("scrape_configs", "[node]", "scheme")`.
        expected: the rendered value, or ABSENT.
        actual: the value in force, or ABSENT.
        secrets: the keys of values that are never shown.
    """

    keys: tuple[str, ...]
    expected: Any
    actual: Any
    secrets: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """The path as text: `scrape_configs[node].scheme`."""
        return ".".join(self.keys).replace(".[", "[")

    def __str__(self) -> str:
        expected, actual = _excerpts(self._show(self.expected), self._show(self.actual))
        if self.actual is ABSENT:
            return f"{self.path} is missing: the settings give {expected}"
        if self.expected is ABSENT:
            return f"{self.path} is {actual}: the settings do not give it"
        return f"{self.path} is {actual}: the settings give {expected}"

    def _show(self, value: Any) -> str:
        key = next((key for key in reversed(self.keys) if not key.startswith("[")), "")
        shown = _redact(value, key, self.secrets)
        text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, default=str)
        return " ".join(text.split())


def _excerpts(*texts: str) -> Iterator[str]:
    """The parts of two texts that show where they differ."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
    start = common - _SHOWN // 2 if common > _SHOWN * 3 // 4 else 0
    for text in texts:
        shown = text[start : start + _SHOWN]
        yield f"{'...' if start else ''}{shown}{'...' if len(text) > start + _SHOWN else ''}"


def fingerprint(text: str) -> str:
    """Identifies a secret without showing it."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _redact(value: Any, key: str, secrets: frozenset[str]) -> Any:
    match value:
        case dict():
            return {name: _redact(item, name, secrets) for name, item in value.items()}
        case list():
            return [_redact(item, key, secrets) for item in value]
        case str() if value != HIDDEN and (key in secrets or _PASSWORD.search(value)):
            return fingerprint(value)
    return value


def differences(expected: Any, actual: Any, grammar: Grammar, keys: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Every value in force that differs from the rendered one.

    A value that the program hides is not compared.
    """
    key = next((key for key in reversed(keys) if not key.startswith("[")), "")
    if isinstance(expected, dict) and isinstance(actual, dict):
        expected, actual = _modern(expected), _modern(actual)
        for name in dict.fromkeys((*expected, *actual)):
            yield from _entry(expected, actual, str(name), grammar, keys)
    elif isinstance(expected, list) and isinstance(actual, list):
        yield from _lists(expected, actual, key, grammar, keys)
    elif actual != HIDDEN and not _same(expected, actual):
        yield Difference(keys, expected, actual, grammar.secrets)


def _entry(
    expected: Mapping[str, Any], actual: Mapping[str, Any], name: str, grammar: Grammar, keys: tuple[str, ...]
) -> Iterator[Difference]:
    path = (*keys, name)
    if name in grammar.ignored:
        return
    if name in expected and name in actual:
        yield from differences(expected[name], actual[name], grammar, path)
    elif name in expected:
        if not grammar.is_default(name, expected[name]) and not _only_defaults(expected[name], grammar):
            yield Difference(path, expected[name], ABSENT, grammar.secrets)
    elif not grammar.is_default(name, actual[name]) and not _only_defaults(actual[name], grammar):
        yield Difference(path, ABSENT, actual[name], grammar.secrets)


def _only_defaults(value: Any, grammar: Grammar) -> bool:
    """Whether a mapping has nothing but defaults."""
    return isinstance(value, dict) and not canonical(value, "", grammar)


def _lists(
    expected: list[Any], actual: list[Any], key: str, grammar: Grammar, keys: tuple[str, ...]
) -> Iterator[Difference]:
    identity = next((name for name in ("job_name", "name") if _identified(name, expected + actual)), None)
    if identity is not None:
        mine, theirs = ({item[identity]: item for item in items} for items in (expected, actual))
        for name in dict.fromkeys((*mine, *theirs)):
            path = (*keys, f"[{name}]")
            if name not in theirs or name not in mine:
                yield Difference(path, mine.get(name, ABSENT), theirs.get(name, ABSENT), grammar.secrets)
            else:
                yield from differences(mine[name], theirs[name], grammar, path)
        return
    before, after = ([_fingerprint(item, key, grammar) for item in items] for items in (expected, actual))
    if key in grammar.ordered:
        changes = [
            (list(range(a, b)), list(range(c, d)))
            for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
            if tag != "equal"
        ]
    else:
        changes = [(_unmatched(before, after), _unmatched(after, before))]
    for missing, extra in changes:
        yield from _replaced([(i, expected[i]) for i in missing], [(i, actual[i]) for i in extra], grammar, keys)


def _replaced(
    missing: list[tuple[int, Any]], extra: list[tuple[int, Any]], grammar: Grammar, keys: tuple[str, ...]
) -> Iterator[Difference]:
    """The differences of items that have taken the place of others."""
    if len(missing) == len(extra):
        for (_, before), (index, after) in zip(missing, extra, strict=True):
            yield from differences(before, after, grammar, (*keys, f"[{index}]"))
        return
    for index, item in missing:
        yield Difference((*keys, f"[{index}]"), item, ABSENT, grammar.secrets)
    for index, item in extra:
        yield Difference((*keys, f"[{index}]"), ABSENT, item, grammar.secrets)


def _identified(name: str, items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and isinstance(item.get(name), str) for item in items)


def _unmatched(items: Sequence[str], others: Iterable[str]) -> list[int]:
    rest, found = list(others), []
    for index, item in enumerate(items):
        if item in rest:
            rest.remove(item)
        else:
            found.append(index)
    return found


def _fingerprint(item: Any, key: str, grammar: Grammar) -> str:
    if key in grammar.matchers and isinstance(item, str):
        return repr(parse_matcher(item))
    return json.dumps(canonical(item, key, grammar), sort_keys=True, default=str)


def canonical(value: Any, key: str, grammar: Grammar) -> Any:
    """A value without its defaults, with sorted lists and durations in one notation."""
    match value:
        case dict():
            held = {
                str(name): canonical(item, str(name), grammar)
                for name, item in _modern(value).items()
                if name not in grammar.ignored and not grammar.is_default(str(name), item)
            }
            return {name: item for name, item in held.items() if item != {}}
        case list():
            items = [canonical(item, key, grammar) for item in value]
            if key in grammar.matchers:
                return sorted(repr(parse_matcher(str(item))) for item in items)
            return items if key in grammar.ordered else sorted(items, key=lambda item: json.dumps(item, default=str))
    return _plain(value)


def _modern(node: Mapping[Any, Any]) -> dict[str, Any]:
    """A mapping whose `match` and `match_re`, also of inhibitions, are written as `matchers`, each by itself."""
    made: dict[str, Any] = {}
    for name, value in node.items():
        prefix, _, rest = str(name).rpartition("_match") if "_match" in str(name) else ("", "", "")
        short = f"match{rest}" if prefix in {"source", "target"} else str(name)
        if short in _LEGACY and isinstance(value, dict):
            place = f"{prefix}_matchers" if prefix else "matchers"
            made[place] = [*made.get(place, []), *(f'{label}{_LEGACY[short]}"{text}"' for label, text in value.items())]
        elif str(name).endswith("matchers") and isinstance(value, list):
            made[str(name)] = [*made.get(str(name), []), *(one for text in value for one in _split_matchers(str(text)))]
        else:
            made[str(name)] = value
    return made


def _split_matchers(text: str) -> list[str]:
    """The matchers of a text, which may be a list of them: `{severity="critical", service="web"}`."""
    text = text.strip()
    return [one.strip() for one in _LISTED.findall(text[1:-1] if text.startswith("{") else text) if one.strip()]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(str, one)) == sorted(map(str, other))
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    """A duration in one notation, a block of text without the line feed at its end."""
    if not isinstance(value, str):
        return value
    if _DURATION.fullmatch(value):
        seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(value))
        return format_duration(round(seconds, 3))
    return value.strip()


def parse_matcher(text: str) -> tuple[str, str, str]:
    """The label, the operator and the value of a matcher such as `severity=~"critical|warning"`."""
    found = _MATCHER.fullmatch(text)
    return (found[1], found[2], found[3]) if found else ("", "=", text)


def matches(matchers: Iterable[tuple[str, str, str]], labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy all matchers; a label that is absent is empty, as in Alertmanager."""
    return all(_holds(labels.get(name, ""), operator, value) for name, operator, value in matchers)


def _holds(actual: str, operator: str, value: str) -> bool:
    if operator in {"=", "!="}:
        return (actual == value) == (operator == "=")
    # Alertmanager's expressions (RE2) have classes within classes, as [[:alpha:]].
    value = _CLASS.sub(lambda found: _CLASSES.get(found[1], found[0]), value)
    try:
        found = re.fullmatch(value, actual) is not None
    except re.error:  # RE2 has a syntax that Python does not have
        return False
    return found == (operator == "=~")


def route_matchers(route: Mapping[str, Any], key: str = "matchers") -> list[tuple[str, str, str]]:
    """The matchers of a route or an inhibition, also in their old notation."""
    return [parse_matcher(str(text)) for text in _modern(route).get(key) or ()]
