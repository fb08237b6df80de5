"""The CLI is found where it should be, its version is known, and a replacement is noticed."""

import asyncio
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent.claude.installation import ADVISORIES, MINIMUM_VERSION, Answer, Installation, Installer, ask_version
from pocket_agent.errors import ClaudeNotFoundError
from tests.harness import DEADLINE_SECONDS
from tests.harness.claude import require_claude
from tests.harness.follow import eventually

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def program(path: Path, body: str) -> Path:
    """A shell script; written beside and moved, so that it is never busy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(f"#!/bin/sh\n{body}\n")
    beside.chmod(0o755)
    beside.replace(path)
    return path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("echo '2.1.330 (Claude Code)'", Answer("2.1.330")),
        ("echo 3.0.0", Answer("3.0.0")),
        ("echo v2.0.1-beta", Answer("2.0.1")),
        ("printf 2.0.5", Answer("2.0.5")),
        ("echo fake-claude 0.1.0", Answer(None)),
        ("exit 0", Answer(None)),
        ("head -c 100000 /dev/zero", Answer(None)),
        ("echo '2.9.9'; sleep 600", Answer("2.9.9")),
        ("echo no version; sleep 600", Answer(None)),
        ("setsid sleep 5 & echo 2.9.9", Answer("2.9.9")),
        ("yes ''", Answer(None)),
        ("cat; echo 2.9.9", Answer("2.9.9")),
        ("printf '\\377\\376\\n'", Answer(None)),
        ("echo; exit 3", Answer(None, "ends with exit code 3")),
        ("echo 'not found' >&2; exit 127", Answer(None, "ends with exit code 127")),
        ("kill -SEGV $$", Answer(None, "crashes (Segmentation fault)")),
        ("exec 1>&-; sleep 600", Answer(None, "closes its output without a word")),
    ],
)
async def test_what_a_program_answers(tmp_path: Path, body: str, expected: Answer) -> None:
    assert await ask_version(program(tmp_path / "claude", body), ENVIRONMENT) == expected


async def test_a_program_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    hanging = program(tmp_path / "claude", "exec sleep 600")
    assert await ask_version(hanging, ENVIRONMENT, seconds=0.5) == Answer(None, "says nothing for 0.5 s")
    (child,) = started
    assert not psutil.pid_exists(child.pid)


async def test_a_program_that_hangs_is_killed_when_nobody_waits_any_more(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    hanging = program(tmp_path / "claude", f"echo $$ > {note}.new; mv {note}.new {note}; sleep 600")
    asking = asyncio.create_task(ask_version(hanging, ENVIRONMENT, seconds=600))
    await eventually(note.exists, "the program runs")
    asking.cancel()
    await eventually(lambda: not psutil.pid_exists(int(note.read_text())), "it is gone")
    assert asking.cancelled()


async def test_the_choice_comes_first_then_path_then_the_candidates(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "claude", "echo 2.2.1")
    chosen = program(tmp_path / "chosen", "echo 2.2.2")
    candidate = program(tmp_path / "modules" / "claude", "echo 2.2.3")
    found = {**ENVIRONMENT, "PATH": f"{on_path.parent}:/bin:/usr/bin"}
    empty = {**ENVIRONMENT, "PATH": str(tmp_path / "nothing")}
    assert (await Installer(chosen, [candidate], found).find()).path == chosen
    assert (await Installer(Path("claude"), [candidate], found).find()).path == on_path
    assert (await Installer(None, [candidate], found).find()).path == on_path
    installation = await Installer(None, [tmp_path / "none", candidate], empty).find()
    assert installation.path == candidate


@pytest.mark.parametrize("binary", [None, Path("claude"), Path("/no/such/claude"), Path("plain")])
async def test_a_missing_cli_says_what_to_do(tmp_path: Path, binary: Path | None) -> None:
    (tmp_path / "plain").write_text("not executable")
    environment = {**ENVIRONMENT, "PATH": str(tmp_path)}
    with pytest.raises(ClaudeNotFoundError, match=r"npm install.*PA_CLAUDE_BINARY"):
        await Installer(binary, [tmp_path / "none"], environment).find()


async def test_a_program_that_cannot_run_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "claude"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(ClaudeNotFoundError, match=r"cannot be run.*npm install"):
        await Installer(broken, environment=ENVIRONMENT).find()


async def test_a_cli_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = program(tmp_path / "claude", "echo '2.1.99 (Claude Code)'")
    installer = Installer(old, environment=ENVIRONMENT)
    with pytest.raises(ClaudeNotFoundError, match=r"2\.1\.99; 2\.1\.100 or newer"):
        await installer.find()
    program(tmp_path / "claude", "echo '2.2.0 (Claude Code)'")
    assert (await installer.find()).version == "2.2.0"


def test_a_version_with_published_advisories_names_them_and_the_version_that_fixes_all() -> None:
    assert all(advisory.fixed > MINIMUM_VERSION for advisory in ADVISORIES), "the floor excludes what was fixed before"
    assert Installation(Path("claude"), ".".join(map(str, MINIMUM_VERSION))).advisories == ADVISORIES
    for version, count, fixed in (
        ("2.1.127", 6, "2.1.260"),
        ("2.1.163", 2, "2.1.260"),
        ("2.1.260", 0, ""),
        (None, 0, ""),
    ):
        found = Installation(Path("claude"), version)
        assert len(found.advisories) == count, version
        assert fixed in found.vulnerability
        assert all(advisory.id in found.vulnerability for advisory in found.advisories)
        assert bool(found.vulnerability) == bool(count)


async def test_the_version_is_asked_once_until_the_program_changes(tmp_path: Path) -> None:
    count = tmp_path / "count"
    binary = program(tmp_path / "claude", f"echo x >> {count}; echo 2.3.1")
    installer = Installer(binary, environment=ENVIRONMENT)
    found = await asyncio.gather(*(installer.find() for _ in range(5)))
    assert {installation.version for installation in found} == {"2.3.1"}
    assert count.read_text() == "x\n"
    program(binary, f"echo x >> {count}; echo 2.3.2")
    assert (await installer.find()).version == "2.3.2"
    binary.unlink()
    with pytest.raises(ClaudeNotFoundError):
        await installer.find()


async def test_a_directory_of_path_that_hangs_does_not_block_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = program(tmp_path / "claude", "echo 2.9.9")
    hangs, mounted = threading.Event(), threading.Event()
    which = shutil.which

    def hang(name: str, path: str | None = None) -> str | None:
        hangs.set()
        assert mounted.wait(DEADLINE_SECONDS)
        return which(name, path=path)

    monkeypatch.setattr(shutil, "which", hang)
    finding = asyncio.create_task(Installer(binary, environment=ENVIRONMENT).find())
    await asyncio.to_thread(hangs.wait)
    assert not finding.done()
    mounted.set()
    assert (await finding).path == binary


async def test_a_check_asks_again_after_a_while_and_one_that_failed_at_once(tmp_path: Path) -> None:
    count, fault = tmp_path / "count", tmp_path / "fault"
    binary = program(tmp_path / "claude", f"echo x >> {count}; [ -e {fault} ] && exit 7; echo 2.3.1")
    installer = Installer(binary, environment=ENVIRONMENT)
    assert (await installer.find()).version == "2.3.1"
    assert (await installer.check(3600)).version == "2.3.1"
    assert count.read_text() == "x\n"
    assert (await installer.check(0)).version == "2.3.1"
    assert count.read_text() == "x\n" * 2
    fault.touch()
    assert (await installer.check(3600)).version == "2.3.1", "it is asked only every few minutes"
    for _ in range(2):
        with pytest.raises(ClaudeNotFoundError, match="ends with exit code 7 when it is asked"):
            await installer.check(0)
    assert (await installer.find()).version is None, "who starts an agent does not ask again"
    assert count.read_text() == "x\n" * 4
    fault.unlink()
    assert (await installer.check(3600)).version == "2.3.1", "what failed does not stand"
    assert count.read_text() == "x\n" * 5


async def test_the_real_cli_has_a_version(tmp_path: Path) -> None:
    binary = require_claude()
    installation = await Installer(binary, environment={**ENVIRONMENT, "HOME": str(tmp_path)}).find()
    assert installation.version is not None
    assert tuple(map(int, installation.version.split("."))) >= (2, 0, 0)
