"""From a bare Debian 12 to the first panel and the first page, as README.md and docs/monitoring.md say it; then the
rendered units under a real systemd, with the programs of both generations. The output has the time of each step.
"""

import contextlib
import json
import re
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness import manual
from tests.harness.claude import require_claude
from tests.harness.follow import eventually
from tests.harness.machine import USER, Machine, bare_machine, in_turn, output_of
from tests.harness.tool import NEWER, ROOT, require_tool
from tests.monitoring.dashboard_sample import dashboards, panels_of
from tests.test_tools import ELSEWHERE, TEMPLATES

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

HOME = f"/home/{USER}"
CHECKOUT = f"{HOME}/pocket-agent"
MONITORING = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
SYSTEMD = (ROOT / "docs" / "deployment" / "systemd.md").read_text("utf-8")
PROMETHEUS = "http://127.0.0.1:9091"
PROGRAMS = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "alertmanager",
    "prometheus-node-exporter": "node",
    "prometheus-blackbox-exporter": "blackbox-exporter",
}
"""The units of the stack with the names of the jobs that scrape their programs."""
JOBS = {*PROGRAMS.values(), "pocket-agent", "blackbox", "blackbox-http"}
RECEIVER = """\
import http.server, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with pathlib.Path("alerts.jsonl").open("ab") as file:
            file.write(body + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8008), Handler).serve_forever()
"""
SCRAPES = 4
"""How many times each program is scraped before it counts as running."""


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    """Print how long a step takes."""
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:6.1f} s  {step}", flush=True)


def commands(text: str, section: str, number: int = 0) -> list[str]:
    """The lines of a block of shell of a section; a line that goes on has its continuation."""
    block = [found.text for found in manual.blocks(text, "sh") if found.section == section][number]
    return re.sub(r"\\\n", " ", block).splitlines()


def quick_start() -> list[str]:
    return commands(MONITORING, "Overview")


def python(command: str) -> str:
    """A command that finds `pocket-agent` of the checkout."""
    return f"cd {CHECKOUT} && . .venv/bin/activate && {command}"


async def ask(machine: Machine, query: str) -> list[dict[str, Any]]:
    """The result of a query of the Prometheus in a machine."""
    url = f"{PROMETHEUS}/api/v1/query?query={quote(query)}"
    found: list[dict[str, Any]] = json.loads(await machine.output(f"curl -fsS {shlex.quote(url)}"))["data"]["result"]
    return found


async def healthy(machine: Machine, doctor: str) -> None:
    """Wait until doctor has nothing against it."""
    said: list[str] = []

    async def green() -> bool:
        said[:] = [await machine.output(f"{doctor} --json 2>/dev/null || true")]
        lines = json.loads(said[0])["findings"]
        scraped = {line["status"] for line in lines if line["name"] == "targets"} == {"ok"}
        return scraped and not [line for line in lines if line["status"] == "failed"]

    try:
        await eventually(green, "doctor is green")
    except AssertionError as error:
        raise AssertionError(said) from error
    await machine.output(doctor)  # its exit status is 0


async def page(machine: Machine, alert: str) -> dict[str, Any]:
    """Wait until the receiver in the machine has got an alert that fires."""
    file = machine.root / HOME.removeprefix("/") / "alerts.jsonl"
    found: list[dict[str, Any]] = []

    def came() -> bool:
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        alerts = [alert for line in lines if line for alert in json.loads(line)["alerts"]]
        found[:] = [one for one in alerts if (one["labels"]["alertname"], one["status"]) == (alert, "firing")]
        return bool(found)

    await eventually(came, f"the receiver gets {alert}")
    return found[0]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """A bare machine with a user who may use sudo and has this checkout."""
    async with bare_machine(tmp_path) as made:
        (made.root / "etc/hostname").write_text("debian\n")
        (made.root / "etc/hosts").write_text("127.0.0.1 localhost debian\n")
        (made.root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
        with timed("apt-get update; apt-get install sudo make curl"):
            await made.prepare("apt-get update -qq; apt-get install -qq --no-install-recommends sudo make curl")
        await made.prepare(f"useradd --create-home --shell /bin/bash {USER}")
        (made.root / "etc/sudoers.d" / USER).write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        home = f"{made.root}{HOME}"
        archive = f"git -C {ROOT} archive --prefix=pocket-agent/ HEAD | tar --extract --directory={home}"
        await output_of("sh", "-ec", archive)
        await made.prepare(f"chown -R {USER}: {CHECKOUT}")
        yield made


async def test_the_first_panel_and_the_first_page(machine: Machine, tmp_path: Path) -> None:
    """The words of the documents, in their order; only what is fetched is fetched before the machine boots."""
    install, disable, serve, render_stack, check, up, doctor = quick_start()
    with timed("make setup (of `make run`)"):
        await machine.prepare("make setup", USER, CHECKOUT)
    await machine.prepare(f"{install.removeprefix('sudo ')} --download-only")
    with timed("the machine boots"):
        await machine.boot()
    with timed(f"$ {install}"):
        await machine.output(install)
    with timed(f"$ {disable}"):
        await machine.output(disable)
    (machine.root / HOME.removeprefix("/") / "receiver.py").write_text(RECEIVER)
    await machine.start("python3 receiver.py", tmp_path / "receiver.log")
    settings = next(block.text for block in manual.blocks(MONITORING, "yaml") if "webhook_url" in block.text)
    (webhook,) = [line for line in settings.splitlines() if line.strip().startswith("webhook_url:")]
    chosen = shlex.quote(f"monitoring:\n{webhook}\n")
    await machine.output(f"mkdir -p .config/pocket-agent && printf %s {chosen} > .config/pocket-agent/config.yaml")
    assert serve.startswith("pocket-agent serve ")
    with timed("$ make run, until it is ready"):
        await machine.start(f"cd {CHECKOUT} && exec make run", tmp_path / "server.log")
        await eventually(lambda: b"server ready" in (tmp_path / "server.log").read_bytes(), "the server starts")
    for line in (render_stack, check):
        with timed(f"$ {line}"):
            await machine.output(python(line))
    began = time.monotonic()
    await machine.start(python(f"exec {up.partition('#')[0]}"), tmp_path / "up.log")
    panel = panels_of(dashboards()[0])[0]
    query = panel["targets"][0]["expr"].replace("$instance", "127.0.0.1:9090").replace("$job", "pocket-agent")

    async def shown() -> bool:
        with contextlib.suppress(AssertionError):  # Prometheus does not answer yet
            return bool(await ask(machine, query))
        return False

    with timed(f"$ {up.strip()}, until the panel {panel['title']!r} has data"):
        await eventually(shown, "the first panel has data")
    with timed(f"$ {doctor}, until it is green"):
        await healthy(machine, python(doctor.partition("#")[0].strip()))
    print(f"{time.monotonic() - began:6.1f} s  from `monitoring up` to a green doctor")
    killed = time.monotonic()
    (server,) = [process for process in machine.processes() if "serve" in process.cmdline()]
    server.kill()
    with timed("kill -9 of the server, until the receiver is paged"):
        found = await page(machine, "ServiceDown")
    assert found["labels"]["severity"] == "critical"
    assert time.monotonic() - killed < 120


def place_programs(machine: Machine) -> None:
    """Replace Debian 12's programs with the newer ones."""
    for name in PROGRAMS:
        place, program = machine.root / "usr" / "bin" / name, require_tool(name, NEWER)
        if name == "prometheus-alertmanager":
            program = program.parents[1] / "lib" / "alertmanager"  # scripts/tools has put a wrapper in its place
            templates = program.parents[1] / "share" / "prometheus" / "alertmanager"
            shutil.copytree(templates, f"{machine.root}{TEMPLATES.decode()}", dirs_exist_ok=True)
        place.unlink()
        place.write_bytes(program.read_bytes().replace(ELSEWHERE, TEMPLATES))
        place.chmod(0o755)


async def states(machine: Machine) -> dict[str, dict[str, str]]:
    """Properties of the units by their names."""
    names = " ".join(("pocket-agent", *PROGRAMS))
    shown = await machine.output(f"systemctl show -p Id,ActiveState,NRestarts,Result {names}", "root")
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n")]
    return {unit.pop("Id"): unit for unit in units}


async def units_run(machine: Machine) -> None:
    """Wait until every program was scraped a few times from now on, and check that none ended meanwhile."""
    since, before = time.monotonic(), await states(machine)  # Debian's own units may have been started several times

    async def scraped() -> bool:
        with contextlib.suppress(AssertionError):
            seconds = int(time.monotonic() - since) + 1
            found = await ask(machine, f"sum by (job) (sum_over_time(up[{seconds}s])) >= {SCRAPES}")
            return {one["metric"]["job"] for one in found} >= JOBS
        return False

    await eventually(scraped, "each program is scraped")
    after = await states(machine)
    journal = await machine.output("journalctl -o short --no-pager -u 'prometheus*' -u pocket-agent", "root")
    assert after == before, journal[-8000:]
    assert {(unit["ActiveState"], unit["Result"]) for unit in after.values()} == {("active", "success")}
    assert not re.search(r"SIGSYS|seccomp|dumped core", journal, re.IGNORECASE), journal[-4000:]


async def answers(machine: Machine, url: str) -> None:
    """Wait until something in the machine answers."""

    async def answered() -> bool:
        with contextlib.suppress(AssertionError):
            await machine.output(f"curl -fsS {url}")
            return True
        return False

    await eventually(answered, f"{url} answers")


async def test_the_rendered_units_run_under_systemd(machine: Machine) -> None:
    """docs/deployment/systemd.md in its order, with Debian 12's programs, and then with newer ones."""
    *service, device = commands(SYSTEMD, "System service")
    (login,) = [line for line in service if line.endswith("log in to Claude, once")]
    first = 1 + next(number for number, line in enumerate(service) if "/bin/pip install" in line)
    await machine.prepare("apt-get install -qq --no-install-recommends python3 python3-venv")
    with timed("docs/deployment/systemd.md up to `pip install`"):
        await machine.prepare(in_turn(service[:first]), USER, CHECKOUT)
    shutil.copy(require_claude().resolve(), machine.root / "usr/local/bin/claude")
    install, *stack, doctor = commands(SYSTEMD, "The monitoring stack as services")
    await machine.prepare(f"{install.removeprefix('sudo ')} --download-only")
    await machine.boot()
    with timed("docs/deployment/systemd.md from there on"):
        await machine.output(in_turn([f"cd {CHECKOUT}", *(line for line in service[first:] if line != login)]))
        await answers(machine, "http://127.0.0.1:8080/livez")
        await machine.output(device)
    with timed("the monitoring stack as services"):
        await machine.output(in_turn([f"cd {CHECKOUT}", install, *stack]))
    with timed(f"{SCRAPES} scrapes of each program of Debian 12"):
        await units_run(machine)
    await healthy(machine, doctor)
    place_programs(machine)
    await machine.output(f"systemctl restart {' '.join(PROGRAMS)}", "root")
    with timed(f"{SCRAPES} scrapes of each program of {NEWER}"):
        await units_run(machine)
    await healthy(machine, doctor)
