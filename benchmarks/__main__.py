"""`python -m benchmarks [NAME ...] [--scale X] [--json FILE]`: runs benchmarks; exit status 1 on a missed target."""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop

from benchmarks import (
    fanout,
    flood,
    history,
    idle,
    latency,
    listing,
    opening,
    startup,
    telemetry,
    terminal,
    warm,
    web,
)
from benchmarks.row import Row

Bench = Callable[[Path, float], Coroutine[None, None, list[Row]]]

BENCHES: dict[str, Bench] = {
    "fanout": fanout.run,
    "latency": latency.run,
    "warm": warm.run,
    "history": history.run,
    "project_list": listing.run,
    "idle": idle.run,
    "flood": flood.run,
    "startup": startup.run,
    "telemetry": telemetry.run,
    "web": web.run,
    "opening": opening.run,
    "terminal": terminal.run,
}


def main() -> int:
    """Run and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the full size")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            made = uvloop.run(BENCHES[name](Path(folder) / name, options.scale))
        for row in made:
            verdict = "" if not row.target else f"  {row.target}: {'yes' if row.passed else 'NO'}"
            print(f"{row.name:<62} {row.value:>14,.3f} {row.unit}{verdict}", flush=True)
        rows += made
    if options.json is not None:
        options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
