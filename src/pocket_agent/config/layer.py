"""One source of settings, parsed: the values that it gives, and what is wrong with it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from pocket_agent.config.form import Kind, Place, quote
from pocket_agent.config.leaf import LEAVES
from pocket_agent.config.unit import RefusedError


@dataclass(frozen=True)
class Problem:
    """Something that makes the settings unusable.

    Attributes:
        subject: the setting, or the file as a whole.
        source: where it was given: `config.yaml:12`, `environment PA_DEMO`, `flag --port`.
        message: what is wrong and what is accepted.
    """

    subject: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject} ({self.source}): {self.message}"


@dataclass(frozen=True)
class Given:
    """A value as its source gives it, not yet looked at."""

    key: str
    value: object
    source: str


@dataclass
class Layer:
    """What one source says.

    Attributes:
        values: parsed values by dotted key.
        sources: where each of them was given.
        problems: what could not be used; `refused` has the settings among them.
    """

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, given: Iterable[Given], place: Place, problems: Iterable[Problem] = ()) -> "Layer":
        """Parse what a source gives; every refusal becomes a problem, none is raised."""
        layer = cls(problems=list(problems))
        for item in given:
            form = LEAVES[item.key].form
            try:
                layer.values[item.key] = form.parse(form.complete(item.value, place))
                layer.sources[item.key] = item.source
            except RefusedError as error:
                shown = f"{quote(item.value)}: " if form.kind is not Kind.MAPPING and not form.secret else ""
                message = f"{shown}{error}; accepted is {form.accepted}"
                layer.problems.append(Problem(item.key, item.source, message))
                layer.refused.add(item.key)
        return layer


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, if any is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
