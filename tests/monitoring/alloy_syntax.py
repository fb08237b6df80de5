"""A reader of Alloy's configuration language, as far as ours uses it: blocks, attributes and literals.

By the published grammar of the syntax; the real `alloy` cannot be had here.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|//[^\n]*)|(?P<end>\n)|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<number>[0-9]+)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>[{}\[\](),.=])"""
)


class AlloySyntaxError(ValueError):
    """Not the language."""


@dataclass
class Reference:
    """The value of something else, such as `loki.write.local.receiver`."""

    path: str


@dataclass
class Block:
    """A block.

    Attributes:
        name: dotted.
        label: None for one without.
        attributes: values by name.
        blocks: those inside, in order.
    """

    name: str
    label: str | None
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)

    def one(self, name: str) -> "Block":
        """The one block inside with this name."""
        (found,) = [block for block in self.blocks if block.name == name]
        return found


def parse(text: str) -> Block:
    """The whole file as a block.

    Raises:
        AlloySyntaxError: with the number of the line.
    """
    reader = _Reader(text)
    found = Block("", None)
    reader.body(found, closed=False)
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        place, line = 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise AlloySyntaxError(f"line {line}: {text[place : place + 20]!r}")
            kind, word = match.lastgroup or "", match.group()
            if kind != "blank":
                self._tokens.append((kind, word, line))
            line += word.count("\n")
            place = match.end()
        self._tokens.append(("end", "", line))
        self._at = 0

    def _peek(self) -> tuple[str, str]:
        kind, word, _ = self._tokens[self._at]
        return kind, word

    def _take(self, kind: str, word: str | None = None) -> str:
        found, text, line = self._tokens[self._at]
        if found != kind or (word is not None and text != word):
            raise AlloySyntaxError(f"line {line}: {text!r}, not {word or kind}")
        self._at += 1
        return text

    def _skip_lines(self) -> None:
        while self._at < len(self._tokens) - 1 and self._peek()[0] == "end":
            self._at += 1

    def body(self, block: Block, *, closed: bool) -> None:
        """Statements, a line each, up to the bracket that closes the block."""
        while True:
            self._skip_lines()
            if self._at == len(self._tokens) - 1 and not closed:
                return
            if closed and self._peek() == ("sign", "}"):
                return
            self._statement(block)
            if self._peek() != ("sign", "}"):
                self._take("end")

    def _statement(self, block: Block) -> None:
        name = self._path()
        if self._peek() == ("sign", "="):
            self._take("sign", "=")
            if "." in name or name in block.attributes:
                raise AlloySyntaxError(f"{name} cannot be set here")
            block.attributes[name] = self._value()
            return
        label = str(json.loads(self._take("text"))) if self._peek()[0] == "text" else None
        inner = Block(name, label)
        self._take("sign", "{")
        self.body(inner, closed=True)
        self._take("sign", "}")
        block.blocks.append(inner)

    def _path(self) -> str:
        parts = [self._take("name")]
        while self._peek() == ("sign", "."):
            self._take("sign", ".")
            parts.append(self._take("name"))
        return ".".join(parts)

    def _value(self) -> Any:
        kind, word = self._peek()
        if kind == "text":
            return json.loads(self._take("text"))
        if kind == "number":
            return int(self._take("number"))
        if (kind, word) == ("sign", "["):
            return self._sequence("[", "]", self._value)
        if (kind, word) == ("sign", "{"):
            return dict(self._sequence("{", "}", self._field))
        path = self._path()
        return {"true": True, "false": False}.get(path, Reference(path))

    def _field(self) -> tuple[str, Any]:
        name = self._take("name")
        self._take("sign", "=")
        return name, self._value()

    def _sequence(self, opening: str, closing: str, item: Any) -> list[Any]:
        """Items parted by commas; the last needs one if its line ends behind it."""
        self._take("sign", opening)
        self._skip_lines()
        found = []
        while self._peek() != ("sign", closing):
            found.append(item())
            if self._peek() != ("sign", closing):
                self._take("sign", ",")
                self._skip_lines()
        self._take("sign", closing)
        return found
