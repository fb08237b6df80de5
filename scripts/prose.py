"""Checks documentation, comments, messages and labels against the word list in scripts/prose.toml.

    prose.py             what `make check` runs: refuses hits beyond those that prose-allowed.txt lists
    prose.py --write     writes prose-allowed.txt again; refuses when the sum of its numbers would grow
    prose.py FILE ...    prints every hit in these files

codespell looks up single words and has no phrases; vale downloads a program. Neither reads JSX text.
"""

import io
import re
import sys
import tokenize
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = Path(__file__).with_name("prose.toml")
ALLOWED = "scripts/prose-allowed.txt"

FILES = (
    "*.md",
    "docs/**/*.md",
    *(f"src/pocket_agent/**/*.{kind}" for kind in ("py", "md", "html", "yml", "yaml", "conf", "service")),
    "webui/src/**/*.ts",
    "webui/src/**/*.tsx",
)
SKIPPED = (
    "src/pocket_agent/web/",  # built from webui/
    "webui/src/wire/generated.ts",  # generated from docstrings, which are checked
)

OPAQUE = "\0"
"""Replaces a character that is not prose, so that no phrase matches across it."""

IN_TEXT = re.compile(
    r"(?<!`)`(?!`)(?:[^`\n]|\n(?!\s*\n))*`"  # inline code
    r"|https?://[^\s)>\"']+"
    r"|(?<=\])\([^)\s]*\)"  # the target of a link
    r"|\{[^{}\n]*\}"  # a replacement field
    r"|\\[nrt]"
)
IN_TYPESCRIPT = re.compile(
    r"//(?P<line>[^\n]*)"
    r"|/\*(?P<block>.*?)\*/"
    r'|"(?P<string>(?:[^"\\\n]|\\.)*)"'
    r"|`(?P<template>(?:[^`\\]|\\.)*)`"
    r"|(?:(?<![=\s])[>}]|(?<=\n)[ ]*/?>)(?P<label>[^<>{}=;\"`]*[A-Za-z][^<>{}=;\"`]*)(?=[<{])",
    re.DOTALL,
)


@dataclass(frozen=True)
class Rule:
    """One entry of the word list."""

    refuse: re.Pattern[str]
    instead: str
    bad: str
    good: tuple[str, ...]


@dataclass(frozen=True)
class Hit:
    """A refused word at a line of a file."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word} -> {self.instead}"


def load_rules() -> list[Rule]:
    """The word list."""
    return [
        Rule(
            re.compile(rule["refuse"], re.IGNORECASE | re.MULTILINE),
            rule["instead"],
            rule["bad"],
            tuple(rule.get("good", ())),
        )
        for rule in tomllib.loads(RULES.read_text("utf-8"))["rule"]
    ]


def hide(text: str) -> str:
    """Replace all but white space, which keeps lines and offsets."""
    return re.sub(r"\S", OPAQUE, text)


def prose(path: str, text: str) -> str:
    """The prose of a file; everything else is replaced, character by character."""
    if path.endswith(".py"):
        return _assemble(text, _python(text))
    if path.endswith((".ts", ".tsx")):
        return _assemble(text, _typescript(text))
    if path == "CHANGELOG.md":  # a released part describes the past and does not change
        end = [found.start() for found in re.finditer(r"^## \[", text, re.MULTILINE)][1:2]
        text = text[: end[0]] if end else text
    return _plain(text)


def _plain(text: str) -> str:
    return IN_TEXT.sub(lambda found: hide(found[0]), text)


def _assemble(text: str, parts: Iterator[tuple[int, str]]) -> str:
    """The parts, which start at an offset each, and in between nothing that a rule matches."""
    pieces, end = [], 0
    for start, part in parts:
        pieces += [hide(text[end:start]), _plain(part)]
        end = start + len(part)
    return "".join([*pieces, hide(text[end:])])


def _python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and strings of several words."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    depth, start = 0, 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if not depth:
            start = lines[token.start[0] - 1] + token.start[1]
        depth += (name == "FSTRING_START") - (name == "FSTRING_END")  # Python 3.12 splits what 3.11 has as a STRING
        part = text[start : lines[token.end[0] - 1] + token.end[1]]
        if name == "COMMENT":
            yield start, part.replace("#", " ")
        elif name in {"STRING", "FSTRING_END"} and not depth and len(part.split()) > 1:
            quoted = re.sub(r"^\w*(\"{3}|\"|'{3}|')|(\"{3}|\"|'{3}|')$", lambda found: " " * len(found[0]), part)
            yield start, quoted


def _typescript(text: str) -> Iterator[tuple[int, str]]:
    """Comments, strings of several words, and the text of elements."""
    for found in IN_TYPESCRIPT.finditer(text):
        kind = str(found.lastgroup)
        part = found[kind]
        if kind in {"string", "template"}:
            part = re.sub(r"\$?\{[^{}]*\}", lambda field: hide(field[0]), part)
            if len(part.split()) < 2:
                continue
        if kind == "block":
            part = re.sub(r"^\s*\*", lambda star: star[0].replace("*", " "), part, flags=re.MULTILINE)
        yield found.start(kind), part


def hits(path: str, text: str, rules: list[Rule]) -> list[Hit]:
    """All refused words of a file, by line."""
    pieces: list[str] = []
    starts, lines = [0], [1]
    for piece in re.findall(r"\S+|\s+", prose(path, text)):
        pieces.append(("\n" if piece.count("\n") > 1 else " ") if piece.isspace() else piece)
        starts.append(starts[-1] + len(pieces[-1]))
        lines.append(lines[-1] + piece.count("\n"))
    checked = "".join(pieces)
    found = [
        Hit(path, lines[bisect_right(starts, match.start()) - 1], match[0].strip()[:40], rule.instead)
        for rule in rules
        for match in rule.refuse.finditer(checked)
    ]
    return sorted(found, key=lambda hit: hit.line)


def checked_files(root: Path) -> dict[str, str]:
    """The text of each file that is checked, by its path below `root`."""
    found = {path.relative_to(root).as_posix(): path for pattern in FILES for path in root.glob(pattern)}
    return {name: path.read_text("utf-8") for name, path in sorted(found.items()) if not name.startswith(SKIPPED)}


def allowed(root: Path) -> dict[str, int]:
    """The number of hits that each listed file may have."""
    lines = (root / ALLOWED).read_text("utf-8").splitlines()
    return {path: int(number) for number, path in (line.split(maxsplit=1) for line in lines if line.strip())}


def problems(found: dict[str, list[Hit]], listed: dict[str, int]) -> list[str]:
    """What to correct: hits beyond the listed number, and numbers above the truth."""
    wrong: list[str] = []
    for path in sorted({*found, *listed}):
        number, limit = len(found.get(path, ())), listed.get(path, 0)
        if number > limit:
            wrong += [str(hit) for hit in found[path]]
            wrong.append(f"{path}: {number} refused words, {ALLOWED} allows {limit}")
        elif number < limit:
            wrong.append(f"{path}: {number} refused words, {ALLOWED} allows {limit}: run scripts/prose.py --write")
    return wrong


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Check, write the list of allowed numbers, or print hits; returns the exit status."""
    rules = load_rules()
    write = arguments == ["--write"]
    texts = {name: (root / name).read_text("utf-8") for name in arguments if not write} or checked_files(root)
    found = {path: result for path, text in texts.items() if (result := hits(path, text, rules))}
    if write:
        before, after = sum(allowed(root).values()), sum(map(len, found.values()))
        if after > before:
            print(
                f"{ALLOWED} allows {before} refused words, and there are {after}: correct the new ones",
                *problems(found, allowed(root)),
                sep="\n",
            )
            return 1
        (root / ALLOWED).write_text(
            "".join(f"{len(result)} {path}\n" for path, result in sorted(found.items())), "utf-8"
        )
        return 0
    if arguments:
        print(*(hit for result in found.values() for hit in result), sep="\n")
        return 1 if found else 0
    wrong = problems(found, allowed(root))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
