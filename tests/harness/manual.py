"""What a document for people holds that can be held against the program: commands, settings, queries, links."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer.main
from typer.core import TyperGroup

from pocket_agent.cli.main import app
from pocket_agent.monitoring import recorded_names
from pocket_agent.observability.catalogue import CATALOGUE, Metric
from pocket_agent.settings.load import parse_layer, parse_yaml
from pocket_agent.settings.sections import SETTINGS
from pocket_agent.settings.types import PathContext
from tests.harness.expression import FOREIGN
from tests.harness.tool import ROOT, require_tool

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n.*?^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w./-])pocket-agent (?=[a-z])([^`|\n)]*)")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_SECTIONS = "|".join(dict.fromkeys(key.split(".")[0] for key in SETTINGS if "." in key))
_SETTING = re.compile(rf"(?<![\w./-])((?:{_SECTIONS})\.[a-z][a-z_.]*[a-z])(?![\w(/-])")
_FILE_ENDINGS = (".yml", ".yaml", ".md", ".py", ".db", ".json", ".log", ".pem", ".service", ".js")
_MESSAGE = re.compile(r'\.msg == "([^"]+)"')
_FIELD = re.compile(r"\.fields\.([a-z_]+)")

_WORD = re.compile(r"(?<![\w.:$])[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABELS = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SYNTAX = frozenset(("and", "or", "unless", "bool", "offset", "inf", "nan"))
_TARGET = frozenset(("job", "instance", "service", "environment"))


class Block(NamedTuple):
    """A block of code, and the heading that it stands under."""

    language: str
    text: str
    section: str


def blocks(text: str, *languages: str) -> list[Block]:
    """The blocks of code in some languages."""
    found = []
    for match in _FENCE.finditer(text):
        above = _HEADING.findall(text, 0, match.start())
        if match[1] in languages:
            found.append(Block(match[1], match[2], above[-1] if above else ""))
    return found


def queries(text: str) -> list[str]:
    """The PromQL of a document: one query for each paragraph of a block."""
    return [
        query.strip() for block in blocks(text, "promql") for query in re.split(r"\n\s*\n", block.text) if query.strip()
    ]


def shell_lines(text: str) -> Iterator[tuple[str, str]]:
    """Each command line of the blocks of shell, with the heading that it stands under."""
    for block in blocks(text, "sh", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#.*$", "", line).strip()
            if command:
                yield block.section, command


# --- commands of our own


def typed(text: str) -> Iterator[str]:
    """The commands of the blocks that show a terminal, without what was answered."""
    for block in blocks(text, "console"):
        yield from (line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))


def wrong_commands(text: str) -> list[str]:
    """The uses of `pocket-agent` in a text that name a command or a flag which is not there."""
    said = _CONSOLE.sub("", text) + "\n".join(typed(text))
    return [f"pocket-agent {found}" for found in _COMMAND.findall(said) if not _exists(found)]


def _exists(words: str) -> bool:
    command: Any = typer.main.get_command(app)
    for word in _split(words):
        if word.startswith("-") and word != "-":
            flags = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.split("=")[0] not in {*flags, "--help"}:
                return False
        elif isinstance(command, TyperGroup):
            command = command.commands.get(word.rstrip(".,;:"))
            if command is None:
                return False
    return True


def _split(words: str) -> list[str]:
    words = re.split(r"[>;&#]", words)[0]
    try:
        return shlex.split(words)
    except ValueError:  # prose with an apostrophe
        return words.split()


# --- settings, links, the log


def unknown_settings(text: str) -> list[str]:
    """What is named like a setting and is none; a section's wildcard (`monitoring.*`) is left out."""
    names = {name for name in _SETTING.findall(text) if not name.endswith(_FILE_ENDINGS)}
    return sorted(
        name for name in names if name not in SETTINGS and not any(key.startswith(f"{name}.") for key in SETTINGS)
    )


def broken_links(path: Path, *, text: str | None = None) -> list[str]:
    """The links of a document to files or headings that are not there; those of the web are not followed."""
    text = path.read_text("utf-8") if text is None else text
    return [link for link in _LINK.findall(text) if not link.startswith("http") and not _leads(path, link)]


def _leads(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    if not anchor:
        return True
    return anchor in {_slug(heading) for heading in _HEADING.findall(target.read_text("utf-8"))}


def _slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def _log() -> Mapping[str, frozenset[str]]:
    """The fields of each message of the log."""
    schema: Any = json.loads((ROOT / "tests/observability/log_schema.json").read_text("utf-8"))
    found = {}
    for message, kind in schema["$defs"].items():
        fields = kind.get("properties", {}).get("fields") or {}  # false: there are none
        found[message] = frozenset(fields.get("properties", {}))
    return found


def unknown_log(text: str) -> list[str]:
    """The messages and fields of the log that a document asks for and that there are none of."""
    known = frozenset().union(*_log().values())
    messages = [message for message in _MESSAGE.findall(text) if message not in _log()]
    return [*messages, *(field for field in _FIELD.findall(text) if field not in known)]


# --- claims, and the tests that hold them


class Claim(NamedTuple):
    """A sentence, a list item or a row of a table, and the tests that its footnotes name."""

    text: str
    tests: tuple[str, ...]


_REFERENCE = re.compile(r"\[\^(\d+)\]")
_DEFINITION = re.compile(r"^\[\^(\d+)\]: (.*(?:\n {4}.*)*)\n?", re.MULTILINE)
_QUIET: Final = {ord(mark): 0xE000 + number for number, mark in enumerate(".!?:")}
_LOUD: Final = {private: mark for mark, private in _QUIET.items()}
_SENTENCE = re.compile(r".+?(?:[.!?:]\**(?:\s?\[\^\d+\])+|[.!?]\**(?=\s|$)|$)", re.DOTALL)


def claims(text: str) -> list[Claim]:
    """The sentences of a document in their order, without headings and code.

    The tests of one are those of the footnotes behind it. A block of code belongs to the sentence before it.
    """
    notes = {number: tuple(re.split(r",\s+", tests)) for number, tests in _DEFINITION.findall(text)}
    prose = _DEFINITION.sub("", _FENCE.sub("", text))
    return [
        Claim(
            _REFERENCE.sub("", part).translate(_LOUD).strip(),
            tuple(test for note in _notes_of(part) for test in notes.get(note, ())),
        )
        for block in re.split(r"\n\s*\n", prose)
        for unit in _units(block)
        for part in _SENTENCE.findall(unit)
        if part.strip()
    ]


def wrong_notes(text: str) -> list[str]:
    """The footnotes of a document that are used and not there, or there and not used."""
    return sorted(set(_notes_of(_DEFINITION.sub("", text))) ^ {number for number, _ in _DEFINITION.findall(text)})


def is_test(name: str) -> bool:
    """Whether `FILE::NAME` is a test of pytest or of vitest."""
    file, _, test = name.partition("::")
    path = ROOT / file
    if not test or not path.is_file():
        return False
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        return test.startswith("test_") and f"def {test}(" in source
    return f'test("{test}"' in source


def _notes_of(text: str) -> list[str]:
    return _REFERENCE.findall(text)


def _units(block: str) -> list[str]:
    """The items of a list and the rows of a table, or the one paragraph."""
    if block.startswith("#"):
        return []
    if block.startswith("|"):
        return [row.strip("|").replace("|", " ") for row in block.splitlines()[2:]]
    # A dot in code or in a link ends no sentence.
    quiet = re.sub(r"`[^`]*`|\]\([^)]*\)", lambda found: found[0].translate(_QUIET), block)
    return [" ".join(item.split()) for item in re.split(r"^- ", quiet, flags=re.MULTILINE) if item.strip()]


# --- queries


@cache
def _metrics() -> Mapping[str, Metric | None]:
    """Every series that there is, with what is known of its labels."""
    known: dict[str, Metric | None] = {}
    for metric in CATALOGUE:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        known.update({metric.name + suffix: metric for suffix in suffixes})
    for name, labels in FOREIGN.items():
        known[name] = Metric(name, "gauge", "", dict.fromkeys(labels, ()))
    return known | dict.fromkeys(recorded_names())


def wrong_queries(texts: Sequence[str], folder: Path) -> list[str]:
    """What is wrong with queries: series and labels that are not there, and what Prometheus does not understand."""
    faults = [fault for query in texts for fault in _strange_words(query)]
    file = folder / "queries.yml"
    made = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(texts)]
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": made}]}), "utf-8")
    command = [str(require_tool("promtool")), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return faults if done.returncode == 0 else [*faults, done.stdout + done.stderr]


def _strange_words(query: str) -> Iterator[str]:
    for name, matchers in _LABELS.findall(query):
        for label, _, values in _MATCHER.findall(matchers):
            yield from _strange_values(name, label, values)
    rest = re.sub(r'"[^"]*"', "", query)
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rest)
    rest = _GROUPING.sub("", rest)
    for match in _WORD.finditer(rest):
        is_function = rest[match.end() :].lstrip().startswith("(")
        name = match[0]
        if name not in _SYNTAX and not is_function and name not in _metrics() and not re.fullmatch(r"\d+[a-z]+", name):
            yield f"{name} in {query}"


def _strange_values(name: str, label: str, values: str) -> Iterator[str]:
    metric = _metrics().get(name)
    if metric is None or label in _TARGET or label == "le":
        return
    if label not in metric.labels:
        yield f"{name} has no label {label}"
        return
    known = metric.labels[label]
    yield from (f"{name}: {label} is never {value}" for value in values.split("|") if known and value not in known)


def refused_settings(text: str) -> str:
    """Why a block of YAML cannot be a settings file; empty when it can."""
    layer = parse_layer(parse_yaml(text, "config.yaml"), PathContext(home=Path("/home/ada"), base=Path("/")))
    return "\n".join(map(str, layer.problems))
