"""A file of the stack: where it goes, what it says of itself, and its text, the same bytes each time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself in its first lines.

    Attributes:
        what: what it is for.
        place: where it belongs on a machine that runs the program as a service.
        reload: how a change is taken up.
        notes: whatever else must be known, a paragraph each.
    """

    what: str
    place: str
    reload: str
    notes: tuple[str, ...] = ()

    def comment(self, mark: str = "#") -> str:
        """The lines, each behind the mark of a comment."""
        lines = [
            self.what,
            f"Place: {self.place}",
            f"Reload: {self.reload}",
            *self.notes,
            "Written by `pocket-agent monitoring render`; change the server's settings and render again.",
        ]
        return "".join(f"{mark} {line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file that `pocket-agent monitoring render` writes.

    Attributes:
        path: below the directory that was asked for.
        text: the whole content.
        head: what the directory's README says of it; None for one of many, such as a dashboard.
    """

    path: str
    text: str
    head: Head | None = field(default=None, compare=False)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeats values instead of pointing at them."""

    def ignore_aliases(self, data: object) -> bool:
        """Always: anchors are hard to read."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_file(path: str, head: Head, value: Mapping[str, Any]) -> RenderedFile:
    """A YAML file; the order of the keys is kept."""
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return RenderedFile(path, f"{head.comment()}\n{body}", head)


def text_file(path: str, head: Head, body: str, *, mark: str = "#") -> RenderedFile:
    """A file of another language whose comments begin with `mark`."""
    return RenderedFile(path, f"{head.comment(mark)}\n{body}", head)


def json_file(path: str, head: Head, value: object, *, indent: int | None = 1) -> RenderedFile:
    """A JSON file, which can hold no comment: the directory's README has what `head` says."""
    return RenderedFile(path, json.dumps(value, indent=indent) + "\n", head)
