"""scripts/tools: what it made of an unpacked Alertmanager is made again when it is out of date."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.absence import absent
from tests.harness.tool import ROOT

TEMPLATES = b"/usr/share/prometheus/alertmanager"
ELSEWHERE = b"/dev/fd/9/////////////////////////"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A `.tools` beside the script, as it is when the package has just been unpacked."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        absent("apt-get and dpkg-deb")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "tools", tmp_path / "scripts" / "tools")
    programs = tmp_path / ".tools" / "usr" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / ".tools" / ".prometheus-alertmanager").touch()
    (programs / "prometheus-alertmanager").write_bytes(b"\x7fELF " + TEMPLATES + b" \xff")
    return tmp_path / ".tools"


def prepare(tools: Path) -> tuple[bytes, bytes]:
    """The wrapper and the program after a run of the script."""
    subprocess.run([tools.parent / "scripts" / "tools", "prometheus-alertmanager"], check=True, capture_output=True)
    return (tools / "usr/bin/prometheus-alertmanager").read_bytes(), (tools / "usr/lib/alertmanager").read_bytes()


def test_alertmanager_finds_its_templates_where_it_was_unpacked(tools: Path) -> None:
    wrapper, program = prepare(tools)
    assert wrapper.startswith(b"#!/bin/sh\n")
    assert program == b"\x7fELF " + ELSEWHERE + b" \xff"


def test_what_is_right_is_left_alone(tools: Path) -> None:
    before = prepare(tools)
    files = [tools / "usr/bin/prometheus-alertmanager", tools / "usr/lib/alertmanager"]
    inodes = [file.stat().st_ino for file in files]
    assert prepare(tools) == before
    assert [file.stat().st_ino for file in files] == inodes


def test_a_wrapper_of_an_older_script_is_written_again(tools: Path) -> None:
    before = prepare(tools)
    (tools / "usr/bin/prometheus-alertmanager").write_text("#!/bin/sh\nexec /somewhere/else\n")
    assert prepare(tools) == before


def test_a_program_that_an_older_script_only_moved_is_made_again(tools: Path) -> None:
    before = prepare(tools)
    (tools / "usr/lib/alertmanager").write_bytes(b"\x7fELF " + TEMPLATES + b" \xff")
    assert prepare(tools) == before


def test_a_package_that_was_unpacked_anew_replaces_the_program(tools: Path) -> None:
    prepare(tools)
    (tools / "usr/bin/prometheus-alertmanager").write_bytes(b"\x7fELF newer " + TEMPLATES)
    assert prepare(tools)[1] == b"\x7fELF newer " + ELSEWHERE
