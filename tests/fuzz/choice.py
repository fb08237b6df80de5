"""What a fuzz run throws at the server: chosen by hypothesis, as much as the environment asks for."""

import gc
import os
from typing import Any, Final, NamedTuple, TypeVar

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Chosen = TypeVar("Chosen")

LONG: Final = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Examples of each test in a long run (`make fuzz`), which are others each time; 0 for a short one, always the same."""


def chosen(strategy: st.SearchStrategy[Chosen], count: int) -> list[Chosen]:
    """So many examples, or those of a long run."""
    found: list[Chosen] = []

    @settings(
        max_examples=LONG or count,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def choose(example: Chosen) -> None:
        found.append(example)

    choose()
    return found


class Holding(NamedTuple):
    """What the process holds: its objects, and its memory in bytes."""

    objects: int
    memory: int

    def has_not_grown(self, before: "Holding") -> bool:
        """Whether it is about as much as before; a leak of one object or of a KiB an example is more, in a long run."""
        return self.objects < before.objects + _SPARE_OBJECTS and self.memory < before.memory + _SPARE_BYTES


def holding() -> Holding:
    """What the process holds now."""
    gc.collect()
    return Holding(len(gc.get_objects()), psutil.Process().memory_info().rss)


_SPARE_OBJECTS: Final = 5000
_SPARE_BYTES: Final = 32 * 2**20

JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
