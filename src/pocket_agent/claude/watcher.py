"""Tells when files of a folder grow: inotify on Linux, polling where that cannot be had.

One inotify instance serves all spools of a server, with one watch for each folder.
"""

import asyncio
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncinotify import Inotify

_HEADER: Final = struct.Struct("iIII")
"""struct inotify_event without its name: wd, mask, cookie, len (inotify(7))."""

_MODIFY: Final = 0x2
_DELETE: Final = 0x200
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_BUFFER_BYTES: Final = 64 * 1024


class SpoolWatcher:
    """Calls a function whenever its file was written to. All methods run in one event loop."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._unavailable = not sys.platform.startswith("linux")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._folders: dict[Path, int] = {}
        self._names: dict[int, dict[bytes, Callable[[], object]]] = {}

    def add(self, path: Path, wake: Callable[[], object]) -> bool:
        """Call `wake` after each write to `path` from now on, often once for several writes.

        Returns:
            Whether the system tells; when not, the caller has to look by itself.
        """
        descriptor = self._folder(path.parent)
        if descriptor is None:
            return False
        self._names[descriptor][os.fsencode(path.name)] = wake
        return True

    def watches(self, path: Path) -> bool:
        """Whether `add` still holds for this file."""
        descriptor = self._folders.get(path.parent)
        return descriptor is not None and os.fsencode(path.name) in self._names[descriptor]

    def remove(self, path: Path) -> None:
        """Forget a file; harmless when it is not watched."""
        descriptor = self._folders.get(path.parent)
        if descriptor is not None:
            self._names[descriptor].pop(os.fsencode(path.name), None)

    def close(self) -> None:
        """Stop watching everything."""
        self._unavailable = True
        self._folders.clear()
        self._names.clear()
        if self._inotify is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _folder(self, folder: Path) -> int | None:
        # Asked each time: a folder that was removed and made anew has the same path and another watch, and the old
        # one goes on for as long as files that were in it are open.
        inotify = self._open()
        if inotify is None:
            return None
        from asyncinotify import Mask  # noqa: PLC0415  # it cannot be imported on other systems

        try:
            descriptor = inotify.add_watch(folder, Mask.MODIFY | Mask.DELETE | Mask.ONLYDIR).wd
        except OSError:  # ENOSPC: the user's limit of watches is reached; ENOENT: the folder is gone
            return None
        self._folders[folder] = descriptor
        self._names.setdefault(descriptor, {})
        return descriptor

    def _open(self) -> "Inotify | None":
        if self._inotify is None and not self._unavailable:
            from asyncinotify import Inotify  # noqa: PLC0415  # it cannot be imported on other systems

            try:
                self._inotify = Inotify()
            except OSError:  # EMFILE: the user's limit of inotify instances is reached
                self._unavailable = True
                return None
            os.set_blocking(self._inotify.fd, False)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._inotify.fd, self._read)
        return self._inotify

    def _read(self) -> None:
        if self._inotify is None:
            return
        try:
            events = os.read(self._inotify.fd, _BUFFER_BYTES)
        except BlockingIOError:
            return
        woken: dict[Callable[[], object], None] = {}
        position = 0
        while position < len(events):
            descriptor, mask, _, length = _HEADER.unpack_from(events, position)
            position += _HEADER.size
            name = events[position : position + length].rstrip(b"\0")
            position += length
            if mask & _OVERFLOW:
                woken.update((wake, None) for names in self._names.values() for wake in names.values())
            elif mask & _IGNORED:
                woken.update((wake, None) for wake in self._forget(descriptor))
            elif mask & (_MODIFY | _DELETE) and (wake := self._names.get(descriptor, {}).get(name)) is not None:
                woken[wake] = None
        for wake in woken:
            wake()

    def _forget(self, descriptor: int) -> list[Callable[[], object]]:
        """The folder is gone, or its file system; who waits for it has to look by itself."""
        self._folders = {folder: known for folder, known in self._folders.items() if known != descriptor}
        return list(self._names.pop(descriptor, {}).values())
