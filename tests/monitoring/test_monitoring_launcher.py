"""The programs of a stack as one group: started together, told apart, and gone together whatever happens."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pocket_agent.errors import ConfigurationError, FileOperationError
from pocket_agent.monitoring import launcher, render
from pocket_agent.monitoring.launcher import (
    DATA,
    FILE,
    PROGRAMS,
    Ended,
    Launch,
    Program,
    arguments,
    installed,
    read_launches,
    refuse_taken_ports,
    running,
)
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import alive, eventually
from tests.harness.server import free_port
from tests.monitoring.stack_sample import defaults, everything_changed, texts

SLEEP = "exec sleep 1000"


class Stage:
    """A directory with programs that are shell scripts.

    Attributes:
        folder: of the stack.
        said: what the programs said, with their names.
        reports: what became of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[tuple[str, str]] = []
        self.reports: list[str] = []

    def launch(self, program: Program, script: str) -> tuple[Launch, str]:
        """A program that is this script."""
        place = self.folder / f"{program.name}.sh"
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        return Launch(program, 0, ("one", "two words")), str(place)

    def say(self, name: str, line: str) -> None:
        """Note what a program said."""
        self.said.append((name, line))

    def report(self, text: str) -> None:
        """Note what became of a program."""
        self.reports.append(text)

    def processes(self) -> list[psutil.Process]:
        """Those that were started and are alive."""
        noted = [place.read_text().strip() for place in self.folder.glob("*.pid")]
        pids = [int(text) for text in noted if text]
        return [process for pid in pids if (process := find(pid)) is not None and alive(process)]


def find(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def noting(name: str, script: str) -> str:
    """A script that notes its process first."""
    return f"echo $$ > {name}.pid\n{script}"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Prometheus and Alertmanager are given up at once, unless a test wants to see them started again."""
    monkeypatch.setattr(launcher, "_ATTEMPTS", 0)
    made = Stage(tmp_path)
    yield made
    for process in made.processes():
        process.kill()


async def test_what_they_say_is_told_with_their_names(stage: Stage) -> None:
    first = stage.launch(PROGRAMS["prometheus"], 'echo "$1, $2"; echo wrong >&2; printf unfinished')
    second = stage.launch(PROGRAMS["alertmanager"], f"pwd; {SLEEP}")
    async with (
        running([first, second], stage.folder, stage.say, stage.report) as ended,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        assert await ended.get() == Ended("prometheus", 0)
        await eventually(lambda: len(stage.said) == 4, "all is said")
    assert [line for name, line in stage.said if name == "prometheus"] == ["one, two words", "wrong", "unfinished"]
    assert [line for name, line in stage.said if name == "alertmanager"] == [str(stage.folder)]
    assert (stage.folder / DATA / "prometheus").is_dir()


async def test_a_line_that_never_ends_comes_in_parts_and_nothing_stops(stage: Stage) -> None:
    script = f'exec {sys.executable} -c "import sys; sys.stdout.write(200_000 * chr(120) + chr(10) + chr(121))"'
    async with (
        running([stage.launch(PROGRAMS["prometheus"], script)], stage.folder, stage.say, stage.report) as ended,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        await ended.get()
    lines = [line for _, line in stage.said]
    assert len(lines) > 2
    assert "".join(lines) == 200_000 * "x" + "y"


async def test_bytes_that_are_no_text_are_told_as_well_as_they_can_be(stage: Stage) -> None:
    async with running(
        [stage.launch(PROGRAMS["prometheus"], r"printf '\377ok\n'")], stage.folder, stage.say, stage.report
    ) as ended:
        await ended.get()
    assert stage.said == [("prometheus", "\N{REPLACEMENT CHARACTER}ok")]


@pytest.mark.parametrize(
    ("script", "says"),
    [("exit 3", "prometheus ended with status 3"), ("kill -9 $$", "prometheus was killed by SIGKILL")],
)
async def test_who_ends_by_itself_is_told(stage: Stage, script: str, says: str) -> None:
    there = [stage.launch(PROGRAMS["prometheus"], script), stage.launch(PROGRAMS["alertmanager"], noting("a", SLEEP))]
    async with running(there, stage.folder, stage.say, stage.report) as ended, asyncio.timeout(DEADLINE_SECONDS):
        assert str(await ended.get()) == says
    assert stage.processes() == []


COUNTED = "echo x >> {0}.runs; [ $(wc -l < {0}.runs) -ge {1} ] && echo steady && exec sleep 1000; exit 3"


async def test_an_exporter_is_started_again_with_growing_delays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_FIRST_DELAY", 0.01)
    node = stage.launch(PROGRAMS["node_exporter"], noting("n", COUNTED.format("n", 8)))
    there = [stage.launch(PROGRAMS["prometheus"], noting("p", SLEEP)), node]
    async with running(there, stage.folder, stage.say, stage.report) as ended:
        await eventually(lambda: ("node_exporter", "steady") in stage.said, "it keeps running")
        assert ended.empty()
        assert len(stage.processes()) == 2
    delays = ["0.01", "0.02", "0.04", "0.08", "0.16", "0.32", "0.64"]
    assert stage.reports == [
        f"node_exporter ended with status 3, and is started again in {delay} s" for delay in delays
    ]  # fmt: skip
    assert stage.processes() == []


async def test_an_essential_program_is_given_up_after_some_attempts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(launcher, "_ATTEMPTS", 2)
    there = [stage.launch(PROGRAMS["alertmanager"], "echo x >> a.runs; exit 1")]
    async with running(there, stage.folder, stage.say, stage.report) as ended, asyncio.timeout(DEADLINE_SECONDS):
        assert str(await ended.get()) == "alertmanager ended with status 1"
    assert (stage.folder / "a.runs").read_text() == "x\n" * 3
    assert len(stage.reports) == 2


async def test_earlier_ends_do_not_count_after_a_steady_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(launcher, "_ATTEMPTS", 1)
    monkeypatch.setattr(launcher, "_STEADY_SECONDS", 0.0)
    there = [stage.launch(PROGRAMS["prometheus"], COUNTED.format("p", 5))]
    async with running(there, stage.folder, stage.say, stage.report) as ended:
        await eventually(lambda: ("prometheus", "steady") in stage.said, "it keeps running")
        assert ended.empty()
    assert {report.rpartition(" in ")[2] for report in stage.reports} == {"0.01 s"}


async def test_a_program_that_cannot_be_started_again_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_FIRST_DELAY", 0.01)
    script = "mv node_exporter.sh away; exit 1"
    there = [stage.launch(PROGRAMS["node_exporter"], script)]
    async with running(there, stage.folder, stage.say, stage.report):
        await eventually(lambda: sum("cannot be started" in text for text in stage.reports) > 1, "it is tried")
        stage.launch(PROGRAMS["node_exporter"], f"echo back; {SLEEP}")
        await eventually(lambda: ("node_exporter", "back") in stage.said, "it is back")


async def test_a_program_that_waits_to_be_started_again_keeps_nothing_from_ending(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_FIRST_DELAY", 1000.0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        there = [stage.launch(PROGRAMS["node_exporter"], "exit 1")]
        async with running(there, stage.folder, stage.say, stage.report):
            await eventually(lambda: bool(stage.reports), "it waits")


async def test_the_last_words_are_heard(stage: Stage) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    async with running([stage.launch(PROGRAMS["prometheus"], script)], stage.folder, stage.say, stage.report):
        await eventually(lambda: bool(stage.said), "it is up")
    assert stage.said == [("prometheus", "up"), ("prometheus", "bye")]


async def test_who_does_not_listen_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_END_SECONDS", 0.2)
    script = noting("p", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    async with running([stage.launch(PROGRAMS["prometheus"], script)], stage.folder, stage.say, stage.report):
        await eventually(lambda: bool(stage.said), "it is up")
    assert stage.processes() == []


async def test_what_a_program_has_started_ends_with_it(stage: Stage) -> None:
    child = "sh -c 'echo $$ > child.pid; exec sleep 1000' & "
    script = noting("p", child + "trap 'exit 0' TERM; while [ ! -s child.pid ]; do sleep 0.02; done; echo up; wait")
    async with running([stage.launch(PROGRAMS["prometheus"], script)], stage.folder, stage.say, stage.report):
        await eventually(lambda: bool(stage.said), "it is up")
        assert len(stage.processes()) == 2
    assert stage.processes() == []


async def test_an_exporter_that_cannot_be_started_leaves_the_others_running(stage: Stage) -> None:
    exporter, path = stage.launch(PROGRAMS["node_exporter"], "")
    Path(path).write_text("not a program", "utf-8")
    there = [(exporter, path), stage.launch(PROGRAMS["prometheus"], f"echo up; {SLEEP}")]
    async with running(there, stage.folder, stage.say, stage.report) as ended:
        await eventually(lambda: bool(stage.said), "prometheus is up")
        assert ended.empty()
    (report,) = stage.reports
    assert report.startswith("node_exporter cannot be started")
    assert report.endswith(". The others run without it.")


async def test_a_program_that_cannot_be_started_ends_those_before_it(stage: Stage) -> None:
    first = stage.launch(PROGRAMS["prometheus"], noting("p", SLEEP))
    second, path = stage.launch(PROGRAMS["alertmanager"], "")
    Path(path).chmod(0o644)
    with pytest.raises(FileOperationError, match="alertmanager cannot be started"):
        async with running([first, (second, path)], stage.folder, stage.say, stage.report):
            raise AssertionError("not reached")
    assert stage.processes() == []


async def test_a_fault_of_the_caller_ends_them(stage: Stage) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with running(
            [stage.launch(PROGRAMS["prometheus"], noting("p", f"echo up; {SLEEP}"))],
            stage.folder,
            stage.say,
            stage.report,
        ):
            await eventually(lambda: bool(stage.said), "it is up")
            raise RuntimeError("mine")
    assert caught.group_contains(RuntimeError, match="mine")
    assert stage.processes() == []


KILLED = """
import asyncio, sys
from pathlib import Path
from pocket_agent.monitoring import launcher
from pocket_agent.monitoring.launcher import PROGRAMS, Launch, running

async def main():
    launcher._END_SECONDS = 0.3
    folder = Path(sys.argv[1])
    there = [(Launch(PROGRAMS[name], 0, ()), str(folder / f"{name}.sh")) for name in ("prometheus", "alertmanager")]
    async with running(there, folder, lambda name, line: print(name, line, flush=True), print):
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("stubborn", [False, True])
async def test_nothing_outlives_who_started_it_not_even_when_that_is_killed(stage: Stage, stubborn: bool) -> None:
    child = "sh -c 'echo $$ > child.pid; exec sleep 1000' & "
    deaf = "trap '' TERM; " if stubborn else ""
    stage.launch(PROGRAMS["prometheus"], noting("p", deaf + child + "echo up; while :; do sleep 0.05; done"))
    stage.launch(PROGRAMS["alertmanager"], noting("a", f"echo up; {SLEEP}"))
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(stage.folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert starter.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert {await starter.stdout.readline() for _ in range(2)} == {b"prometheus up\n", b"alertmanager up\n"}
            await eventually(lambda: len(stage.processes()) == 3, "all three are there")
            reapers = [
                process for process in psutil.Process(starter.pid).children() if "reaper" in " ".join(process.cmdline())
            ]
            assert len(reapers) == 1
    finally:
        starter.kill()
        await starter.wait()
    await eventually(lambda: stage.processes() == [], "all three are gone")
    await eventually(lambda: not any(map(alive, reapers)), "so is the reaper")


def test_debians_names_are_known(tmp_path: Path) -> None:
    launches = read_rendered(tmp_path)
    debian = {"prometheus", "prometheus-alertmanager", "prometheus-node-exporter"}
    there, absent = installed(launches, lambda name: f"/usr/bin/{name}" if name in debian else None)
    assert [path for _, path in there] == [
        "/usr/bin/prometheus",
        "/usr/bin/prometheus-alertmanager",
        "/usr/bin/prometheus-node-exporter",
    ]
    assert [launch.program.name for launch in absent] == ["blackbox_exporter", "grafana"]


def read_rendered(folder: Path) -> list[Launch]:
    (folder / FILE).write_text(defaults(folder).files[FILE])
    return read_launches(folder)


def test_the_ports_are_those_of_the_rendered_files(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(texts(render(everything_changed(tmp_path)))[FILE])
    found = {launch.program.name: launch.url for launch in read_launches(tmp_path)}
    assert found == {
        "prometheus": "http://127.0.0.1:19091",
        "alertmanager": "http://127.0.0.1:19093",
        "node_exporter": "http://127.0.0.1:19100",
        "blackbox_exporter": "http://127.0.0.1:19115",
        "grafana": "http://127.0.0.1:13000",
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"prometheus": 1}',
        '{"prometheus": {"port": 1}}',
        '{"prometheus": {"port": 65536, "flags": []}}',
        '{"rm": {"port": 1, "flags": []}}',
        '{"prometheus": {"port": 1, "flags": ["a\\u0000b"]}}',
        '{"prometheus": {"port": 1, "flags": [], "features": ["a\\n\\u0000"]}}',
        '{"prometheus": {"port": 1, "flags": ["\udcff"]}}',
        '{"prometheus": {"x": ' + "[" * 100_000,
    ],
    ids=lambda content: content[:60],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(FileOperationError, match=f"{FILE} cannot be used"):
        read_launches(tmp_path)


def test_where_nothing_was_rendered_it_is_said_how(tmp_path: Path) -> None:
    with pytest.raises(FileOperationError, match="pocket-agent monitoring render"):
        read_launches(tmp_path)


def test_taken_ports_are_told_with_their_settings_and_who_has_them() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        free = Launch(PROGRAMS["node_exporter"], free_port(), ())
        with pytest.raises(ConfigurationError) as caught:
            refuse_taken_ports(
                [Launch(PROGRAMS["prometheus"], port, ()), free, Launch(PROGRAMS["alertmanager"], port, ())]
            )
    lines = caught.value.message.splitlines()
    assert lines[1].startswith(f"  monitoring.prometheus_port: port {port} is taken by ")
    assert lines[1].endswith(f"(process {os.getpid()})")
    assert lines[2].startswith("  monitoring.alertmanager_port: ")
    assert "monitoring.node_port" not in caught.value.message


def test_free_ports_are_fine() -> None:
    refuse_taken_ports(
        [Launch(PROGRAMS["prometheus"], free_port(), ()), Launch(PROGRAMS["alertmanager"], free_port(), ())]
    )


async def test_grafana_finds_the_dashboards_where_they_are(stage: Stage) -> None:
    for path, text in defaults(stage.folder).files.items():
        if path.startswith("grafana/provisioning"):
            (stage.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (stage.folder / path).write_text(text)
    async with running([stage.launch(PROGRAMS["grafana"], "exit 0")], stage.folder, stage.say, stage.report):
        await eventually(lambda: bool(stage.reports), "it has ended")
    own = stage.folder / DATA / "grafana" / "provisioning"
    assert f"path: {stage.folder}/grafana/dashboards" in (own / "dashboards" / "pocket-agent.yml").read_text()
    assert (own / "datasources" / "pocket-agent.yml").exists()
    rendered = json.loads(defaults(stage.folder).files[FILE])["grafana"]["flags"]
    assert f"cfg:paths.provisioning={DATA}/grafana/provisioning" in rendered


@pytest.mark.parametrize(
    ("help_text", "flags"),
    [
        ("echo 'Valid options: by-name, by-group' >&2", ["one", "two words", "--enable-feature=by-name,by-group"]),
        ("echo 'Valid options: by-group'", ["one", "two words", "--enable-feature=by-group"]),
        ("exit 1", ["one", "two words"]),
        (SLEEP, ["one", "two words"]),
    ],
)
async def test_features_are_enabled_where_the_program_has_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, help_text: str, flags: list[str]
) -> None:
    if help_text == SLEEP:
        monkeypatch.setattr(launcher, "_HELP_SECONDS", 0.1)
    launch, path = stage.launch(PROGRAMS["alertmanager"], help_text)
    assert await arguments(replace(launch, features=("by-name", "by-group")), path) == flags


def test_signals_are_named() -> None:
    assert str(Ended("x", -signal.SIGTERM)) == "x was killed by SIGTERM"
