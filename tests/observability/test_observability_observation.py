"""Observability as the rest of the server uses it: what it exports, and how events reach its observers."""

import logging
import subprocess
import sys

import pytest

from pocket_agent import observability
from pocket_agent.events import Event, ProjectCreated, ProjectDeleted
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.observation import Fanout
from tests.observability.sample import KINDS, example
from tests.server.room import Recorder


class Faulty:
    """An observer that raises whatever it is told."""

    def emit(self, event: Event) -> None:
        """Raise."""
        raise KeyError(type(event).__name__)


def test_each_observer_is_told_in_turn() -> None:
    one, two, losses = Recorder(), Recorder(), Losses()
    fanout = Fanout([one, two], losses)
    told = [example(kind) for kind in KINDS]
    for event in told:
        fanout.emit(event)
    assert one.events == two.events == told
    assert losses.of("events") == 0


def test_one_that_raises_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    before, after, losses = Recorder(), Recorder(), Losses()
    fanout = Fanout([before, Faulty(), after], losses)
    for _ in range(3):
        fanout.emit(ProjectCreated("p", None))
    fanout.emit(ProjectDeleted("p", None))
    assert len(before.events) == len(after.events) == 4
    assert losses.of("events") == 4
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2, "once for each kind of fault"
    assert [vars(record)["fields"] for record in caplog.records] == [
        {"observer": "Faulty", "event": "ProjectCreated"},
        {"observer": "Faulty", "event": "ProjectDeleted"},
    ]


def test_what_ends_the_server_is_no_fault_of_an_observer() -> None:
    class Ending:
        def emit(self, _: Event) -> None:
            raise KeyboardInterrupt

    losses = Losses()
    with pytest.raises(KeyboardInterrupt):
        Fanout([Ending()], losses).emit(ProjectCreated("p", None))
    assert losses.of("events") == 0


def test_every_exported_name_is_there_and_no_other() -> None:
    assert all(getattr(observability, name) is not None for name in observability.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LogObserver'"):
        observability.__getattr__("LogObserver")


def test_the_catalogue_loads_no_metrics_library() -> None:
    code = "import sys, pocket_agent.observability.catalogue; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
