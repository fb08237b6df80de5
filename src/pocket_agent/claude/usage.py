"""What the CLI says of tokens and dollars, as values of the server: pure, and proof against any figures.

A figure that cannot be one (negative, not finite, a text, beyond all bounds) counts as 0: what was used
may be told too low by a broken line, but sums never go backwards and never overflow.
"""

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from pocket_agent.claude.content import Usage
from pocket_agent.claude.message import Message
from pocket_agent.model import ModelUsage

MAX_TOKENS: Final = 10**12
MAX_COST_USD: Final = 1e6
"""Figures of one turn above these are garbage."""
MAX_MODELS: Final = 50
MAX_NAME_CHARACTERS: Final = 200
SYNTHETIC: Final = "<synthetic>"
"""The model of messages that the CLI wrote itself (2.1.330)."""


def turn_usage(message: Message) -> tuple[ModelUsage, ...] | None:
    """What was used since the result before this one, by model, subagents and compaction included.

    Models are named as in `system/init`. Nothing was used: empty.

    Args:
        message: a `result`.

    Returns:
        None when the CLI does not tell; 2.1.330 does.
    """
    try:
        told = msgspec.json.decode(message.turn_usage)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    return added((), [_of_model(name, figures) for name, figures in list(told.items())[:MAX_MODELS]])


def _of_model(name: str, figures: object) -> ModelUsage:
    given = figures if isinstance(figures, dict) else {}
    return ModelUsage(
        model=name[:MAX_NAME_CHARACTERS],
        input_tokens=_tokens(given.get("inputTokens")),
        output_tokens=_tokens(given.get("outputTokens")),
        cache_read_tokens=_tokens(given.get("cacheReadInputTokens")),
        cache_creation_tokens=_tokens(given.get("cacheCreationInputTokens")),
        cost_usd=dollars(given.get("costUSD")) or 0.0,
    )


def tokens_of(model: str, usage: Usage | None, cost_usd: float = 0.0) -> ModelUsage:
    """The API's figures under the name of a model."""
    if usage is None:
        return ModelUsage(model[:MAX_NAME_CHARACTERS], cost_usd=cost_usd)
    return ModelUsage(
        model=model[:MAX_NAME_CHARACTERS],
        input_tokens=_tokens(usage.input_tokens),
        output_tokens=_tokens(usage.output_tokens),
        cache_read_tokens=_tokens(usage.cache_read_input_tokens),
        cache_creation_tokens=_tokens(usage.cache_creation_input_tokens),
        cost_usd=cost_usd,
    )


def replaced(before: ModelUsage, usage: Usage) -> ModelUsage:
    """A message's figures after a `message_delta`, which replaces those that it has and leaves the others."""
    after = tokens_of(before.model, usage)
    given = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    known = {name: getattr(after, name) for name, value in zip(names, given, strict=True) if value is not None}
    return msgspec.structs.replace(before, **known)


def dollars(value: object) -> float | None:
    """An amount of money; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= MAX_COST_USD else None


def _tokens(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if math.isfinite(value) and 0 <= value <= MAX_TOKENS else 0


def added(one: Iterable[ModelUsage], other: Iterable[ModelUsage]) -> tuple[ModelUsage, ...]:
    """Both together, each model once; models that were not used are left out."""
    sums: dict[str, ModelUsage] = {}
    for used in (*one, *other):
        before = sums.get(used.model)
        sums[used.model] = used if before is None else before.plus(used)
    return tuple(used for used in sums.values() if used.is_any)


def main_model(usage: Iterable[ModelUsage]) -> str | None:
    """The model that answered most; None when none did."""
    return max(usage, key=lambda used: used.output_tokens, default=ModelUsage("")).model or None
