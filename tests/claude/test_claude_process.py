"""Processes start, are adopted, and always end: together with whatever they have started."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import uvloop

from pocket_agent.claude import process, process_tree
from pocket_agent.claude.command_line import PROCESS_MARKER
from pocket_agent.claude.process import ClaudeProcess, adopt, boot_id, kill_leftovers, spawn
from pocket_agent.claude.spool import Spool, SpoolReader, SpoolWatcher, SpoolWriter
from pocket_agent.errors import ClaudeNotFoundError, ExecutionFailedError, PocketAgentError, ResourceLimitError
from tests.claude.conftest import Start, alive
from tests.harness import DEADLINE_SECONDS

READY = "import os, signal, subprocess, sys, time\nsay = lambda text: os.write(1, f'{text}\\n'.encode())\n"
ECHO = READY + "for line in sys.stdin: say(line.strip().upper())"
CHILD = "[sys.executable, '-c', 'import time; time.sleep(600)']"


async def lines(spool: Spool, count: int) -> list[str]:
    """What the program has printed, once it is so many lines."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while spool.output.read_bytes().count(b"\n") < count:  # noqa: ASYNC110  # any watcher is under test elsewhere
            await asyncio.sleep(0.005)
    return spool.output.read_text().splitlines()


async def test_input_output_and_errors_go_through_the_spool(start: Start, spool: Spool, watcher: SpoolWatcher) -> None:
    child = await start(READY + "for line in sys.stdin:\n say(line.strip().upper())\n os.write(2, b'oops')")
    reader, writer = SpoolReader(spool, 0, watcher), SpoolWriter(spool)
    await writer.write(b"hello\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.wait_for_growth(child.exited)
    assert reader.read() == b"HELLO\n"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while spool.error_tail() != "oops":  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)
    assert not child.has_exited
    assert child.exit_code is None
    reader.close()
    writer.close()


async def test_the_child_leads_its_own_session_and_inherits_nothing_else(start: Start, spool: Spool) -> None:
    with (spool.directory / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        child = await start(
            READY + "say(os.getsid(0)); say(os.getpgid(0)); say(os.getcwd()); say(sorted(os.environ))\n"
            "say(sorted(os.listdir('/dev/fd'))[:4]); time.sleep(600)"
        )
        session, group, cwd, environment, descriptors = await lines(spool, 5)
    assert session == group == str(child.pid)
    assert cwd == str(spool.directory.parent)
    assert PROCESS_MARKER in environment
    assert eval(descriptors)[:3] == ["0", "1", "2"]  # noqa: S307  # a list that this test printed
    assert len(eval(descriptors)) <= 4  # noqa: S307  # the fourth is of the listing itself


@pytest.mark.parametrize(("source", "code"), [("", 0), ("raise SystemExit(7)", 7), ("import os; os.abort()", -6)])
async def test_exit_codes_and_no_zombies(start: Start, source: str, code: int) -> None:
    child = await start(source)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await child.wait() == code
    assert (child.exit_code, child.has_exited) == (code, True)
    assert not psutil.pid_exists(child.pid)
    assert await child.kill_group()


async def test_a_cancelled_wait_does_not_cancel_the_watch(start: Start, spool: Spool) -> None:
    child = await start(ECHO)
    waiting = asyncio.ensure_future(child.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    writer = SpoolWriter(spool)
    await writer.write(b"x\n")
    await lines(spool, 1)
    assert await child.terminate(idle=False)
    assert child.exit_code == -signal.SIGTERM
    writer.close()


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without pidfds."""
    monkeypatch.setattr(process_tree, "open_pidfd", lambda pid: None)
    monkeypatch.setattr(process, "open_pidfd", lambda pid: None)


@pytest.mark.usefixtures("blind")
async def test_without_pidfds_the_end_is_noticed_by_looking(start: Start, spool: Spool) -> None:
    # The interpreter's own handler can miss a signal that comes just before it reads.
    child = await start(ECHO.replace("for line", "signal.signal(signal.SIGINT, signal.SIG_DFL)\nfor line"))
    writer = SpoolWriter(spool)
    await writer.write(b"x\n")
    await lines(spool, 1)
    writer.close()
    adopted = adopt(child.pid, child.start_time, child.boot_id)
    assert adopted is not None
    child.interrupt_signal()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await child.wait() == -signal.SIGINT
        assert await adopted.wait() is None
    assert not psutil.pid_exists(child.pid)


def failing(tmp_path: Path, case: str) -> tuple[list[str], Path, dict[str, str]]:
    program = tmp_path / "program"
    cwd = tmp_path
    environment = {"PATH": "/bin"}
    match case:
        case "not executable":
            program.write_text("#!/bin/sh\n")
        case "no interpreter":
            program.write_text("#!/no/such/interpreter\n")
            program.chmod(0o755)
        case "not a program":
            program.write_bytes(b"\x7fELFnonsense")
            program.chmod(0o755)
        case "directory gone":
            program, cwd = Path("/bin/sh"), tmp_path / "gone"
        case "directory is a file":
            program, cwd = Path("/bin/sh"), Path("/bin/sh")
        case "too long":
            return ["/bin/sh", "x" * 3_000_000], cwd, environment
        case "nul":
            return ["/bin/sh", "a\0b"], cwd, environment
    return [str(program)], cwd, environment


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("missing", ClaudeNotFoundError, "missing.*npm install"),
        ("not executable", ClaudeNotFoundError, "cannot be run"),
        ("no interpreter", ClaudeNotFoundError, "cannot be run"),
        ("not a program", ClaudeNotFoundError, "cannot be run"),
        ("directory gone", ExecutionFailedError, "directory"),
        ("directory is a file", ExecutionFailedError, "directory"),
        ("too long", ExecutionFailedError, "too long"),
        ("nul", ExecutionFailedError, "NUL"),
    ],
)
async def test_what_cannot_be_started_says_why(
    tmp_path: Path, spool: Spool, case: str, error: type[PocketAgentError], text: str
) -> None:
    argv, cwd, environment = failing(tmp_path, case)
    before = set(psutil.Process().children())
    with pytest.raises(error, match=text) as caught:
        await spawn(argv, cwd=cwd, environment=environment, spool=spool)
    assert str(tmp_path) not in caught.value.message
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC])
async def test_an_exhausted_system_is_a_resource_limit(
    start: Start, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ResourceLimitError, match="cannot start another process"):
        await start(ECHO)


async def test_a_child_that_cannot_be_identified_is_not_left_running(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> None:
        raise OSError(errno.EMFILE, f"no descriptor to look at {pid}")

    before = set(psutil.Process().children())
    monkeypatch.setattr(process, "read_row", refuse)
    with pytest.raises(ResourceLimitError):
        await start(ECHO)
    assert set(psutil.Process().children()) <= before


async def test_an_idle_process_is_asked_politely(start: Start, spool: Spool) -> None:
    child = await start(
        READY + "signal.signal(signal.SIGINT, lambda *_: (say('bye'), os._exit(0)))\nsay('ready')\ntime.sleep(600)"
    )
    await lines(spool, 1)
    assert await child.terminate(idle=True)
    assert (await lines(spool, 2), child.exit_code) == (["ready", "bye"], 0)
    assert await child.terminate(idle=True)


async def test_a_busy_process_gets_sigterm_at_once(start: Start, spool: Spool) -> None:
    child = await start(
        READY + "signal.signal(signal.SIGINT, lambda *_: say('int'))\n"
        "signal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(3)))\nsay('ready')\n"
        "while True: time.sleep(600)"
    )
    await lines(spool, 1)
    assert await child.terminate(idle=False)
    assert (await lines(spool, 2), child.exit_code) == (["ready", "term"], 3)


STUBBORN = "for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)\n"


async def test_a_stubborn_process_is_killed(start: Start, spool: Spool) -> None:
    child = await start(READY + STUBBORN + "say('ready')\nwhile True: time.sleep(600)")
    await lines(spool, 1)
    assert await child.terminate(interrupt_grace=0.05, terminate_grace=0.05, idle=True)
    assert child.exit_code == -signal.SIGKILL


FAMILIES = {
    "in the group": f"p = subprocess.Popen({CHILD}); say(p.pid)",
    "in a session of its own": f"p = subprocess.Popen({CHILD}, start_new_session=True); say(p.pid)",
    "orphaned, in a session of its own": (
        f"subprocess.run([sys.executable, '-c', \"import subprocess, sys; "
        f'print(subprocess.Popen({CHILD}, start_new_session=True).pid, flush=True)"])'
    ),
    "stopped": f"p = subprocess.Popen({CHILD}, start_new_session=True); p.send_signal(signal.SIGSTOP); say(p.pid)",
    "stubborn": (
        "p = subprocess.Popen([sys.executable, '-c', 'import signal, time\\n'"
        "'signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nprint(0, flush=True)\\ntime.sleep(600)']); say(p.pid)"
    ),
    "many": f"for n in range(8): p = subprocess.Popen({CHILD}, start_new_session=n % 2 == 0); say(p.pid)",
    "forking when told to end": (
        "p = subprocess.Popen([sys.executable, '-c', 'import os, signal, time\\n'"
        "'def fork(*_):\\n if os.fork() == 0: os.setsid()\\n'"
        "'signal.signal(signal.SIGTERM, fork)\\nprint(0, flush=True)\\n'"
        "'while True: time.sleep(600)']); say(p.pid)"
    ),
    "without the mark": (
        f"p = subprocess.Popen({CHILD}, start_new_session=True, env=dict(PATH=os.environ['PATH'])); say(p.pid)"
    ),
}
PRINTED = {"many": 8, "stubborn": 2, "forking when told to end": 2}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("leader", ["polite", "stubborn"])
async def test_children_end_with_it(start: Start, spool: Spool, kind: str, leader: str) -> None:
    child = await start(
        READY + (STUBBORN if leader == "stubborn" else "") + FAMILIES[kind] + "\nsay(0)\nwhile True: time.sleep(600)"
    )
    printed = {int(line) for line in await lines(spool, PRINTED.get(kind, 1) + 1)} - {0}
    assert printed
    assert all(alive(pid) for pid in printed)
    assert await child.terminate(terminate_grace=0.2, idle=False)
    assert child.has_exited
    assert not any(alive(pid) for pid in printed)


@pytest.mark.parametrize("kind", ["in the group", "orphaned, in a session of its own", "stopped", "many"])
async def test_what_a_process_that_died_has_left_behind_is_killed(start: Start, spool: Spool, kind: str) -> None:
    child = await start(READY + FAMILIES[kind] + "\nsay(0)\nos.kill(os.getpid(), signal.SIGKILL)")
    printed = {int(line) for line in await lines(spool, PRINTED.get(kind, 1) + 1)} - {0}
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await child.wait() == -signal.SIGKILL
    assert all(alive(pid) for pid in printed)
    assert await kill_leftovers(child.pid, child.start_time, "another boot", spool.id)
    assert all(alive(pid) for pid in printed)
    if kind == "many":
        assert await kill_leftovers(child.pid, child.start_time, child.boot_id, spool.id)
    else:
        assert await child.kill_group()
    assert not any(alive(pid) for pid in printed)


async def test_a_stopped_process_ends(start: Start, spool: Spool) -> None:
    child = await start(READY + "say('ready')\nwhile True: time.sleep(600)")
    await lines(spool, 1)
    os.kill(child.pid, signal.SIGSTOP)
    assert await child.terminate(interrupt_grace=0.05, idle=True)


async def test_a_stranger_with_the_same_pid_is_neither_adopted_nor_signalled(start: Start, spool: Spool) -> None:
    child = await start(READY + "say('ready')\nwhile True: time.sleep(600)")
    await lines(spool, 1)
    other = f"{int(child.start_time) - 1}"
    assert adopt(child.pid, other, child.boot_id) is None
    assert adopt(child.pid, child.start_time, "another boot") is None
    assert not process_tree.send_signal(child.pid, other, signal.SIGKILL)
    former = process_tree.ProcessTree(child.pid, other, "another mark")
    assert not former.scan()
    former.signal(signal.SIGKILL)
    assert await kill_leftovers(child.pid, other, child.boot_id, "another mark")
    stranger = ClaudeProcess(child.pid, other, "another mark", None, child=False)
    stranger.interrupt_signal()
    assert await stranger.terminate(idle=True)
    assert alive(child.pid)


def zombie() -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


async def test_a_zombie_is_not_adopted() -> None:
    child = zombie()
    row = process_tree.read_row(child.pid)
    assert row is not None
    assert row.zombie
    assert adopt(child.pid, row.start_time, boot_id()) is None
    child.wait()


async def test_a_missing_process_is_not_adopted() -> None:
    assert adopt(2**22 + 1, "1", boot_id()) is None


async def test_releasing_leaves_the_process_running(start: Start, spool: Spool) -> None:
    child = await start(ECHO)
    child.release()
    child.release()
    adopted = adopt(child.pid, child.start_time, child.boot_id)
    assert adopted is not None
    writer = SpoolWriter(spool, resync=True)
    await writer.write(b"still here\n")
    assert "STILL HERE" in await lines(spool, 2)
    writer.close()
    adopted.release()


SPAWNER = """
import asyncio, os, sys
from pathlib import Path
from pocket_agent.claude.process import spawn
from pocket_agent.claude.spool import Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]), sys.argv[2])
    argv = [sys.executable, "-c", sys.argv[3]]
    child = await spawn(argv, cwd=Path("/"), environment={"PATH": os.environ["PATH"]}, spool=spool)
    print(child.pid, child.start_time, child.boot_id, flush=True)
    await child.wait()

asyncio.run(main())
"""


def spawned_by_a_server_that_was_killed(spool: Spool) -> tuple[str, str, str]:
    argv = [sys.executable, "-c", SPAWNER, str(spool.directory), spool.id, ECHO]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid, start_time, boot = server.stdout.readline().split()
        server.kill()
    return pid, start_time, boot


async def test_a_process_outlives_its_server_and_is_adopted(spool: Spool, watcher: SpoolWatcher) -> None:
    pid, start_time, boot = spawned_by_a_server_that_was_killed(spool)
    adopted = adopt(int(pid), start_time, boot)
    assert adopted is not None
    assert (adopted.pid, adopted.start_time, adopted.boot_id) == (int(pid), start_time, boot)
    reader, writer = SpoolReader(spool, 0, watcher), SpoolWriter(spool)
    await writer.write(b"after the end\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.wait_for_growth(adopted.exited)
    assert reader.read() == b"AFTER THE END\n"
    assert await adopted.terminate(idle=False)
    assert adopted.exit_code is None
    assert not alive(int(pid))
    reader.close()
    writer.close()


def test_it_works_on_uvloop_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "uv")
    spool.create()

    async def main() -> None:
        watcher = SpoolWatcher()
        child = await spawn([sys.executable, "-c", ECHO], cwd=tmp_path, environment=dict(os.environ), spool=spool)
        reader, writer = SpoolReader(spool, 0, watcher), SpoolWriter(spool)
        line = b"x" * 2_000_000 + b"\n"
        await writer.write(line)
        data = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(data) < len(line):
                assert await reader.wait_for_growth(child.exited)
                data += reader.read()
        assert data == line.upper()
        assert await child.terminate(idle=False)
        assert child.exit_code == -signal.SIGTERM
        reader.close()
        writer.close()
        watcher.close()

    uvloop.run(main())


def test_the_marks_of_a_process_can_be_read(spool: Spool) -> None:
    environment = {"PATH": os.environ["PATH"], PROCESS_MARKER: spool.id}
    with subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True) as child:
        try:
            kin = process_tree.ProcessTree(2**22 + 1, "0", spool.id)
            assert kin.scan()  # at once, while the program may still be being executed
            assert [row.pid for row in kin.members] == [child.pid]
            assert process_tree.read_marker(child.pid) == spool.id
        finally:
            child.kill()
    assert process_tree.read_marker(child.pid) is None
    assert process_tree.read_row(child.pid) is None
