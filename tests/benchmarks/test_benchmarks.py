"""The benchmarks run at all, in a small size; what they measure is not judged here."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.harness import DEADLINE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("startup", 3),
        *(
            pytest.param(name, figures, marks=pytest.mark.soak)
            for name, figures in (
                ("fanout", 6),
                ("latency", 5),
                ("warm", 6),
                ("history", 4),
                ("project_list", 4),
                ("idle", 2),
                ("terminal", 7),
            )
        ),
    ],
)
async def test_benchmark_gives_its_figures(name: str, figures: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks",
        name,
        "--scale=0.02",
        f"--json={report}",
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await process.wait() in {0, 1}  # 1: a target was missed, which a small and noisy run may
    rows = json.loads(report.read_text("utf-8"))
    assert len(rows) >= figures
    assert all(isinstance(row["value"], float | int) for row in rows)
