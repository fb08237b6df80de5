"""What the machine has used since it started, as far as its system tells."""

import math
from typing import Final, NamedTuple

import psutil

_IDLE: Final = ("idle", "iowait")


class MachineFigures(NamedTuple):
    """Figures of one moment; NaN where the system does not tell, as some containers do not.

    Attributes:
        cpu_seconds: time that processors worked, of all of them.
        cpu_total_seconds: the same with the time that they had nothing to do.
        memory_bytes: memory in use.
        read_bytes, written_bytes: what disks read and wrote.
    """

    cpu_seconds: float
    cpu_total_seconds: float
    memory_bytes: float
    read_bytes: float
    written_bytes: float


def machine_figures() -> MachineFigures:
    """The figures of this moment; a few short reads of /proc on Linux."""
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of guests in `user` and `nice` as well (proc_stat(5)).
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    memory = psutil.virtual_memory()
    read, written = _disk()
    return MachineFigures(
        cpu_seconds=total - sum(times.get(name, 0.0) for name in _IDLE),
        cpu_total_seconds=total,
        memory_bytes=memory.total - memory.available,
        read_bytes=read,
        written_bytes=written,
    )


def _disk() -> tuple[float, float]:
    try:
        found = psutil.disk_io_counters()
    except (OSError, RuntimeError, NotImplementedError):  # no /proc/diskstats, or one of an unknown form
        found = None
    return (found.read_bytes, found.write_bytes) if found is not None else (math.nan, math.nan)
