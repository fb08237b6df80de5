"""The memory limit: the smallest of the setting and of the control groups, of both versions."""

from pathlib import Path

import pytest

from pocket_agent.observability.metrics import memory_limit

GIB = 2**30


def write(path: Path, text: str) -> None:
    """A file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def limit(tmp_path: Path, groups: str, setting: int = 0) -> int:
    """The limit of a process in these groups."""
    write(tmp_path / "proc", groups)
    return memory_limit(setting, proc=tmp_path / "proc", root=tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("setting", "own", "around", "expected"),
    [
        (0, "max\n", "max\n", 0),
        (5, "max\n", "max\n", 5),
        (0, f"{GIB}\n", "max\n", GIB),
        (0, "max\n", f"{GIB}\n", GIB),
        (0, f"{2 * GIB}\n", f"{GIB}\n", GIB),
        (3 * GIB, f"{2 * GIB}\n", f"{4 * GIB}\n", 2 * GIB),
        (GIB, f"{2 * GIB}\n", "max\n", GIB),
        (0, "nonsense", "", 0),
    ],
)
def test_version_2(tmp_path: Path, setting: int, own: str, around: str, expected: int) -> None:
    write(tmp_path / "cgroup/system.slice/agent.service/memory.max", own)
    write(tmp_path / "cgroup/system.slice/memory.max", around)
    assert limit(tmp_path, "0::/system.slice/agent.service\n", setting) == expected


def test_version_2_in_a_container_that_shows_the_hosts_path(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory.max", f"{GIB}\n")
    assert limit(tmp_path, "0::/docker/0123456789\n") == GIB


def test_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory/docker/0123/memory.limit_in_bytes", f"{GIB}\n")
    write(tmp_path / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "cgroup/cpu/docker/0123/memory.limit_in_bytes", "1\n")
    groups = "12:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n0::/\n"
    assert limit(tmp_path, groups) == GIB


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert limit(tmp_path, "4:memory:/\n") == 0


def test_where_there_are_no_groups_the_setting_counts(tmp_path: Path) -> None:
    assert memory_limit(7, proc=tmp_path / "nothing", root=tmp_path) == 7
    assert memory_limit(0, proc=tmp_path / "nothing", root=tmp_path) == 0


def test_of_this_process() -> None:
    assert memory_limit(0) >= 0
    assert memory_limit(1) == 1
