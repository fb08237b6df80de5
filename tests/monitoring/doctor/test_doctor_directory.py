"""pocket_agent.monitoring.doctor.directory: real disks and real modes."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from pocket_agent.monitoring.doctor import machine_checks
from pocket_agent.monitoring.doctor.machine_checks import check_directory
from pocket_agent.settings import Settings, load_settings
from pocket_agent.storage.database import database_path
from tests.harness.clinic import Findings
from tests.harness.disk import few_inodes, fill, read_only, small_disk
from tests.harness.server import ServerProcess

MEBIBYTE = 2**20


def settings_of(directory: Path, flags: Mapping[str, object] | None = None) -> Settings:
    """The settings of a server with this data directory."""
    return load_settings(config=None, environ={"HOME": "/"}, flags={"data.dir": directory, **(flags or {})}).settings


def look(directory: Path, flags: Mapping[str, object] | None = None) -> Findings:
    """What is found there."""
    return Findings(check_directory(settings_of(directory, flags)))


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
    assert "of which 4.0 MiB hold nothing" in finding.message
    assert "pocket-agent storage compact" in finding.fix
    database.write_bytes(b"something else")
    assert look(data).of("database").status == "skipped"


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
        (0o700, "ok", "its owner's alone"),
        (0o711, "ok", "its owner's alone"),
        (0o750, "warning", "can look into"),
        (0o755, "warning", "can look into"),
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
    assert (finding.status, finding.message) == ("failed", f"other users of this machine can get at {file}")
    os.system(finding.fix)  # noqa: S605 - the fix as it stands is what is tested
    assert look(data).of("data directory mode").status == "ok"
