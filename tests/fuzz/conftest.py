"""Fixtures of fuzz runs."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.server.room import Room, open_room


class Faults(logging.Filter):
    """The kinds of exceptions that libraries have logged; the records themselves, which hold much, are let go of."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[type[BaseException]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the kind, and nothing else."""
        if record.exc_info and record.exc_info[0] is not None:
            self.kinds.add(record.exc_info[0])
        return False


@pytest.fixture
def faults() -> Iterator[Faults]:
    """What aiohttp and asyncio complain of."""
    found = Faults()
    loggers = [logging.getLogger(name) for name in ("aiohttp.server", "asyncio")]
    for logger in loggers:
        logger.addFilter(found)
    yield found
    for logger in loggers:
        logger.removeFilter(found)


@pytest.fixture
async def room(tmp_path: Path, faults: Faults) -> AsyncIterator[Room]:
    """A server with the settings as they are by default; its clients close with any code they like."""
    async with open_room(tmp_path) as opened:
        opened.catalogued = False
        yield opened
