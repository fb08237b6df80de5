"""Who listens on a port of this machine."""

from typing import NamedTuple

import psutil


class Holder(NamedTuple):
    """A program that listens on a port.

    Attributes:
        pid: None when it is another user's, whose processes are not told.
        name: for a person.
    """

    pid: int | None
    name: str


def holder(port: int) -> Holder | None:
    """Who has a port; None when nobody does, or when that cannot be known."""
    try:
        found = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
    except (psutil.AccessDenied, OSError):  # macOS tells only root whose sockets there are
        return None
    for pid in found:
        if pid is None:
            return Holder(None, "a process of another user")
        name = process_name(pid)
        if name is not None:
            return Holder(pid, name)
    return None


def process_name(pid: int) -> str | None:
    """A process for a person, such as `prometheus (process 1234)`; None when it is gone."""
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return None
    return f"{''.join(char if char.isprintable() else '?' for char in name)} (process {pid})"


def listening_ports(pid: int) -> list[int]:
    """The ports that a process listens on; none when that cannot be known."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except (psutil.Error, OSError):
        return []
    return sorted({item.laddr.port for item in found if item.status == psutil.CONN_LISTEN and item.laddr})
