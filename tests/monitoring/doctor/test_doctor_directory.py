"""pocket_agent.monitoring.doctor.directory: real disks and real modes."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from pocket_agent.monitoring.doctor import machine_checks
from pocket_agent.monitoring.doctor.machine_checks import check_directory
from pocket_agent.monitoring.doctor.result import Context
from pocket_agent.monitoring.targets import file_system_of
from pocket_agent.settings import load_settings
from pocket_agent.storage.database import connect, database_path, migrate
from tests.harness.clinic import Findings
from tests.harness.disk import few_inodes, fill, read_only, small_disk
from tests.harness.server import ServerProcess

MEBIBYTE = 2**20


def context_of(directory: Path, flags: Mapping[str, object] | None = None, *, file_system: str = "ext4") -> Context:
    """A server with this data directory."""
    loaded = load_settings(config=None, environ={"HOME": "/"}, flags={"data.dir": directory, **(flags or {})})
    return Context(loaded, {}, file_system=lambda _: file_system)


def look(directory: Path, flags: Mapping[str, object] | None = None) -> Findings:
    """What is found there."""
    return Findings(check_directory(context_of(directory, flags)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a server that was there once."""
    return ServerProcess(tmp_path).data_dir


def test_a_directory_as_the_server_makes_it(data: Path) -> None:
    findings = look(data)
    assert [finding.status for finding in findings] == ["ok", "ok", "ok", "ok"]
    assert not list(data.glob(".doctor-*")), "it leaves nothing behind"


def test_a_database_of_which_most_holds_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_UNUSED_BYTES", MEBIBYTE)
    database = database_path(data)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE filling (data BLOB)")
        connection.execute("INSERT INTO filling VALUES (zeroblob(4194304))")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert look(data).of("database").status == "ok"
        connection.execute("DROP TABLE filling")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finding = look(data).of("database")
    assert finding.status == "warning"
    assert "of which 4.0 MiB are empty" in finding.message
    assert "pocket-agent storage compact" in finding.fix


def test_a_damaged_database(data: Path) -> None:
    database = database_path(data)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE filling (data BLOB)")
        connection.execute("INSERT INTO filling VALUES (zeroblob(4194304))")
        connection.execute("CREATE INDEX filled ON filling (data)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert look(data).of("database").status == "ok"
    with database.open("r+b") as file:
        file.seek(16 * 4096)
        file.write(b"\xff" * 64 * 4096)
    finding = look(data).of("database")
    assert (finding.status, "is damaged: " in finding.message) == ("failed", True)
    assert "restore the last backup" in finding.fix
    database.write_bytes(b"something else")
    finding = look(data).of("database")
    assert (finding.status, "The file is not a database" in finding.message) == ("failed", True)


def test_a_data_directory_that_is_lost_at_a_restart(data: Path) -> None:
    finding = Findings(check_directory(context_of(data, file_system="tmpfs"))).of("data directory")
    assert (finding.status, "is on tmpfs" in finding.message) == ("warning", True)


def test_the_file_system_of_a_path(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data):
        (data / "below").mkdir()
        assert file_system_of(data / "below") == "tmpfs"


def test_a_project_whose_directory_is_gone(data: Path, tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    with closing(connect(database_path(data), busy_timeout=1.0)) as connection:
        migrate(connection)
        for number, path in enumerate((there, gone)):
            place = os.fsencode(path)
            connection.execute(
                "INSERT INTO conversation"
                " (id, path, real_path, name, state, epoch, head, first, created_at, last_active, fork)"
                " VALUES (?, ?, ?, ?, 'idle', 'e', 0, 1, 0, 0, 0)",
                (str(number), place, place, path.name.encode()),
            )
    finding = look(data).of("project directories")
    assert (finding.status, f"{gone} (gone)" in finding.message) == ("warning", True)
    assert str(there) not in finding.message
    gone.mkdir()
    assert "project directories" not in {finding.name for finding in look(data)}


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    finding = look(tmp_path / "none").of("data directory")
    assert (finding.status, "no such file or directory" in finding.message) == ("failed", True)
    assert "data.dir" in finding.fix


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "cannot be written: Not a directory" in look(file).of("data directory").message


def test_a_file_system_that_is_read_only(data: Path) -> None:
    with read_only(data):
        finding = look(data).of("data directory")
    assert (finding.status, "its file system is read-only" in finding.message) == ("failed", True)
    assert "read-write" in finding.fix
    assert look(data).of("data directory").status == "ok"


def test_a_disk_that_is_low(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data):
        finding = look(data).of("disk")
        assert (finding.status, "health.low_disk" in finding.message) == ("warning", True)
        fill(data, leave=4 * MEBIBYTE)
        finding = look(data).of("disk")
        assert (finding.status, "new executions are refused (limits.min_free_disk)" in finding.message) == (
            "failed",
            True,
        )
        assert "4.0 MiB free" in finding.message
        assert look(data, {"limits.min_free_disk": "1MiB", "health.low_disk": "2MiB"}).of("disk").status == "ok"


def test_a_disk_without_a_byte(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data):
        fill(data)
        finding = look(data).of("disk")
        assert (finding.status, finding.message.startswith("0.0 MiB free")) == ("failed", True)


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with few_inodes(data):
        finding = look(data, {"limits.min_free_disk": "1MiB", "health.low_disk": "2MiB"}).of("disk")
        assert (finding.status, "inodes" in finding.message) == ("warning", True)


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        (0o700, "ok", "only its owner"),
        (0o711, "ok", "only its owner"),
        (0o750, "warning", "can list"),
        (0o755, "warning", "can list"),
        (0o770, "failed", "can write to"),
        (0o703, "failed", "can write to"),
    ],
)
def test_modes_of_the_directory(data: Path, mode: int, status: str, text: str) -> None:
    data.chmod(mode)
    finding = look(data).of("data directory mode")
    assert (finding.status, text in finding.message) == (status, True)
    assert (finding.fix == f"chmod 700 {data}") == (status != "ok")


@pytest.mark.parametrize("name", ["pocket-agent.db", "pocket-agent.db-wal", "tls/key.pem", "metrics-token", "spool"])
def test_secrets_that_others_can_read(data: Path, name: str) -> None:
    file = data / name
    file.parent.mkdir(exist_ok=True)
    if name == "spool":
        file.mkdir()
    file.touch()
    file.chmod(0o700 if file.is_dir() else 0o600)
    assert look(data).of("data directory mode").status == "ok"
    file.chmod(0o755 if file.is_dir() else 0o640)
    finding = look(data).of("data directory mode")
    assert (finding.status, finding.message) == ("failed", f"other users of this machine can read {file}")
    os.system(finding.fix)  # noqa: S605 - the fix as it stands is what is tested
    assert look(data).of("data directory mode").status == "ok"
