"""pocket_agent.observability: what it exports, and what the catalogue does not load."""

import subprocess
import sys

import pytest

from pocket_agent import observability


def test_every_exported_name_is_there_and_no_other() -> None:
    assert all(getattr(observability, name) is not None for name in observability.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LogObserver'"):
        observability.__getattr__("LogObserver")


def test_the_catalogue_loads_no_metrics_library() -> None:
    code = "import sys, pocket_agent.observability.catalogue; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
