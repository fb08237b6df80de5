"""The sessions that the CLI keeps on this machine: listed, read by pages, followed while they are written. Read only.

Observed with 2.1.332, interactive and with `-p`:

- A session is `projects/FOLDER/SESSION.jsonl` in the configuration directory, one JSON record a line, which the CLI
  appends. FOLDER is the directory's path with `-` for each UTF-16 unit but letters and digits, cut after 200 of them
  with a hash behind. So several directories may have one folder; a record's `cwd` shows which one it is.
- Subagents have files of their own (`SESSION/subagents/`), which are not read.
- Each running CLI has a record `sessions/PID.json` with the id of its session, which follows `/clear` and `/resume`.
  The CLI locks nothing: `--resume` of a session that a terminal runs mixes both in one file.
- `--resume=ID` finds a session from each directory of the project; `--fork-session` writes a new file.
"""

import asyncio
import enum
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from pocket_agent.claude.process_tree import read_marker, read_row
from pocket_agent.claude.stream import Line, LineFramer, Oversized
from pocket_agent.claude.transcript_records import LATEST, Shown, Summary, show, summarize
from pocket_agent.errors import FileOperationError, InternalError, ValidationError
from pocket_agent.model import Milliseconds

# ----------------------------------------------------------------------
# Names: the configuration directory, the folders of a directory, its worktrees.

_NAME: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl")
_FOLDER_CHARACTERS: Final = 200
_MAX_WORKTREES: Final = 100
_LINK_BYTES: Final = 8192
_SEARCHED_BYTES: Final = 2**20


def configuration_directory(environment: Mapping[str, str]) -> Path:
    """The directory in which a CLI with this environment keeps its sessions and settings."""
    chosen = environment.get("CLAUDE_CONFIG_DIR")
    return Path(chosen) if chosen else Path(environment.get("HOME") or Path.home()) / ".claude"


def folder_name(directory: str) -> str:
    """The beginning of the name of the folder of a directory's sessions: the whole name, up to 200 characters."""
    units = directory.encode("utf-16-le", "surrogatepass")
    characters = (chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in characters)[:_FOLDER_CHARACTERS]


class Keeping(enum.Enum):
    """Whether the CLI has stored a message; it (2.1.332) writes a transcript some time after it has taken a prompt."""

    STORED = enum.auto()
    MISSING = enum.auto()
    """The session has a transcript, without the message."""
    NO_SESSION = enum.auto()
    """The session has no transcript among those of its directory."""
    UNKNOWN = enum.auto()
    """There is no configuration directory, or the transcript cannot be read."""


def keeping(configuration: Path, directory: str, session_id: str, message_id: str) -> Keeping:
    """Whether the transcript of a session of `directory` has the message with this uuid. Reads the disk."""
    # The first record with the id is that of the message; later ones name it as their parent.
    wanted = b'"%b"' % message_id.encode()
    with suppress(OSError, FileOperationError), ExitStack() as opened:
        root = _projects(opened, configuration)
        for _, folder in _folders(root, [directory]) if root is not None else ():
            try:
                file = _open_file(opened, folder, session_id)
            except FileNotFoundError:
                continue
            return Keeping.STORED if _has(file.descriptor, file.status.st_size, wanted) else Keeping.MISSING
        return Keeping.NO_SESSION if configuration.is_dir() else Keeping.UNKNOWN
    return Keeping.UNKNOWN


def _has(descriptor: int, size: int, wanted: bytes) -> bool:
    """Whether a file has these bytes, which are looked for from its end."""
    end = size
    while end > 0:
        start = max(0, end - _SEARCHED_BYTES)
        if wanted in os.pread(descriptor, end - start + len(wanted), start):
            return True
        end = start
    return False


def _projects(opened: ExitStack, configuration: Path) -> int | None:
    """The folder `projects`; None when the CLI has kept no session yet."""
    try:
        # Links that lead to the configuration directory are the user's own.
        root = os.open(configuration, _FOLDER)
        opened.callback(os.close, root)
        found = os.open("projects", _FOLDER | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return None
    opened.callback(os.close, found)
    return found


def _folders(root: int, places: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The folders that may have sessions of these directories, opened; each is closed when the next is read."""
    prefixes = [folder_name(place) for place in places]
    with os.scandir(root) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_MAX_FOLDERS), strict=False)]
    for name in names:
        if not any(_is_folder_of(name, prefix) for prefix in prefixes):
            continue
        try:
            folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=root)
        except OSError:  # a file, a link, not readable, or just deleted
            continue
        try:
            yield name, folder
        finally:
            os.close(folder)


def worktrees(directory: Path) -> list[str]:
    """The places of `directory` in the working trees of the Git repository that it is in, without the main one.

    A tree counts only if it names the repository, too (gitrepository-layout(5)): an agent can write to the repository
    of its project, but must not make another directory part of it.
    """
    found: list[str] = []
    top = next((one for one in (directory, *directory.parents) if os.path.lexists(one / ".git")), directory)
    own = os.path.realpath(top / ".git" / "worktrees")
    with suppress(OSError), os.scandir(own) as entries:
        for entry, _ in zip(entries, range(_MAX_WORKTREES), strict=False):
            link = _small_file(Path(own, entry.name, "gitdir"))
            tree = Path(link).parent if link.startswith("/") else None
            if tree is not None and _small_file(tree / ".git") == f"gitdir: {own}/{entry.name}":
                found.append(str(Path(os.path.realpath(tree), directory.relative_to(top))))
    return sorted(found)


def _small_file(path: Path) -> str:
    """The text of a small file without spaces around it; empty when it cannot be read, or is not a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return ""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, _LINK_BYTES).decode("utf-8", "replace").strip() if is_file else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------
# Files. Each is opened below the configuration directory without following a link, and must be a regular file of the
# server's user.

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK_BYTES: Final = 256 * 1024
_WINDOW_BYTES: Final = 128 * 1024
_SCAN_BYTES: Final = 64 * 2**20
"""The most that one page reads, however little of it is shown."""


class _File(NamedTuple):
    """An open file and its status."""

    descriptor: int
    status: os.stat_result

    @property
    def epoch(self) -> str:
        """Identifies the file; positions in another one mean nothing."""
        return f"{self.status.st_dev:x}-{self.status.st_ino:x}"


def _is_own_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _lines_before(descriptor: int, end: int, max_line: int, reached: list[int]) -> Iterator[Line | Oversized]:
    """The complete lines before `end`, the last one first; holds one line at most.

    `reached` gets the position before which the next page continues: where it stopped after _SCAN_BYTES, or 0. It may
    be within a line that is too long, of which the next page drops the rest.
    """
    pieces: list[bytes] = []
    pending = 0
    line_end = -1  # the end of the line that is being read; -1 in a part of a line
    position = end
    bound = max(_SCAN_BYTES, 2 * max_line)
    while position > 0:
        if end - position >= bound:
            if 0 <= pending <= max_line and line_end >= 0:
                position = line_end
            elif line_end >= 0:
                yield Oversized(line_end - position - 1, line_end)
            reached[0] = position
            return
        start = max(0, position - _CHUNK_BYTES)
        chunk = os.pread(descriptor, position - start, start)
        if len(chunk) < position - start:
            break  # truncated during the read
        index = len(chunk)
        while (newline := chunk.rfind(b"\n", 0, index)) >= 0:
            if line_end >= 0:
                pieces.append(chunk[newline + 1 : index])
                yield from _joined(pieces, pending + index - newline - 1, line_end, max_line)
            pieces, pending = [], 0
            line_end, index = start + newline + 1, newline
        if line_end >= 0:
            pending += index
            if pending <= max_line:
                pieces.append(chunk[:index])
            else:
                pieces.clear()
        position = start
    reached[0] = 0
    if line_end >= 0:
        yield from _joined(pieces, pending, line_end, max_line)


def _joined(pieces: list[bytes], length: int, end: int, max_line: int) -> Iterator[Line | Oversized]:
    if length > max_line:
        yield Oversized(length, end)
    elif length > 0:
        yield Line(b"".join(reversed(pieces)), end)


def _summary_of(file: _File) -> Summary:
    size = file.status.st_size
    head = os.pread(file.descriptor, min(size, _WINDOW_BYTES), 0)
    start = max(len(head), size - _WINDOW_BYTES)
    return summarize(head, os.pread(file.descriptor, max(0, size - start), start), size)


class Page(msgspec.Struct, frozen=True):
    """Records of a session, the oldest first.

    Attributes:
        epoch: identifies the file; a follower needs it.
        lines: the records that are shown.
        before: the position before which the older page ends; 0 at the beginning of the file.
        end: the position behind the newest record, at which a follower begins.
    """

    epoch: str
    lines: list[Shown]
    before: int
    end: int


def _page(file: _File, before: int | None, *, limit: int, max_bytes: int, max_line: int) -> Page:
    size = file.status.st_size
    reached = [0]
    shown: list[Shown] = []
    used, oldest, newest = 0, 0, 0
    for line in _lines_before(file.descriptor, size if before is None else min(before, size), max_line, reached):
        newest = newest or line.end
        found = show(line)
        if found is None:
            continue
        if shown and used + len(found.data) > max_bytes:
            oldest = found.end
            break
        shown.append(found)
        used += len(found.data)
        if len(shown) == limit:
            oldest = found.start
            break
    else:
        oldest = reached[0]
    return Page(file.epoch, shown[::-1], max(0, oldest), newest or (min(before, size) if before is not None else 0))


_DIGESTED_BYTES: Final = 1024


def _digest(file: _File, position: int) -> str:
    """Identifies the bytes before a position, by the last of them."""
    start = max(0, position - _DIGESTED_BYTES)
    data = os.pread(file.descriptor, position - start, start)
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


def _continued(file: _File, position: int | None, digest: str, max_line: int) -> "Continued":
    size = file.status.st_size
    is_same = position is not None and position <= size and _digest(file, position) == digest
    if position is None or not is_same:
        end = next((one.end for one in _lines_before(file.descriptor, size, max_line, [0])), 0)
        return Continued([], end, _digest(file, end), replaced=position is not None)
    framer = LineFramer(max_line, start=position)
    lines: list[Shown] = []
    at = position
    while at < size:
        is_full = at - position >= _SCAN_BYTES or sum(len(line.data) for line in lines) >= _BATCH_BYTES
        if is_full and framer.consumed > position:
            break
        data = os.pread(file.descriptor, min(_CHUNK_BYTES, size - at), at)
        if not data:
            break
        at += len(data)
        lines += [shown for line in framer.feed(data) if (shown := show(line)) is not None]
    return Continued(lines, framer.consumed, _digest(file, framer.consumed), more=at < size)


# ----------------------------------------------------------------------
# The sessions that a CLI has open.

_MAX_RUNNING: Final = 1000
_RUNNING_BYTES: Final = 64 * 1024
_ELSEWHERE_SECONDS: Final = 3600.0
"""A process of another container or machine cannot be checked: it counts as running for this long after its record."""


class RunningSession(msgspec.Struct, frozen=True, rename="camel"):
    """A CLI that runs in a terminal, as it describes itself.

    Attributes:
        entrypoint: `sdk-cli` for one without a terminal, as the agents of a server.
        status: `idle`, `busy`, or `waiting` while it shows a dialog.
        status_updated_at: when the status changed, in milliseconds of the wall clock.
    """

    pid: int
    session_id: str
    proc_start: str | None = None
    pid_domain: str | None = None
    entrypoint: str | None = None
    status: str | None = None
    status_updated_at: float = 0.0

    def is_running(self, written: float) -> bool:
        """Whether the process lives, and is not an agent of a server; `written` is the time of its record."""
        if self.pid_domain is not None and not self.pid_domain.endswith(_pid_namespace()):
            # An agent leaves its record when it is killed, as with the container in which it and the server ran.
            is_agent = self.entrypoint is not None and self.entrypoint.startswith("sdk")
            return not is_agent and abs(time.time() - written) < _ELSEWHERE_SECONDS
        row = read_row(self.pid) if self.pid > 0 else None
        if row is None or row.zombie or read_marker(self.pid) is not None:
            return False
        is_comparable = sys.platform.startswith("linux") and self.proc_start is not None and self.proc_start.isdigit()
        return not is_comparable or row.start_time == self.proc_start


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return ""


# ----------------------------------------------------------------------
# The face: all work runs in one thread.


class StoredSession(msgspec.Struct, frozen=True):
    """A session of the CLI.

    Attributes:
        directory: where it was begun.
        title: as the CLI or its user named it, else the first prompt.
        turns: the prompts; an estimate when `estimated`.
        running: whether a CLI that is not an agent of this server has it open.
    """

    session_id: str
    directory: str
    title: str
    first_prompt: str
    created_at: Milliseconds
    last_active: Milliseconds
    turns: int
    estimated: bool
    size: int
    running: bool


class Listing(msgspec.Struct, frozen=True):
    """Sessions, the last written first; `truncated` when there are more.

    `mark` identifies the state of the files and the running CLIs that the listing was made from.
    """

    sessions: list[StoredSession]
    truncated: bool
    mark: int = 0


class Growth(msgspec.Struct, frozen=True):
    """New records of a followed session.

    Attributes:
        end: the position behind the newest one.
        running: as of `StoredSession`.
        ended: why it cannot be followed any longer: the file was `deleted`, or `replaced` by another or a shorter one.
    """

    lines: list[Shown]
    end: int
    running: bool
    ended: Literal["deleted", "replaced"] | None = None


class Continued(msgspec.Struct, frozen=True):
    """Records behind a position.

    Attributes:
        end: the position behind the last complete record.
        digest: of the bytes before `end`.
        more: whether there are more now, in the next batch.
        replaced: whether the file has other bytes before the position, or ends before it; then there are no lines, and
            `end` is that of the file.
    """

    lines: list[Shown]
    end: int
    digest: str
    more: bool = False
    replaced: bool = False


_T = TypeVar("_T")
_ANSWER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5
_RUNNING_POLLS: Final = 4  # the check whether the session runs is made at each Nth poll
_MAX_FOLDERS: Final = 20_000
_MAX_FILES: Final = 50_000
_MAX_READ: Final = 1000
_MAX_CACHED: Final = 4000
_BATCH_BYTES: Final = 2 * 2**20


class _Found(NamedTuple):
    written: int
    folder: str
    session_id: str
    status: os.stat_result


class _Summarized(NamedTuple):
    """A summary, and the size and the time of writing (in nanoseconds) of the file that it was made of."""

    size: int
    written: int
    summary: Summary

    def is_of(self, status: os.stat_result) -> bool:
        """Whether the file is unchanged."""
        return (self.size, self.written) == (status.st_size, status.st_mtime_ns)

    def has_directory(self, status: os.stat_result) -> bool:
        """Whether it has the directory of the file, which stays the same while the file grows."""
        return self.summary.directory is not None and self.size <= status.st_size


class _Opened(NamedTuple):
    """A session's file, the name of its folder, and the directory in which it was begun."""

    file: _File
    folder: str
    directory: str


class Transcripts:
    """The sessions in one configuration directory.

    Args:
        directory: the CLI's configuration directory; it need not exist.
        max_line: the longest record in bytes; a longer one becomes an error.
    """

    def __init__(self, directory: Path, max_line: int) -> None:
        self._directory = directory
        self._max_line = max_line
        self._summaries: OrderedDict[tuple[int, int, str], _Summarized] = OrderedDict()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="transcripts", daemon=True).start()

    def close(self) -> None:
        """End the thread after its present job; later calls wait in vain for at most their limit."""
        self._jobs.put(None)

    async def sessions(self, directories: Sequence[str], limit: int) -> Listing:
        """The sessions of a project's directories, of those inside them, and of the first one's worktrees.

        Args:
            directories: the real paths: that of the project, and those of its conversations.
            limit: the most sessions, of which the last written are returned.

        Raises:
            FileOperationError: the configuration directory cannot be read.
        """
        listing = await self.call(lambda: self._list(directories, limit))
        assert listing is not None
        return listing

    async def changed_sessions(self, directories: Sequence[str], limit: int, mark: int) -> Listing | None:
        """As `sessions`; None when nothing has changed since the listing with this mark, without reading any file."""
        return await self.call(lambda: self._list(directories, limit, mark))

    async def find(self, directories: Sequence[str], session_id: str) -> StoredSession | None:
        """One session of a project's directories; raises as `sessions`."""

        def find() -> StoredSession | None:
            with ExitStack() as opened:
                try:
                    found = self._open(opened, directories, session_id)
                except ValidationError:
                    return None
                summary = self._summary(found.file, session_id)
                return _transcript(session_id, found.directory, summary, found.file.status, self._running())

        return await self.call(find)

    async def page(
        self, directories: Sequence[str], session_id: str, before: int | None, *, limit: int, max_bytes: int
    ) -> Page:
        """The records of a session before a position, or the newest.

        Raises:
            ValidationError: the directories have no such session.
            FileOperationError: it cannot be read.
        """

        def read() -> Page:
            with ExitStack() as opened:
                file = self._open(opened, directories, session_id).file
                return _page(file, before, limit=limit, max_bytes=max_bytes, max_line=self._max_line)

        return await self.call(read)

    async def follow(self, directories: Sequence[str], session_id: str, epoch: str, after: int) -> "Follower":
        """A reader of what is written from the position `after` of the file `epoch` on; raises as `page`."""

        def find() -> str:
            with ExitStack() as opened:
                return self._open(opened, directories, session_id).folder

        folder = await self.call(find)
        return Follower(self, folder, session_id, epoch, after, self._max_line)

    async def continued(
        self, directories: Sequence[str], session_id: str, position: int | None, digest: str
    ) -> Continued:
        """A batch of the records behind a position that an earlier call returned; raises as `page`.

        Args:
            directories: see `sessions`.
            session_id: the session.
            position: None for the end of the file.
            digest: of the bytes before `position`; empty at 0.
        """

        def read() -> Continued:
            with ExitStack() as opened:
                file = self._open(opened, directories, session_id).file
                return _continued(file, position, digest, self._max_line)

        return await self.call(read)

    async def running(self) -> Mapping[str, RunningSession]:
        """The sessions that a CLI has open in a terminal, by their ids; raises as `sessions`."""
        return await self.call(self._running)

    async def belongs_to(self, directory: str, projects: Mapping[str, str]) -> str | None:
        """The project that has a directory, or that has a worktree with it.

        Args:
            directory: as a process names it.
            projects: the real paths of the directories of projects and their conversations, each with the project's id.
        """

        def find() -> str | None:
            real = os.path.realpath(directory)
            for path, project_id in projects.items():
                if _is_inside(real, path):
                    return project_id
            trees = ((tree, project_id) for path, project_id in projects.items() for tree in worktrees(Path(path)))
            return next((project_id for tree, project_id in trees if _is_inside(real, tree)), None)

        return await self.call(find)

    # What runs in the thread.

    def _list(self, directories: Sequence[str], limit: int, mark: int | None = None) -> Listing | None:
        places = _places(directories)
        running = self._running()
        sessions: list[StoredSession] = []
        read = 0
        with ExitStack() as opened:
            root = _projects(opened, self._directory)
            files, truncated = self._files(root, places) if root is not None else ([], False)
            found_mark = hash((frozenset(running), frozenset(map(_state, files))))
            if root is None or found_mark == mark:
                return None if found_mark == mark else Listing([], truncated=False, mark=found_mark)
            for found in sorted(files, reverse=True):
                if len(sessions) >= limit or read >= _MAX_READ:
                    truncated = True
                    break
                known = self._summaries.get(_identity(found.status, found.session_id))
                summary = known.summary if known is not None and known.is_of(found.status) else None
                if summary is None:
                    read += 1
                    summary = self._summary_of(root, found)
                directory = _directory(summary, places) if summary is not None else None
                if summary is None or directory is None or (summary.turns == 0 and not summary.estimated):
                    continue
                sessions.append(_transcript(found.session_id, directory, summary, found.status, running))
        return Listing(sessions, truncated, found_mark)

    def _files(self, root: int, places: Sequence[str]) -> tuple[list[_Found], bool]:
        found: list[_Found] = []
        seen = 0
        for name, folder in _folders(root, places):
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _MAX_FILES:
                        return found, True
                    match = _NAME.fullmatch(entry.name)
                    if match is None:
                        continue
                    with suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        if _is_own_file(status):
                            found.append(_Found(status.st_mtime_ns, name, match[1], status))
        return found, False

    def _summary_of(self, root: int, found: _Found) -> Summary | None:
        with ExitStack() as opened:
            try:
                folder = os.open(found.folder, _FOLDER | os.O_NOFOLLOW, dir_fd=root)
                opened.callback(os.close, folder)
                return self._summary(_open_file(opened, folder, found.session_id), found.session_id)
            except (OSError, FileOperationError):
                return None

    def _summary(self, file: _File, session_id: str) -> Summary:
        key = _identity(file.status, session_id)
        known = self._summaries.pop(key, None)
        if known is None or not known.is_of(file.status):
            known = _Summarized(file.status.st_size, file.status.st_mtime_ns, _summary_of(file))
        self._summaries[key] = known
        if len(self._summaries) > _MAX_CACHED:
            self._summaries.popitem(last=False)
        return known.summary

    def _open(self, opened: ExitStack, directories: Sequence[str], session_id: str) -> _Opened:
        """A session of a project's directories."""
        places = _places(directories)
        root = _projects(opened, self._directory)
        for name, folder in _folders(root, places) if root is not None else ():
            try:
                file = _open_file(opened, folder, session_id)
            except FileNotFoundError:
                continue
            known = self._summaries.get(_identity(file.status, session_id))
            if known is not None and known.has_directory(file.status):
                summary = known.summary
            else:
                summary = self._summary(file, session_id)
            directory = _directory(summary, places)
            if directory is not None:
                return _Opened(file, name, directory)
        raise ValidationError("The CLI keeps no such session of this project.")

    def read_growth(self, folder: str, session_id: str, epoch: str, framer: LineFramer) -> list[Shown] | None:
        """The new records of a file; None when it is another or a shorter one. In the thread.

        Raises:
            FileNotFoundError: it was deleted.
        """
        with ExitStack() as opened:
            root = _projects(opened, self._directory)
            if root is None:
                raise FileNotFoundError
            place = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=root)
            opened.callback(os.close, place)
            file = _open_file(opened, place, session_id)
            position = framer.consumed + framer.pending
            if file.epoch != epoch or file.status.st_size < position:
                return None
            # A file that was written anew, and is longer by now, has no line that begins here.
            if framer.consumed > 0 and os.pread(file.descriptor, 1, framer.consumed - 1) != b"\n":
                return None
            lines: list[Shown] = []
            while position < file.status.st_size and sum(len(line.data) for line in lines) < _BATCH_BYTES:
                data = os.pread(file.descriptor, _CHUNK_BYTES, position)
                if not data:
                    break
                position += len(data)
                lines += [shown for line in framer.feed(data) if (shown := show(line)) is not None]
            return lines

    def _running(self) -> dict[str, RunningSession]:
        """The sessions that a CLI has open, by their ids."""
        found: dict[str, RunningSession] = {}
        with ExitStack() as opened, suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            root = os.open(self._directory, _FOLDER)
            opened.callback(os.close, root)
            folder = os.open("sessions", _FOLDER | os.O_NOFOLLOW, dir_fd=root)
            opened.callback(os.close, folder)
            with os.scandir(folder) as entries:
                names = [entry.name for entry, _ in zip(entries, range(_MAX_RUNNING), strict=False)]
            for name in names:
                if not name.endswith(".json"):
                    continue
                with suppress(OSError, FileOperationError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                    with ExitStack() as one:
                        file = _opened(one, folder, name)
                        record = msgspec.json.decode(os.read(file.descriptor, _RUNNING_BYTES), type=RunningSession)
                    if record.is_running(file.status.st_mtime):
                        found[record.session_id] = record
        return found

    def is_running(self, session_id: str) -> bool:
        """Whether a CLI that is not an agent of this server has the session open. In the thread."""
        return session_id in self._running()

    # The thread.

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            result: object = None
            error: Exception | None = None
            try:
                result = call()
            except Exception as fault:  # noqa: BLE001 - raised in the coroutine that waits for it
                error = fault
            with suppress(RuntimeError):  # the loop was closed during the job
                future.get_loop().call_soon_threadsafe(_resolve, future, result, error)

    async def call(self, job: Callable[[], _T]) -> _T:
        """Run a job in the thread; raises as `sessions`."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        def run() -> _T:
            if future.cancelled():
                raise InternalError("Its caller does not wait any longer.")
            return job()

        self._jobs.put((run, future))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await future
        except TimeoutError as error:
            raise FileOperationError("The CLI's configuration directory does not answer.") from error
        except OSError as error:
            raise FileOperationError(f"The CLI's sessions cannot be read: {error.strerror}.") from error


class Follower:
    """Follows one session. `next` is for one caller at a time."""

    def __init__(
        self, transcripts: Transcripts, folder: str, session_id: str, epoch: str, after: int, max_line: int
    ) -> None:
        self._transcripts = transcripts
        self._folder = folder
        self._session_id = session_id
        self._epoch = epoch
        self._framer = LineFramer(max_line, start=after)
        self._running: bool | None = None
        self._polls = 0

    async def next(self) -> Growth:
        """Wait for new records, or until the session is opened or closed by a CLI, or its file is gone.

        Raises:
            FileOperationError: it cannot be read.
        """
        while True:
            growth = await self._transcripts.call(self._read)
            if growth is not None:
                return growth
            await asyncio.sleep(_POLL_SECONDS)

    def _read(self) -> Growth | None:
        """In the thread: what is new; None when that is nothing."""
        running = self._running
        if self._polls % _RUNNING_POLLS == 0:
            running = self._transcripts.is_running(self._session_id)
        self._polls += 1
        changed, self._running = running is not self._running, running
        end = self._framer.consumed
        try:
            lines = self._transcripts.read_growth(self._folder, self._session_id, self._epoch, self._framer)
        except FileNotFoundError:
            return Growth([], end, running=bool(running), ended="deleted")
        if lines is None:
            return Growth([], end, running=bool(running), ended="replaced")
        if lines or changed:
            return Growth(lines, self._framer.consumed, running=bool(running))
        return None


def _resolve(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _open_file(opened: ExitStack, folder: int, session_id: str) -> _File:
    return _opened(opened, folder, f"{session_id}.jsonl")


def _opened(opened: ExitStack, folder: int, name: str) -> _File:
    """A file in a folder.

    Raises:
        FileNotFoundError: the file does not exist.
        FileOperationError: it is a link, not a regular file, or another user's.
    """
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:  # ELOOP: a link; ENXIO: a socket or a FIFO
        raise FileOperationError(f"The CLI's session cannot be read: {error.strerror}.") from error
    opened.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not _is_own_file(status):
        raise FileOperationError("The CLI's session cannot be read: it is not a file of the server's user.")
    return _File(descriptor, status)


def _identity(status: os.stat_result, session_id: str) -> tuple[int, int, str]:
    """Identifies a session's file; another session may get the inode of a deleted one."""
    return status.st_dev, status.st_ino, session_id


def _state(found: _Found) -> tuple[int, int, int]:
    return found.status.st_ino, found.status.st_size, found.status.st_mtime_ns


def _places(directories: Sequence[str]) -> list[str]:
    return [*directories, *worktrees(Path(directories[0]))]


def _is_folder_of(name: str, prefix: str) -> bool:
    """Whether a folder may have the sessions of the directory with this name, or of one inside it."""
    return name == prefix or name.startswith(prefix if len(prefix) == _FOLDER_CHARACTERS else f"{prefix}-")


def _directory(summary: Summary, places: Sequence[str]) -> str | None:
    """The directory of a session, if it is one of `places` or inside one; the CLI writes it without `..`."""
    found = summary.directory
    if found is None or ".." in found.split("/"):
        return None
    return found if any(_is_inside(found, place) for place in places) else None


def _is_inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _transcript(
    session_id: str, directory: str, summary: Summary, status: os.stat_result, running: Mapping[str, RunningSession]
) -> StoredSession:
    written = Milliseconds(min(status.st_mtime_ns // 1_000_000, LATEST))
    return StoredSession(
        session_id=session_id,
        directory=directory,
        title=summary.title,
        first_prompt=summary.first_prompt,
        created_at=summary.created_at or written,
        last_active=summary.last_active or written,
        turns=summary.turns,
        estimated=summary.estimated,
        size=status.st_size,
        running=session_id in running,
    )
