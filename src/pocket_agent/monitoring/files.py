"""Rendered files, and the templates that they come from.

A template is a file of `templates/`. Only `${name}` with lower-case letters is replaced, so that `$labels` of
Prometheus, `$instance` of Grafana and `${NAME:?}` of Compose stay. YAML is parsed before placeholders are replaced, so
that the characters of a value cannot change the structure of a file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import takewhile
from typing import Any, Final

import yaml

_PLACEHOLDER: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_ORIGIN: Final = "Written by `pocket-agent monitoring render`; change the server's settings and render again."
YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file that `pocket-agent monitoring render` writes; `path` is below the directory of the stack."""

    path: str
    text: str


def template(path: str) -> Traversable:
    """The template with a path below `templates/`, which is that of the rendered file."""
    return files(__package__).joinpath("templates", *path.split("/"))


@cache
def load_all(path: str) -> tuple[Any, ...]:
    """The documents of a YAML template with its placeholders. They are shared: do not change them."""
    return tuple(yaml.load_all(template(path).read_text("utf-8"), YAML_LOADER))


def load(path: str) -> Any:
    """The first document of a YAML template."""
    return load_all(path)[0]


_MAX_DEPTH: Final = 100
_MAX_NODES: Final = 1_000_000


def read_mapping(text: str) -> dict[str, Any]:
    """The YAML mapping that a program has returned; empty when it is another value, cannot be read, or is too large.

    libyaml's composer recurses without a limit, and aliases multiply what they refer to, so both are counted before.
    """
    sizes: dict[str | None, int] = {}  # of each anchor's node, in nodes
    parents: list[tuple[str | None, int]] = []
    nodes = 0
    try:
        for event in yaml.parse(text, YAML_LOADER):
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, before = parents.pop()
                sizes[anchor] = nodes - before
            elif isinstance(event, yaml.AliasEvent):
                nodes += sizes.get(event.anchor, _MAX_NODES)  # without a size, it is within its own anchor
            elif isinstance(event, yaml.NodeEvent):
                nodes += 1
                if isinstance(event, yaml.CollectionStartEvent):
                    parents.append((event.anchor, nodes - 1))
                else:
                    sizes[event.anchor] = 1
            if nodes > _MAX_NODES or len(parents) > _MAX_DEPTH:
                return {}
        tree = yaml.load(text, YAML_LOADER)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError):
        return {}  # PyYAML lets the others out for values that do not fit their tag, as `!!bool x`
    return tree if isinstance(tree, dict) else {}


def fill(node: Any, values: Values) -> Any:
    """Replace the placeholders in a tree of mappings, lists and strings.

    A string that is one placeholder becomes the value itself. A key whose value becomes None is left out. A list that
    replaces an item of a list is inserted item by item.
    """
    match node:
        case str():
            whole = _PLACEHOLDER.fullmatch(node)
            return values[whole[1]] if whole else fill_text(node, values)
        case dict():
            filled = ((fill(key, values), held, fill(held, values)) for key, held in node.items())
            return {key: value for key, held, value in filled if value is not None or held is None}
        case list():
            items: list[Any] = []
            for item in node:
                value = fill(item, values)
                if isinstance(item, str) and isinstance(value, list):
                    items += value
                elif value is not None or item is None:
                    items.append(value)
            return items
    return node


def fill_text(text: str, values: Values) -> str:
    """Replace the placeholders in a text; a list gives a line for each item, and none if it is empty."""

    def replaced(found: re.Match[str]) -> str:
        value = values[found[1]]
        return "\n".join(value) if isinstance(value, list) else decimal(value)

    empty = {name for name, value in values.items() if value == []}
    if empty:
        text = re.sub(rf"^\$\{{({'|'.join(sorted(empty))})\}}\n", "", text, flags=re.MULTILINE)
    return _PLACEHOLDER.sub(replaced, text)


def decimal(value: object) -> str:
    """A value as text; a number without an exponent, as PromQL and configuration files require."""
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def head_of(text: str) -> list[str]:
    """The lines of the first comment of a file: its purpose, its place, and how to reload it."""
    mark = "//" if text.startswith("//") else "#"
    lines = takewhile(lambda line: line.startswith(mark), text.splitlines())
    return [line.removeprefix(mark).strip() for line in lines]


def with_origin(path: str, text: str) -> RenderedFile:
    """A file whose first comment also names the command that wrote it."""
    head, blank, body = text.partition("\n\n")
    mark = "//" if text.startswith("//") else "#"
    return RenderedFile(path, f"{head}\n{mark} {_ORIGIN}{blank}{body}")


def text_file(path: str, values: Values, *, source: str | None = None) -> RenderedFile:
    """A file from a plain text template; `source`: the path of the template, if it differs from `path`."""
    return with_origin(path, fill_text(template(source or path).read_text("utf-8"), values))


def yaml_file(path: str, value: object) -> RenderedFile:
    """A YAML file with the comment of its template; the order of the keys is kept."""
    head = "".join(f"# {line}\n" for line in head_of(template(path).read_text("utf-8")))
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return with_origin(path, f"{head}\n{body}")


# PyYAML has the class of libyaml only if it was built with it, so the base is not known to mypy.
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes multi-line texts as blocks, and repeats values instead of using anchors, so that users can read it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)
