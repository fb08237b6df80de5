"""The programs of the stack under the system call filters of their units; systemd itself does not run."""

import json
import re
import sys
from ctypes.util import find_library
from pathlib import Path

import aiohttp
import pytest

from tests.harness import syscalls
from tests.harness.absence import absent
from tests.harness.server import free_port
from tests.harness.stack import Stack, load, stack_environment
from tests.harness.tool import GENERATIONS
from tests.monitoring.test_monitoring_systemd import analyze

UNITS = {
    "prometheus": "prometheus.service",
    "alertmanager": "prometheus-alertmanager.service",
    "node_exporter": "prometheus-node-exporter.service",
    "blackbox_exporter": "prometheus-blackbox-exporter.service",
}


def expand(name: str) -> list[str]:
    """The system calls of a set, which may include other sets."""
    done = analyze("syscall-filter", "--no-pager", name)
    assert done.returncode == 0, done
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    found = [word for word in words if word and not word.startswith(("#", "@"))]
    for inner in (word for word in words if word.startswith("@")):
        found += expand(inner)
    return found


@pytest.mark.parametrize("suite", GENERATIONS.values(), ids=list(GENERATIONS))
async def test_the_programs_run_under_the_filters_of_their_units(tmp_path: Path, suite: str) -> None:
    if find_library("seccomp") is None:
        absent("libseccomp")
    settings = load(stack_environment(tmp_path), tmp_path / "data", free_port()).settings
    stack = Stack(tmp_path / "stack", settings, suite)
    stack.render()
    for name, unit in UNITS.items():
        filters = syscalls.filters_of((stack.folder / "systemd" / unit).read_text("utf-8"), expand)
        assert filters, unit
        stack.prefixes[name] = (sys.executable, syscalls.__file__, json.dumps(filters))
    try:
        await stack.start()
        async with aiohttp.ClientSession() as http, http.get(f"{stack.url('node_exporter')}/metrics") as answer:
            exported = await answer.text()
        assert 'node_scrape_collector_success{collector="timex"} 1' in exported
        assert re.search(r"^node_timex_sync_status [01]$", exported, re.MULTILINE)
        # Each is alive after requests that make it work.
        await stack.prometheus.scraped("node")
        await stack.reload("alertmanager")
        await stack.reload("blackbox_exporter")
    finally:
        await stack.stop()
