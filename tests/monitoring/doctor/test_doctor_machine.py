"""pocket_agent.monitoring.doctor.machine: the log's file, and the clock."""

import os
from pathlib import Path

import pytest

from pocket_agent.monitoring.doctor.machine_checks import check_clock, check_log, kernel_time_state
from pocket_agent.monitoring.doctor.result import Result
from pocket_agent.settings import load_settings
from tests.harness.disk import read_only


def look(output: Path | str) -> Result:
    """What is found of a log."""
    flags = {"data.dir": "/data", "logging.output": output}
    return check_log(load_settings(config=None, environ={"HOME": "/"}, flags=flags).settings.logging)


def test_a_stream_is_always_there() -> None:
    assert (look("stdout").status, look("stderr").message) == ("ok", "goes to stderr")


def test_a_file_is_opened_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    file.write_text("a line\n", "utf-8")
    before = file.stat()
    assert look(file).status == "ok"
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "more" / "server.log"
    assert look(file).status == "ok", "the server makes missing directories"
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    file.touch()
    with read_only(tmp_path):
        finding = look(file)
        assert (finding.status, finding.message) == ("failed", f"{file} cannot be written: Read-only file system")
        assert look(tmp_path / "other.log").status == "failed"
    assert "logging.output" in finding.fix


def test_a_directory_in_place_of_a_file(tmp_path: Path) -> None:
    assert "Is a directory" in look(tmp_path).message


def test_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    finding = look(tmp_path / "logs" / "server.log")
    assert (finding.status, "logs is not a directory" in finding.message) == ("failed", True)


def test_a_pipe_that_somebody_else_reads_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert look(tmp_path / "pipe").status == "ok", "and it does not wait for a reader"


@pytest.mark.parametrize(("state", "status"), [(0, "ok"), (1, "ok"), (4, "ok"), (5, "warning"), (None, "skipped")])
def test_the_clock(state: int | None, status: str) -> None:
    finding = check_clock(state)
    assert finding.status == status
    assert ("set-ntp" in finding.fix) == (status == "warning")


def test_the_kernel_is_asked() -> None:
    assert kernel_time_state() in {0, 1, 2, 3, 4, 5, None}
