"""Real parts for tests to run against: the server as a process, the CLI, a stand-in for it."""

from typing import Final

DEADLINE_SECONDS: Final = 300.0
"""How long a test waits for an event before it fails, the same everywhere.

A longer deadline makes no passing test slower. A shorter one fails on a busy machine: with eight busy processes on
two cores everything takes five to ten times as long. The limit of a whole test (`timeout` in pyproject.toml) is longer.
"""
