"""Disks that fill and fail, for tests that may mount one; for others the test is skipped by name."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.absence import absent


def _mount(*arguments: str, what: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        absent(what)


@contextmanager
def small_disk(data: Path) -> Iterator[None]:
    """A data directory that is a file system of 24 MiB, with the agents' output elsewhere."""
    data.mkdir(mode=0o700)
    what = "a small file system, which only root can mount"
    _mount("-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(data), what=what)
    try:
        spool = data.with_name("spool")
        spool.mkdir(mode=0o700)
        (data / "spool").symlink_to(spool)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def fill(data: Path, *, leave: int = 0) -> Path:
    """A file that takes all space of a file system but so many bytes, while others write there, too."""
    filler = data / "filler"
    taken = 0
    with filler.open("wb") as file:
        while (wanted := _free(data) - leave) > 0:
            try:
                os.posix_fallocate(file.fileno(), taken, wanted)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                taken += wanted
    return filler


def _free(data: Path) -> int:
    found = os.statvfs(data)
    return found.f_bavail * found.f_frsize


class FailingDisk:
    """An ext4 file system in a file, that can meet an error of its disk, as which it becomes read-only."""

    def __init__(self, image: Path, data: Path) -> None:
        self._image = image
        self._data = data

    def mount(self) -> None:
        """Make it usable."""
        what = "an ext4 file system in a file, which only root can mount"
        _mount("-o", "loop,errors=remount-ro", str(self._image), str(self._data), what=what)

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self._data)], check=True)

    def replace(self) -> None:
        """Mount a copy of the disk, without its error, in its place.

        A copy, since a confined agent of another test may keep the failed file system in its mount namespace, and Linux
        would mount that one again.
        """
        self.unmount()
        failed, self._image = self._image, self._image.with_name("copy")
        shutil.copyfile(failed, self._image)
        self.mount()

    def fail(self) -> None:
        """The error: from here on every write is refused (Linux: Documentation/ABI/testing/sysfs-fs-ext4)."""
        listed = subprocess.run(
            ["losetup", "-n", "-O", "NAME", "-j", str(self._image)], check=True, capture_output=True
        )
        name = Path(listed.stdout.decode().strip()).name
        trigger = Path("/sys/fs/ext4") / name / "trigger_fs_error"
        if not trigger.exists():
            absent("a kernel that lets an ext4 file system fail")
        trigger.write_text("a test\n")


@contextmanager
def failing_disk(data: Path) -> Iterator[FailingDisk]:
    """A data directory that is such a file system."""
    data.mkdir(mode=0o700)
    image = data.with_name("image")
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        absent("mkfs.ext4")
    disk = FailingDisk(image, data)
    disk.mount()
    try:
        data.chmod(0o700)
        yield disk
    finally:
        disk.unmount()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """A directory of a file system that nobody can write to, root neither."""
    what = "a read-only file system, which only root can mount"
    _mount("--bind", str(directory), str(directory), what=what)
    try:
        _mount("-o", "remount,bind,ro", str(directory), what=what)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def few_inodes(directory: Path) -> Iterator[None]:
    """A directory of a file system that takes only some dozens of files."""
    directory.mkdir(mode=0o700)
    options = "size=24m,nr_inodes=50,mode=700"
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(directory), what="a file system, which only root can mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
