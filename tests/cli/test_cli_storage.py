"""`pocket-agent storage`: what it says, and when it refuses."""

import re
import subprocess
import sys
from pathlib import Path

from pocket_agent.storage import Store
from pocket_agent.storage.database import database_path
from tests.storage.sample import create


def storage(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [sys.executable, "-m", "pocket_agent.cli", "storage", *arguments, f"--data-dir={tmp_path}"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_it_says_what_was_and_what_is(tmp_path: Path) -> None:
    store = Store.open(database_path(tmp_path))
    project = await create(store, entries=1, size=4 * 2**20)
    await store.delete_project(project)
    while (await store.next_project_number()) < 10:
        pass
    refused = storage(tmp_path, "compact")
    assert refused.returncode == 1
    assert "uses this database. Stop it" in refused.stderr
    await store.close()
    shown = storage(tmp_path, "show")
    assert re.fullmatch(r".*/pocket-agent\.db: 4\.\d MiB, of which 4\.0 MiB \(9\d%\) are unused\.\n", shown.stdout)
    done = storage(tmp_path, "compact")
    assert (done.returncode, re.findall(r"(\w+): +([\d.]+) MiB, of which ([\d.]+)", done.stdout)) == (
        0,
        [("Before", shown.stdout.split()[1], "4.0"), ("After", "0.1", "0.0")],
    )
    assert storage(tmp_path, "show").stdout.endswith("0.1 MiB, of which 0.0 MiB (0%) are unused.\n")


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    for command in ("show", "compact"):
        found = storage(tmp_path / "none", command)
        assert found.returncode == 1
        assert "Traceback" not in found.stderr
        assert str(tmp_path / "none") in found.stderr
