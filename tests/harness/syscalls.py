"""Runs a program under the system call filters of a systemd unit, on a machine without systemd as process 1.

As a script: `syscalls.py FILTERS PROGRAM ARGUMENT...`, where FILTERS is the JSON of `filters_of`.
"""

import ctypes
import ctypes.util
import json
import os
import re
import sys
from collections.abc import Callable
from typing import TypedDict

_ALLOW = 0x7FFF0000  # seccomp.h
_KILL_PROCESS = 0x80000000
_ERRNO_EPERM = 0x00050001


class Filter(TypedDict):
    """A filter of seccomp: the action for all calls, and another one for some."""

    default: int
    action: int
    calls: list[str]


def filters_of(unit: str, expand: Callable[[str], list[str]]) -> list[Filter]:
    """The filters that systemd would install for a unit.

    Args:
        unit: the text of the unit.
        expand: the system calls of a set of `systemd-analyze syscall-filter`, such as `@clock`.
    """
    found: list[Filter] = []
    allowed = " ".join(re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)).split()
    if allowed:
        refusal = _ERRNO_EPERM if re.search(r"^SystemCallErrorNumber=EPERM$", unit, re.MULTILINE) else _KILL_PROCESS
        calls = [call for name in allowed for call in (expand(name) if name.startswith("@") else [name])]
        found.append({"default": refusal, "action": _ALLOW, "calls": calls})
    if re.search(r"^ProtectClock=yes$", unit, re.MULTILINE):
        found.append({"default": _ALLOW, "action": _ERRNO_EPERM, "calls": expand("@clock")})
    return found


def install(filters: list[Filter]) -> None:
    """Install filters in this process.

    Raises:
        OSError: the kernel or libseccomp refuses.
    """
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint)
    library.seccomp_load.argtypes = (ctypes.c_void_p,)
    contexts = []
    for one in filters:
        context = library.seccomp_init(ctypes.c_uint32(one["default"]))
        for call in one["calls"]:
            number = library.seccomp_syscall_resolve_name(call.encode())
            # A negative number is a call of another architecture.
            if number >= 0 and (error := library.seccomp_rule_add(context, one["action"], number, 0)):
                raise OSError(-error, f"{call}: {os.strerror(-error)}")
        contexts.append(context)
    # The last one first: the filter of the unit may refuse to install another.
    for context in reversed(contexts):
        if error := library.seccomp_load(context):
            raise OSError(-error, os.strerror(-error))


if __name__ == "__main__":
    install(json.loads(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - a shell would run under the filters too
