"""Fixtures that tests of every room share."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.recorder import scripted
from tests.harness.server import ServerProcess, running_server, write_standin

# No test asserts a time: an example may take long on a busy machine.
settings.register_profile("suite", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("suite"), max_examples=1000)  # chosen by `make soak`
settings.load_profile("suite")

# A shell has its background jobs ignore Ctrl-C, and so would all programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def standin_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose agents are the stand-in."""
    binary = write_standin(tmp_path)
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(binary)}) as server:
        yield server


@pytest.fixture
async def demo_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose agents are the real CLI, talking to the scripted model."""
    async with scripted(tmp_path) as environment, running_server(tmp_path, env=environment) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty directory to make a project of."""
    path = tmp_path / "project"
    path.mkdir()
    return path
