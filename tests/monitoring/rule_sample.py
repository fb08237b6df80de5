"""Settings that rules are rendered from, from one end of each threshold to the other, and promtool's word on them."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pocket_agent.monitoring import RenderedFile
from pocket_agent.settings import AlertSettings, MonitoringSettings, ObjectiveSettings, Settings
from tests.harness.tool import require_tool


def scaled(factor: float) -> Settings:
    """The defaults with another factor on how long conditions must hold."""
    return Settings(alerts=AlertSettings(for_scale=factor))


LEAST = Settings(
    monitoring=MonitoringSettings(scrape_interval=0.1),
    alerts=AlertSettings(
        for_scale=0.25,
        slow_execution=1.0,
        error_rate=0.0,
        error_ratio=0.001,
        failed_ratio=0.001,
        limit_ratio=0.001,
        memory_ratio=0.001,
        agent_memory_ratio=0.001,
        agent_cpu_ratio=0.001,
        repeated_calls=2,
        silence=1.0,
        disk_free=1024,
        filesystem_free=0.001,
        machine_memory=0.001,
        machine_load=0.1,
        certificate=0.001,
        loop_lag=0.001,
        restarts=1,
        rejected_connections=1,
        dropped_clients=1,
        objectives=ObjectiveSettings(availability=0.94, latency=0.94, success=0.94),
    ),
)
MOST = Settings(
    monitoring=MonitoringSettings(scrape_interval=60.0),
    alerts=AlertSettings(
        for_scale=3.0,
        slow_execution=600.0,
        error_rate=1_000_000.0,
        error_ratio=0.999,
        failed_ratio=0.999,
        limit_ratio=0.999,
        memory_ratio=0.999,
        agent_memory_ratio=0.999,
        agent_cpu_ratio=0.999,
        repeated_calls=1000,
        silence=86400.0,
        disk_free=2**50,
        filesystem_free=0.999,
        machine_memory=0.999,
        machine_load=1000.0,
        certificate=3650 * 86400.0,
        loop_lag=1.0,
        restarts=10,
        rejected_connections=1_000_000,
        dropped_clients=1_000_000,
        objectives=ObjectiveSettings(availability=0.9999, latency=0.9999, success=0.9999),
    ),
)
UNEVEN = Settings(
    monitoring=MonitoringSettings(scrape_interval=7.0, runbook_url="https://wiki.example.org/runbooks/"),
    alerts=AlertSettings(
        for_scale=0.777,
        slow_execution=100.0,
        error_rate=0.123456789,
        error_ratio=1 / 3,
        failed_ratio=1 / 7,
        limit_ratio=0.87654321,
        memory_ratio=0.8,
        agent_memory_ratio=0.7,
        agent_cpu_ratio=0.6,
        repeated_calls=7,
        silence=100.5,
        disk_free=123_456_789,
        filesystem_free=0.0123,
        machine_memory=0.0123,
        machine_load=7.7,
        certificate=86400.5,
        loop_lag=0.1,
        restarts=2,
        rejected_connections=33,
        dropped_clients=7,
        objectives=ObjectiveSettings(availability=0.98765, latency=0.9512345, success=0.975),
    ),
)
SETTINGS = {
    "default settings": Settings(),
    "each threshold at its least": LEAST,
    "each threshold at its most": MOST,
    "uneven thresholds": UNEVEN,
    "at once": scaled(0),
    "after hours": scaled(100),
}


def write_files(folder: Path, files: Iterable[RenderedFile]) -> list[Path]:
    """Write rendered files; returns their paths."""
    paths = []
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, "utf-8")
        paths.append(path)
    return paths


def promtool(*arguments: str | Path, suite: str = "") -> tuple[int, str]:
    """Its exit status, and what it said; see `require_tool` for the suite."""
    program, environment = require_tool("promtool", suite), {**os.environ, "GOGC": "400"}  # a quarter less to compute
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr
