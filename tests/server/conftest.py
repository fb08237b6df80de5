"""Fixtures of the server's tests."""

import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pocket_agent.server import http
from pocket_agent.server.limits import Admission, Quotas
from tests.server.room import Room, open_room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server with the settings as they are by default."""
    async with open_room(tmp_path) as opened:
        yield opened


@pytest.fixture
def without_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of rate limits stand still, so that however slow the machine is, nothing is given back."""
    for limiter in (Admission, Quotas):
        monkeypatch.setattr(http, limiter.__name__, functools.partial(limiter, clock=lambda: 0.0))
