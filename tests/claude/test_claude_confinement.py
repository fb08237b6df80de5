"""Agents see the machine without the server's own data, and are processes like any other all the same."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent.claude import process
from pocket_agent.claude.command_line import PROCESS_MARKER
from pocket_agent.claude.confinement import Confinement, Mode, find_confinement
from pocket_agent.claude.process import ClaudeProcess, adopt, boot_id, kill_leftovers, kill_orphans, spawn
from pocket_agent.claude.spool import Spool
from pocket_agent.errors import ClaudeNotFoundError, ExecutionFailedError
from pocket_agent.settings import AgentLimitSettings
from tests.claude.conftest import alive
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.tool import ROOT, require_tool

MODES: tuple[Mode, ...] = ("data", "project")
SAY = "import json, os, signal, subprocess, sys, time\nsay = lambda value: print(json.dumps(value), flush=True)\n"
WAIT = "time.sleep(600)\n"


class Cell:
    """Starts Python programs confined, on spools of their own, below one folder.

    Attributes:
        data: what is hidden; `data/key` is a secret.
        project: where the programs start.
        home: their home, with the CLI's configuration.
    """

    def __init__(self, folder: Path, mode: Mode) -> None:
        self.data, self.project, self.home = folder / "data", folder / "project", folder / "home"
        for path in (self.data / "spool", self.project, self.home / ".claude"):
            path.mkdir(parents=True)
        (self.data / "key").write_text("secret")
        (folder / "token").write_text("secret")
        (folder / "readable").write_text("known")
        program = require_tool("bwrap")
        self.confinement = find_confinement(mode, str(program.parent), [self.data, folder / "token"])
        if self.confinement.reason:
            pytest.skip(self.confinement.reason)
        self.started: list[ClaudeProcess] = []
        self.spools: list[Spool] = []

    async def start(
        self, source: str, *arguments: str, program: Path = Path(sys.executable), temporary: str = "", **options: Any
    ) -> ClaudeProcess:
        """Run a program of Python; `temporary` is its TMPDIR."""
        spool = Spool(self.data / "spool", f"t{os.urandom(8).hex()}")
        spool.create()
        self.spools.append(spool)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": temporary}
        options = {"cwd": self.project, "confinement": self.confinement, **options}
        argv = [str(program), "-c", SAY + source, *arguments]
        self.started.append(await spawn(argv, environment=environment, spool=spool, **options))
        return self.started[-1]

    async def said(self, count: int = 1) -> list[Any]:
        """The first values that the newest program has printed."""
        output = self.spools[-1].output
        async with asyncio.timeout(DEADLINE_SECONDS):
            while output.read_bytes().count(b"\n") < count:
                assert not self.started[-1].has_exited or output.read_bytes(), self.spools[-1].error_tail()
                await asyncio.sleep(0.005)
        return [json.loads(line) for line in output.read_text().splitlines()[:count]]


@pytest.fixture(params=MODES)
async def cell(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cell]:
    """A place for confined programs, which are ended after the test."""
    value = Cell(tmp_path, request.param)
    yield value
    for child in value.started:
        await child.terminate(interrupt_grace=0, terminate_grace=0, idle=False)


LOOK = """
def read(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        return error.strerror

def write(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror

data, project, home, server, other = sys.argv[1:]
folder, bound = os.path.dirname(data), project + "/bound"
names = ("root" + data, "environ", "fd/1", "cwd/", "mem")
proc = [read(f"/proc/{pid}/{name}") for pid in (server, other) for name in names]
os.mkdir(bound)
tricks = f"umount {data}; mount --bind {folder} {bound}; mount --rbind {folder} {bound}; umount {bound}/data"
unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{tricks}; cat {bound}/data/key {data}/key"]
say({
    "data": read(data),
    "key": read(data + "/key"),
    "token": read(folder + "/token"),
    "known": read(folder + "/readable"),
    "write data": write(data + "/new"),
    "write around": write(folder + "/new"),
    "write project": write(project + "/new"),
    "write home": write(home + "/new"),
    "write configuration": write(home + "/.claude/new"),
    "write tmp": write("/tmp/" + os.path.basename(folder)),
    "proc": sorted(set(map(str, proc))),
    "unshared": subprocess.run(unshared, capture_output=True, text=True).stdout,
    "umount": subprocess.run(["umount", data], capture_output=True).returncode,
    "null": write("/dev/null"),
    "pty": len(os.openpty()),
})
"""


async def test_an_agent_reads_nothing_of_the_servers_data_by_any_way(cell: Cell, tmp_path: Path) -> None:
    other = await cell.start(WAIT)
    pids = [str(os.getpid()), str(other.pid)]
    await cell.start(LOOK, str(cell.data), str(cell.project), str(cell.home), *pids)
    (seen,) = await cell.said()
    assert seen["proc"] == ["Permission denied"]
    assert (seen["data"], seen["key"], seen["token"]) == (
        [],
        "No such file or directory",
        "Permission denied",
    )
    assert (seen["unshared"], seen["umount"] != 0) == ("", True)
    assert seen["write data"] == "Read-only file system"
    work = ("write project", "write configuration", "write tmp", "null")
    assert ({name: seen[name] for name in work}, seen["pty"]) == (dict.fromkeys(work), 2)
    (Path("/tmp") / tmp_path.name).unlink(missing_ok=True)
    assert (cell.home / "new").exists() == (cell.confinement.mode == "data")
    assert all(path.exists() for path in (cell.project / "new", cell.home / ".claude" / "new"))
    assert (cell.data / "key").read_text() == "secret"


async def test_it_is_a_process_like_any_other(cell: Cell) -> None:
    child = await cell.start(
        "say([os.getpid(), os.getpgid(0), os.getsid(0), os.getcwd(), sorted(os.listdir('/dev/fd'))])\n" + WAIT
    )
    ((pid, group, session, cwd, descriptors),) = await cell.said()
    assert (pid, group, session, cwd) == (child.pid, child.pid, child.pid, str(cell.project))
    assert len(descriptors) == 4, "the fourth is of the listing itself"
    assert psutil.Process(child.pid).environ()[PROCESS_MARKER] == cell.spools[-1].id
    assert psutil.Process(child.pid).name().startswith("python")


async def test_a_program_that_is_a_link_in_a_temporary_directory_starts(cell: Cell, tmp_path: Path) -> None:
    link = tmp_path / "temporary" / "program"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    await cell.start("say(1)", program=link, temporary=str(link.parent))
    assert await cell.said() == [1]


async def test_exit_codes_come_through_and_nothing_is_left(cell: Cell) -> None:
    def zombies() -> set[int]:
        return {one.pid for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE}

    before = zombies()
    for source, code in (("", 0), ("raise SystemExit(7)", 7), ("os.abort()", -6), ("os.kill(os.getpid(), 9)", -9)):
        child = await cell.start(source)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await child.wait() == code, source
        assert await child.kill_group()
        assert zombies() <= before


async def test_signals_reach_it_and_its_end_takes_its_family_along(cell: Cell) -> None:
    polite = await cell.start("signal.signal(signal.SIGINT, lambda *_: sys.exit(5)); say(1)\n" + WAIT)
    await cell.said()
    polite.interrupt_signal()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await polite.wait() == 5
    stubborn = await cell.start(
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True); say(child.pid)\n" + WAIT
    )
    (grandchild,) = await cell.said()
    assert await stubborn.terminate(interrupt_grace=0.01, terminate_grace=0.01, idle=True)
    assert not alive(stubborn.pid)
    assert not alive(grandchild)


async def test_it_is_adopted_and_ended_by_a_later_server(cell: Cell) -> None:
    first = await cell.start("say(1)\n" + WAIT)
    await cell.said()
    first.release()
    marker = cell.spools[-1].id
    later = adopt(first.pid, first.start_time, boot_id(), marker)
    assert later is not None
    assert await later.terminate(interrupt_grace=0, terminate_grace=0, idle=False)
    assert not alive(first.pid)
    unknown = await cell.start("subprocess.Popen(['sleep', '600'], start_new_session=True); say(1)\n" + WAIT)
    await cell.said()
    assert await kill_orphans(cell.data / "spool", {spool.id for spool in cell.spools[:-1]}) == 1
    async with asyncio.timeout(DEADLINE_SECONDS):
        await unknown.wait()
    left = await cell.start("say(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)\n")
    (grandchild,) = await cell.said()
    await left.wait()
    assert await kill_leftovers(left.pid, left.start_time, boot_id(), cell.spools[-1].id)
    assert not alive(grandchild)


async def test_the_end_of_bwrap_alone_is_not_the_end_of_the_agent(cell: Cell) -> None:
    child = await cell.start("say(os.getppid())\n" + WAIT)
    (around,) = await cell.said()
    os.kill(around, signal.SIGKILL)
    os.kill(child.pid, signal.SIGCONT)
    assert psutil.pid_exists(child.pid)
    assert not child.has_exited
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await child.wait()


async def test_limits_hold_for_the_agent_and_not_for_bwrap_alone(cell: Cell) -> None:
    limits = AgentLimitSettings(cpu_time=1234.0)
    await cell.start("import resource; os.read(0, 1); say(resource.getrlimit(resource.RLIMIT_CPU))", limits=limits)
    cell.spools[-1].input.write_bytes(b"1")  # they hold
    assert await cell.said() == [[1234, 1234]]


async def test_what_cannot_start_says_why(cell: Cell, tmp_path: Path) -> None:
    spool = Spool(cell.data / "spool", "none")
    spool.create()
    start: dict[str, Any] = {"environment": {}, "spool": spool}
    with pytest.raises(ClaudeNotFoundError):
        await spawn([str(tmp_path / "none")], cwd=cell.project, confinement=cell.confinement, **start)
    gone = Confinement("data", "", str(tmp_path / "bwrap"))
    with pytest.raises(ExecutionFailedError, match=r"claude\.confinement"):
        await spawn([sys.executable], cwd=cell.project, confinement=gone, **start)
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2; exit 1")
    (tmp_path / "bwrap").chmod(0o700)
    with pytest.raises(ExecutionFailedError, match="bubblewrap") as caught:
        await spawn([sys.executable], cwd=cell.project, confinement=gone, **start)
    assert caught.value.details == {"stderr": "no namespaces"}


AS_DAEMON = """
import asyncio, json, os, pathlib, sys, tempfile
from pocket_agent.claude.confinement import find_confinement, ssh_files
from pocket_agent.claude.process import spawn
from pocket_agent.claude.spool import Spool

async def main(bwrap, mode):
    with tempfile.TemporaryDirectory() as folder:
        data, home = pathlib.Path(folder, "data"), pathlib.Path(folder, "home")
        home.mkdir()
        data.mkdir()
        spool = Spool(data / "spool", "s-1")
        spool.create()
        confinement = find_confinement(mode, bwrap, [data])
        assert not confinement.reason, confinement.reason
        shell = "ssh -G a.example; git ls-remote a.example:x; ls -ln /etc/ssh/vendor"
        environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
        argv = ["/bin/sh", "-c", shell]
        process = await spawn(argv, cwd=home, environment=environment, spool=spool, confinement=confinement)
        await process.wait()
        assert ssh_files(pathlib.Path("/etc/ssh/vendor")) == [], "others may write it, so ssh refuses it outside, too"
        print(json.dumps([list(map(str, ssh_files())), spool.output.read_text(), spool.error_tail()]))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ssh") is None, reason="root, to become another user, and ssh")
@pytest.mark.parametrize("mode", MODES)
def test_ssh_reads_the_configuration_of_the_system_for_a_user_that_is_not_root(tmp_path: Path, mode: str) -> None:
    ssh = tmp_path / "ssh"
    for folder in (ssh, ssh / "ssh_config.d", ssh / "vendor"):
        folder.mkdir()
    (ssh / "ssh_config").write_text("Include ssh_config.d/*.conf\n")
    (ssh / "ssh_config.d" / "20-vendor.conf").symlink_to("../vendor/20.conf")
    (ssh / "vendor" / "20.conf").write_text('Host a.example\n include="/etc/ssh/vendor/de*p.conf" # and no more\n')
    (ssh / "vendor" / "deep.conf").write_text("Hostname 127.0.0.1\nPort 1\n")
    (ssh / "vendor" / "open.conf").write_text("Include /etc/ssh/vendor/open.conf\n")
    (ssh / "vendor" / "ssh_config").write_text("Include open.conf 'quoted\nInclude open.conf gone.conf\n")
    for path in (ssh, *ssh.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (ssh / "vendor" / "open.conf").chmod(0o666)
    run = 'mount --bind "$0" /etc/ssh && exec setpriv --reuid=daemon --regid=daemon --clear-groups -- "$@"'
    script = [sys.executable, "-c", AS_DAEMON, str(require_tool("bwrap").parent), mode]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", run, ssh, *script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files, output, errors = json.loads(done.stdout)
    assert files == ["/etc/ssh/vendor/20.conf", "/etc/ssh/vendor/deep.conf"]
    assert {"hostname 127.0.0.1", "port 1"} <= set(output.splitlines()), errors
    assert "connect to host 127.0.0.1 port 1" in errors, "git over ssh gets as far as the network"
    assert "Bad owner" not in errors


LATE = """#!/bin/sh
while [ "$1" != -- ]; do [ "$1" = --info-fd ] && info=$2; shift; done
shift
"$@" & pid=$!
{first}
echo >{begun}
read -r _ <{gate}
printf '{{"child-pid": %d' $pid >/dev/fd/$info
printf '\\n}}\\n' >/dev/fd/$info
wait $pid
exit 7
"""


class Late:
    """A bwrap that reports when the test says so, and hides nothing.

    Attributes:
        waits: readable once it has started the program.
    """

    def __init__(self, folder: Path, spool: Spool) -> None:
        self._folder, self._spool = folder, spool
        for name in ("begun", "gate"):
            os.mkfifo(folder / name)
        # Read and write, so that no open(2) waits for the other end.
        self._begun, self._gate = (os.open(folder / name, os.O_RDWR) for name in ("begun", "gate"))

    def spawn(self, source: str, first: str = "") -> "asyncio.Task[ClaudeProcess]":
        """Begin to start a program; `first` is what bwrap does before anything else."""
        program = self._folder / "bwrap"
        program.write_text(LATE.format(begun=self._folder / "begun", gate=self._folder / "gate", first=first))
        program.chmod(0o700)
        starting = spawn(
            [sys.executable, "-S", "-c", source],
            cwd=self._folder,
            environment={"PATH": os.environ["PATH"]},
            spool=self._spool,
            limits=AgentLimitSettings(cpu_time=1234.0),
            confinement=Confinement("data", "", str(program)),
            files={"--file": "secret"},
        )
        return asyncio.create_task(starting)

    async def begun(self) -> None:
        """Wait until it has started the program."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._begun, ready.set)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ready.wait()
        loop.remove_reader(self._begun)

    def report(self) -> None:
        """Let it report."""
        os.write(self._gate, b"\n")

    def close(self) -> None:
        """Close its pipes."""
        os.close(self._begun)
        os.close(self._gate)


@pytest.fixture
def late(tmp_path: Path, spool: Spool) -> Iterator[Late]:
    """A bwrap that reports late; whatever the program leaves behind is a failure (`spool`)."""
    value = Late(tmp_path, spool)
    yield value
    value.close()


FAMILY = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"


def descriptors() -> set[str]:
    """The open files of this process, whose numbers change with each look at their directory."""
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


async def test_the_loop_serves_others_while_bwrap_reports_late(late: Late) -> None:
    starting = late.spawn(FAMILY)
    await late.begun()
    assert not starting.done()
    late.report()
    child = await starting
    around = psutil.Process(child.pid).parent()
    assert around is not None
    assert "--info-fd" in around.cmdline()
    assert await child.terminate(interrupt_grace=0, terminate_grace=0, idle=False)


async def test_a_start_that_is_cancelled_leaves_no_process_and_no_descriptor(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CANCEL_SECONDS", DEADLINE_SECONDS)
    await asyncio.to_thread(int)  # the threads' own descriptors are open
    before = descriptors()
    starting = late.spawn(FAMILY)
    await late.begun()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # The thread that started the program may still have been in fork(2), and ends it afterwards.
    await eventually(lambda: descriptors() == before, "no descriptor is left")


class HangingMount:
    """A file system on which a start hangs until `answers` is set.

    Attributes:
        asked: a start hangs.
        discarded: its process, started after all, was ended.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answers, self.discarded = threading.Event(), threading.Event(), threading.Event()
        self._discard = process._discard
        monkeypatch.setattr(process, "held", self._held)
        monkeypatch.setattr(process, "_discard", self._discarded)

    def _held(self, path: Path) -> AbstractContextManager[str]:
        self.asked.set()
        assert self.answers.wait(DEADLINE_SECONDS)
        return contextlib.nullcontext(str(path))

    def _discarded(self, child: Any, marker: str) -> None:
        self._discard(child, marker)
        self.discarded.set()


async def test_a_start_that_is_cancelled_waits_for_the_thread_that_undoes_it(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CANCEL_SECONDS", DEADLINE_SECONDS)
    mount = HangingMount(monkeypatch)
    before = descriptors()
    starting = late.spawn(FAMILY)
    assert await asyncio.to_thread(mount.asked.wait, DEADLINE_SECONDS)
    starting.cancel()
    asyncio.get_running_loop().call_soon(mount.answers.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert mount.discarded.is_set()
    assert descriptors() == before


async def test_a_start_that_is_cancelled_does_not_wait_for_a_mount_that_hangs(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CANCEL_SECONDS", 0.01)
    mount = HangingMount(monkeypatch)
    before = descriptors()
    starting = late.spawn(FAMILY)
    assert await asyncio.to_thread(mount.asked.wait, DEADLINE_SECONDS)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    mount.answers.set()
    assert await asyncio.to_thread(mount.discarded.wait, DEADLINE_SECONDS), "the thread ends what it starts afterwards"
    assert descriptors() == before


async def test_a_start_that_is_cancelled_just_when_it_is_done_is_undone(late: Late) -> None:
    class Inline(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    asyncio.get_running_loop().set_default_executor(Inline())
    before = descriptors()
    starting = late.spawn(FAMILY)
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert descriptors() == before


async def test_a_program_that_has_ended_before_bwrap_reports_it_has_its_exit_code(late: Late) -> None:
    starting = late.spawn("", first="wait $pid")
    await late.begun()
    late.report()
    child = await starting
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await child.wait() == 7


async def test_a_directory_that_was_replaced_in_between_is_not_entered(cell: Cell, tmp_path: Path) -> None:
    argv = cell.confinement.command(
        ["/bin/pwd"], cwd=cell.project, identity=(1, 2), environment={"HOME": str(cell.home)}, info=1
    )
    done = await asyncio.to_thread(subprocess.run, argv, cwd=cell.project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "The directory of the project was replaced.\n")
    assert str(cell.project) not in done.stdout


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "not installed"),
        ("exit 1", "does not work here: exit code 1"),
        ("echo No userns >&2; exit 1", "No userns"),
    ],
)
def test_where_bubblewrap_does_not_work_nothing_is_in_force_and_the_reason_is_known(
    tmp_path: Path, program: str | None, reason: str
) -> None:
    if program is not None:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{program}")
        (tmp_path / "bwrap").chmod(0o700)
    found = find_confinement(None, str(tmp_path), [tmp_path])
    assert found.mode == "off"
    assert reason in found.reason
    assert find_confinement("off", str(tmp_path), [tmp_path]) == Confinement()


def test_one_that_hides_nothing_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "key").write_text("secret")
    (tmp_path / "bwrap").write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    (tmp_path / "bwrap").chmod(0o700)
    assert find_confinement(None, f"{tmp_path}:/bin", [tmp_path / "data"]).mode == "off"
