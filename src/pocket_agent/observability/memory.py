"""How much memory the server may use: its own setting, or the limit of the container that it runs in."""

from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self/cgroup")
_ROOT: Final = Path("/sys/fs/cgroup")
_NONE_V1: Final = 2**60
"""What a group of version 1 has where there is no limit is about 2**63, rounded down to whole pages."""


def memory_limit(setting: int, *, proc: Path = _PROC, root: Path = _ROOT) -> int:
    """The smaller of a limit and those of the control groups that the process is in, in bytes; 0 for none.

    Args:
        setting: the limit of the settings; 0 for none.
        proc: tells the groups of the process (cgroups(7), /proc/PID/cgroup).
        root: where the file systems of the groups are mounted.
    """
    found = [setting] if setting > 0 else []
    try:
        lines = proc.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes")
    return min(found, default=0)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of those around it, of which each counts."""
    found = []
    group = root / path.strip("/")
    # In a container the path may be one of the host, which is not there; the container's own is the root.
    while group.is_relative_to(root):
        try:
            limit = int((group / name).read_text("ascii"))
        except (OSError, ValueError):  # no such file, or the word "max"
            limit = 0
        if 0 < limit < _NONE_V1:
            found.append(limit)
        group = group.parent
    return found
