"""Whatever the server and its commands write is their owner's alone, from its first moment on, whatever the umask."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket_agent.audit import EMPTY, AuditRecord, append, audit_path
from pocket_agent.cli.access import local_token
from pocket_agent.cli.device import make_device
from pocket_agent.events import SettingsReloaded
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.exposition import scrape_token
from pocket_agent.observability.structured_log import LogObserver, open_log
from pocket_agent.server.tls import Tls
from pocket_agent.settings import load_settings
from pocket_agent.storage import backup
from pocket_agent.storage.database import database_path
from tests.server.room import open_room, until

OPEN = {"tls": 0o755, "cert.pem": 0o644, "cert.pem.new": 0o644}
"""What may be read: the certificate, which is shown to everybody, and its folder, for whoever gets that far."""


class Watch:
    """Looks at the modes of everything below a folder, again and again, until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: dict[str, set[int]] = {}
        self.looks = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look until the block is left, and once more."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
            self._look(self._folder)

    def _run(self) -> None:
        while not self._over.is_set():
            self._look(self._folder)
            self.looks += 1

    def _look(self, folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.seen.setdefault(folder.name, set()).add(stat.S_IMODE(folder.lstat().st_mode))
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    self._look(Path(entry.path))
                else:
                    with contextlib.suppress(FileNotFoundError):
                        mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                        self.seen.setdefault(entry.name, set()).add(mode)


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """What the user has set; 0 takes nothing away."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


async def test_nobody_else_reads_anything_at_any_moment(tmp_path: Path, umask: int) -> None:
    data = tmp_path / "data"
    flags: dict[str, object] = {"data.dir": data, "metrics.host": "192.0.2.1"}
    flags |= {"logging.output": str(data / "logs" / "server.log"), "logging.max_size": "1KiB"}
    loaded = load_settings(config=None, environ={}, flags=flags)
    watch = Watch(data)
    with watch.running():
        make_device(loaded, "before the first start")
        async with open_room(tmp_path) as room:
            Tls(loaded.settings.server.tls, data / "tls", ["box.local"])
            scrape_token(loaded.settings)
            local_token(loaded)
            with open_log(loaded.settings.logging, Losses(), {}) as log:
                for _ in range(30):
                    LogObserver(log).emit(SettingsReloaded((), ()))
            append(audit_path(data), [AuditRecord("t", "action")], EMPTY)
            session = await room.project()
            async with room.wire() as wire:
                await wire.ask("execute", {"prompt": "lines 50 stderr oops"}, project_id=session.state.record.id)
                await until(lambda: session.state.current is None and session.state.record.head > 50)
            backup(database_path(data), data / "copy.db")
    assert watch.looks > 10
    written = {name for name, modes in watch.seen.items() if name not in OPEN}
    for expected in ("pocket-agent.db", "pocket-agent.db-wal", "pocket-agent.db.lock", "spool", "key.pem", "copy.db"):
        assert expected in written
    assert {"metrics-token", "chat.token", "audit.log", "logs", "server.log", "server.log.1"} <= written
    assert {".out", ".in", ".err"} <= {Path(name).suffix for name in written}, "the files of an agent"
    for name, modes in watch.seen.items():
        allowed = OPEN.get(name, 0o700)
        assert all(mode & ~allowed & 0o777 == 0 for mode in modes), (name, [oct(mode) for mode in modes])
