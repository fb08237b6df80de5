"""A store that is closed after the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pocket_agent.storage import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "data" / "pocket-agent.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    """An empty store whose first turns are over."""
    opened = Store.open(database)
    await opened.check()
    yield opened
    await opened.close()
