"""pocket_agent.config.directory: where files are when nobody says so."""

import os
import pwd
from pathlib import Path

import pytest

from pocket_agent.config.directory import default_data_dir, default_file, home_dir, working_dir
from pocket_agent.errors import ConfigurationError


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({}, 1000, "/home/ada/.local/share/pocket-agent"),
        ({}, 0, "/home/ada/.local/share/pocket-agent"),
        ({"INVOCATION_ID": "1"}, 0, "/var/lib/pocket-agent"),
        ({"INVOCATION_ID": "1"}, 1000, "/home/ada/.local/share/pocket-agent"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 1000, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a", "INVOCATION_ID": "1"}, 0, "/var/lib/a"),
        ({"STATE_DIRECTORY": ""}, 1000, "/home/ada/.local/share/pocket-agent"),
    ],
)
def test_the_data_of_users_and_services(environ: dict[str, str], uid: int, expected: str) -> None:
    assert default_data_dir({"HOME": "/home/ada"} | environ, uid) == Path(expected)


def test_without_a_home_variable_the_user_database_tells() -> None:
    assert home_dir({}) == Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_without_any_home_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert home_dir({}) is None
    with pytest.raises(ConfigurationError, match="HOME"):
        default_data_dir({}, 1000)


def test_the_usual_file_counts_when_it_is_there(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    usual = tmp_path / ".config" / "pocket-agent" / "config.yaml"
    assert default_file(environ) is None
    usual.parent.mkdir(parents=True)
    assert default_file(environ) is None
    usual.write_text("")
    assert default_file(environ) == usual
    assert default_file({}) is None
    assert default_file({"HOME": "a\0b"}) is not None


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    assert default_file({"HOME": str(tmp_path)}) is not None


def test_the_current_directory_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert working_dir() == gone
    gone.rmdir()
    assert working_dir() is None
