"""The directory that a process starts in, while others move and link what its path names."""

import subprocess
import sys
from pathlib import Path

import pytest

from pocket_agent.claude.process import held, is_replaced, spawn
from pocket_agent.claude.spool import Spool
from pocket_agent.errors import ExecutionFailedError
from tests.harness.mortal import as_mortal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the path as it is, elsewhere")


def here(directory: str) -> str:
    """Where a process that is started there finds itself."""
    return subprocess.run(["/bin/pwd", "-P"], cwd=directory, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory two levels down."""
    made = tmp_path / "code" / "project"
    made.mkdir(parents=True)
    (tmp_path / "secret" / "project").mkdir(parents=True)
    return made


def test_a_process_starts_in_the_directory(project: Path) -> None:
    with held(project) as directory:
        assert here(directory) == str(project)
    with held(Path("/")) as directory:
        assert here(directory) == "/"


def test_a_link_that_takes_its_place_afterwards_changes_nothing(project: Path) -> None:
    with held(project) as directory:
        moved = project.with_name("moved")
        project.rename(moved)
        project.symlink_to("/etc")
        assert here(directory) == str(moved)


@pytest.mark.parametrize("which", ["project", "code"])
def test_a_link_that_takes_its_place_before_is_refused(project: Path, tmp_path: Path, which: str) -> None:
    victim = project if which == "project" else project.parent
    victim.rename(tmp_path / "moved")
    victim.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=r"."), held(project):
        pass
    assert is_replaced(project)


def test_descriptors_are_closed(project: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with held(project):
            pass
        with pytest.raises(FileNotFoundError), held(project / "gone"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_an_agent_is_not_started_through_a_link(project: Path, tmp_path: Path) -> None:
    project.rmdir()
    project.symlink_to(tmp_path / "secret")
    spool = Spool(tmp_path / "spool", "s-1")
    spool.create()
    with pytest.raises(ExecutionFailedError, match="replaced by a link"):
        await spawn(["/bin/true"], cwd=project, environment={}, spool=spool)


ENTER = """
import os, pathlib, sys
from pocket_agent.claude.process import held
from tests.claude.test_claude_workdir import here
project = pathlib.Path(sys.argv[1])
assert not os.access(project.parent, os.R_OK)
with held(project) as directory:
    print(here(directory))
"""


def test_a_directory_may_be_entered_that_may_not_be_read(project: Path) -> None:
    project.parent.chmod(0o100)
    try:
        assert as_mortal(ENTER, project) == str(project)
    finally:
        project.parent.chmod(0o700)
