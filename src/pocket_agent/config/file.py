"""The settings file: YAML text to dotted keys, each with its line.

The text is composed into nodes and never constructed into objects, so no tag can run code and
no alias can multiply. Plain words mean what YAML 1.2 says (its core schema, section 10.3.2), not
YAML 1.1: `5:30` and `0123` are texts, and so are `off` and `yes`, which boolean settings
understand as texts.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pocket_agent.config.form import printable, quote
from pocket_agent.config.layer import Given, Problem, suggest
from pocket_agent.config.leaf import LEAVES, SECTIONS

MAX_FILE_SIZE: Final = 256 * 1024
"""Bytes; a file that sets everything has about 4 KiB."""
_MAX_DEPTH: Final = 16

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,29})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,40}|(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class _Composer(yaml.SafeLoader):
    """Nodes of one document, without aliases, tags and towers of brackets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.yaml_implicit_resolvers = {}
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not accepted", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags are not accepted", event)
        if self._depth >= _MAX_DEPTH:
            raise _refusal("nested too deeply", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _refusal(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return ComposerError(None, None, problem, cast(yaml.Mark, event.start_mark))


def read_file(path: Path) -> tuple[list[Given], list[Problem]]:
    """The settings in a YAML file, and everything in it that is none.

    Raises nothing: an unreadable file is a problem, too.
    """
    name = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
        if len(content) > MAX_FILE_SIZE:
            return [], [Problem("the file", name, f"larger than {MAX_FILE_SIZE // 1024} KiB")]
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return [], [Problem("the file", f"{name}:{line}", "not UTF-8")]
    except OSError as error:
        return [], [Problem("the file", name, f"cannot be read: {error.strerror or error}")]
    except ValueError:
        return [], [Problem("the file", name, "not a path")]
    return parse_text(text, name)


def parse_text(text: str, name: str) -> tuple[list[Given], list[Problem]]:
    """As `read_file`, for a text that is already in memory; `name` stands in the sources."""
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source = name if mark is None else f"{name}:{mark.line + 1}"
        return [], [Problem("the file", source, f"not YAML that can be read: {error.problem or error.context}")]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [], [Problem("the file", f"{name}:{line}", "has a character that YAML does not allow")]
    except (ValueError, OverflowError) as error:
        # PyYAML lets these out for escapes beyond Unicode ("\UFFFFFFFF") and endless version numbers.
        return [], [Problem("the file", name, f"not YAML that can be read: {quote(str(error))}")]
    walker = _Walker(name)
    if root is not None:
        walker.walk(root)
    return walker.given, walker.problems


class _Walker:
    """Sorts the nodes of one file into settings and problems."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.given: list[Given] = []
        self.problems: list[Problem] = []

    def walk(self, node: Node, section: str = "") -> None:
        """Take in a section; the empty name is the whole file."""
        if isinstance(node, ScalarNode) and node.style is None and node.value in _NULLS:
            return
        if not isinstance(node, MappingNode):
            kind = "a mapping of settings" if section else "a mapping of sections"
            self._refuse(section or "the file", node.start_mark.line + 1, f"not {kind}")
            return
        prefix = f"{section}." if section else ""
        for name, child, line in self._items(node, section):
            key = prefix + name
            if "." in name and key in LEAVES:
                self._refuse(key, line, "sections are written as nested mappings, not with dots")
            elif key in SECTIONS:
                self.walk(child, key)
            elif key in LEAVES:
                raw = LEAVES[key].form.raw
                self.given.append(Given(key, self._value(child, key, raw=raw), f"{self._name}:{line}"))
            else:
                self._refuse(printable(key), line, "unknown setting" + _hint(name, prefix))

    def _items(self, node: MappingNode, section: str) -> Iterator[tuple[str, Node, int]]:
        """The pairs of a mapping, each with its line; odd and repeated keys become problems."""
        seen: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self._refuse(section or "the file", line, "a key that is not a word")
            elif key.value in seen:
                where = f"{section}.{key.value}" if section else key.value
                self._refuse(printable(where), line, f"given twice; first on line {seen[key.value]}")
            else:
                seen[key.value] = line
                yield key.value, child, line

    def _value(self, node: Node, key: str, *, raw: bool) -> object:
        """Plain data out of a node; with `raw`, a plain word stays the text it is."""
        if isinstance(node, SequenceNode):
            return [self._value(item, key, raw=raw) for item in node.value]
        if isinstance(node, MappingNode):
            return {name: self._value(child, key, raw=raw) for name, child, _ in self._items(node, key)}
        if not isinstance(node, ScalarNode):
            raise TypeError(f"YAML has no {type(node).__name__}")
        text: str = node.value
        if node.style is not None or (raw and text not in _NULLS):
            return text
        return read_word(text)

    def _refuse(self, subject: str, line: int, message: str) -> None:
        self.problems.append(Problem(subject, f"{self._name}:{line}", message))


def read_word(text: str) -> object:
    """What an unquoted word of YAML means, by the core schema of YAML 1.2, hexadecimal and octal left out."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(re.sub(r"\.(?=[iInN])", "", text))
    return text


def _hint(name: str, prefix: str) -> str:
    """Where an unknown name may belong: the same name elsewhere, else the nearest one."""
    same = [key for key in (*LEAVES, *sorted(SECTIONS)) if key.rsplit(".", 1)[-1] == name]
    if same:
        return f"; did you mean {' or '.join(same[:3])}?"
    siblings = {key.removeprefix(prefix).split(".")[0] for key in LEAVES if key.startswith(prefix)}
    return suggest(name, sorted(siblings)) or f"; known here: {', '.join(sorted(siblings))}"
