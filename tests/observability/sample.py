"""Events to tell observers of: one of each kind with every field filled."""

import dataclasses
import types
import typing
from datetime import UTC, datetime
from typing import Any, Final

from pocket_agent.events import EVENTS, Event
from pocket_agent.model import (
    ExecutionContext,
    ExecutionId,
    ExecutionStatus,
    HoldReason,
    Milliseconds,
    ModelUsage,
    project_of,
)

KINDS: Final = tuple(EVENTS)
LOGGED: Final = tuple(kind for kind in KINDS if not isinstance(kind.log_as, str))
NUMBER: Final = 3
FRACTION: Final = 1.25


def context(word: str = "word") -> ExecutionContext:
    """What names an execution, with the same word in every field."""
    return ExecutionContext(project_of(word), ExecutionId(word), word, word)


def example(kind: type[Event], word: str = "word", **fields: object) -> Event:
    """An event of this kind with every field filled: text is `word`, of a choice the first is taken.

    Args:
        kind: which kind.
        word: what each field says that holds text.
        fields: fields that are given instead.
    """
    hints = typing.get_type_hints(kind)
    values = {field.name: _value(hints[field.name], word) for field in dataclasses.fields(kind)}
    return kind(**{**values, **fields})


def _value(hint: Any, word: str) -> Any:
    known: dict[Any, Any] = {
        str: word,
        int: NUMBER,
        Milliseconds: Milliseconds(NUMBER),
        float: FRACTION,
        bool: True,
        datetime: datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        ExecutionStatus: ExecutionStatus.SUCCESS,
        HoldReason: HoldReason.USAGE_LIMIT,
        ExecutionContext: context(word),
        BaseException: ValueError(word),
        tuple[str, ...]: (word, word),
        tuple[ModelUsage, ...]: (ModelUsage(word, 1, 2, 3, 4, 0.5), ModelUsage(word, 10, 20, 30, 40, 0.25)),
    }
    if hint in known:
        return known[hint]
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        (filled,) = [part for part in typing.get_args(hint) if part is not type(None)]
        return _value(filled, word)
    raise AssertionError(f"no example of {hint}")
