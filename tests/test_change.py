"""The table "What a change touches" of docs/architecture.md: each change is made in a copy, in the files it names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.harness.server import ServerProcess, started, write_standin
from tests.harness.tool import ROOT, require_tool

PACKAGE: Final = "src/pocket_agent"


class Copy:
    """A copy of the project in which a change is made."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "copy"
        ignored = shutil.ignore_patterns("__pycache__", "web")
        for name in (PACKAGE, "scripts", "docs", "webui/src/wire"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(self.root / "src")}

    def change(self, name: str, before: str, text: str) -> None:
        """Put text into a file, before the first occurrence of `before`."""
        path = self.root / name
        old = path.read_text("utf-8")
        assert before in old, f"{name} has no {before!r}"
        path.write_text(old.replace(before, text + before, 1), "utf-8")

    def run(self, *command: str) -> str:
        """The output of a command of the copy, which has to succeed."""
        done = subprocess.run(
            [sys.executable, *command], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


async def test_a_request_is_a_class_and_a_method(copy: Copy, tmp_path: Path) -> None:
    copy.change(
        f"{PACKAGE}/protocol/requests.py",
        "REQUESTS: Final",
        '''class ProjectCountData(Struct, frozen=True):
    """Reply to `project_count`."""

    total: int


@_request(ProjectCountData, Need.WATCH, "project", repeatable=True)
class ProjectCount(Request, frozen=True):
    """Count the projects."""


''',
    )
    copy.change(
        f"{PACKAGE}/server/handlers.py",
        "    async def on_project_list",
        """    async def on_project_count(self, call: Call, request: requests.ProjectCount) -> Reply:
        return requests.ProjectCountData(len(self._states(call.connection)))

""",
    )
    copy.run("scripts/generate.py")
    assert "project_count" in (copy.root / "docs/protocol.md").read_text("utf-8")
    assert '"project_count"' in (copy.root / "webui/src/wire/generated.ts").read_text("utf-8")
    environment = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PYTHONPATH": copy.environment["PYTHONPATH"]}
    prepared = ServerProcess(tmp_path, env=environment)
    prepared.wrapper = ["env"]  # a process of its own, that imports the copy
    async with started(prepared) as server, server.client() as client:
        frame = await client.request("project_count")
        assert (frame.type, frame.data) == ("project_count", {"total": 0})


def test_a_setting_is_a_field_and_its_use(copy: Copy) -> None:
    copy.change(
        f"{PACKAGE}/settings/sections.py",
        "    allowed_roots: ",
        '    counted: Switch = setting(True, "Count the projects.")\n',
    )
    copy.run("scripts/generate.py")
    assert "projects.counted" in (copy.root / "docs/settings.md").read_text("utf-8")
    copy.environment["PA_PROJECTS_COUNTED"] = "off"
    settings = copy.run("-m", "pocket_agent.cli", "config", "--json")
    assert json.loads(settings)["settings"]["projects.counted"]["value"] is False


def test_an_alert_is_a_rule_a_test_and_a_runbook(copy: Copy) -> None:
    copy.change(
        f"{PACKAGE}/monitoring/templates/prometheus/rules/pocket-agent-fault.yml",
        "- alert: StorageErrors",
        """- alert: ServerRestarted
  expr: changes(pocket_agent_process_start_time_seconds[10m]) > 0
  for: 0s
  severity: info
  summary: The server restarted
  description: "{{ $labels.instance }} restarted."
  meaning: The server restarted within the last 10 minutes.

""",
    )
    tests = copy.root / PACKAGE / "monitoring/templates/prometheus/tests"
    (tests / "ServerRestarted.yml").write_text(
        """# Tests of the rules: ServerRestarted.
# Place: next to rules/, wherever that is; Prometheus does not read it
# Reload: nothing to reload: promtool test rules FILE

rule_files:
- ../rules/pocket-agent-fault.yml
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - series: 'pocket_agent_process_start_time_seconds{job="pocket-agent", instance="one.example:9090"}'
    values: 1x5 9x15
  alert_rule_test:
  - {eval_time: 5m, alertname: ServerRestarted, exp_alerts: []}
  - eval_time: 6m
    alertname: ServerRestarted
    exp_alerts:
    - exp_labels: {job: pocket-agent, instance: 'one.example:9090', service: pocket-agent, severity: info}
      exp_annotations:
        summary: The server restarted
        description: one.example:9090 restarted.
        runbook_url: ${runbooks}/ServerRestarted
""",
        "utf-8",
    )
    (copy.root / "docs/runbooks/ServerRestarted.md").write_text("# ServerRestarted\n", "utf-8")
    copy.run("scripts/generate.py")
    assert "ServerRestarted" in (copy.root / "docs/runbooks/README.md").read_text("utf-8")
    copy.run("-m", "pocket_agent.cli", "monitoring", "render", "rendered")
    (rendered,) = (copy.root / "rendered").rglob("tests/ServerRestarted.yml")
    done = subprocess.run(
        [require_tool("promtool"), "test", "rules", rendered], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_metric_of_a_new_event_is_an_event_a_metric_and_a_panel(copy: Copy) -> None:
    copy.change(
        f"{PACKAGE}/events.py",
        '@logged("warning", "slow consumer dropped")',
        '''@logged("info", "page printed")
class PagePrinted(Event):
    """A page was printed on `paper`."""

    paper: str


''',
    )
    copy.change(
        f"{PACKAGE}/observability/catalogue.py",
        "EVENT_LOOP_LAG: Final",
        """PAGES_PRINTED: Final = Metric(
    PREFIX + "pages_printed_total", "counter", "Printed pages.", {"paper": ("A4", "letter", OTHER)}, event=PagePrinted
)
""",
    )
    copy.change(f"{PACKAGE}/observability/catalogue.py", "REJECTIONS, ", "PagePrinted, ")
    copy.change(
        f"{PACKAGE}/monitoring/templates/grafana/dashboards/internals.yml",
        "    - title: Frames received by type",
        """    - title: Pages printed per hour
      description: Pages printed in the last hour.
      unit: short
      queries:
        '{{paper}}': increase(pocket_agent_pages_printed_total{instance="$instance", job="$job"}[1h])
""",
    )
    copy.run("scripts/generate.py")
    assert "pocket_agent_pages_printed_total" in (copy.root / "docs/metrics.md").read_text("utf-8")
    assert "Pages printed per hour" in (copy.root / "docs/dashboards.md").read_text("utf-8")
    scrape = copy.run(
        "-c",
        """from prometheus_client import generate_latest
from pocket_agent.events import PagePrinted
from pocket_agent.observability.metrics import MetricObserver
observer = MetricObserver()
for paper in ("A4", "A4", "silk"):
    observer.emit(PagePrinted(paper))
print(generate_latest(observer.registry).decode())""",
    )
    assert 'pages_printed_total{paper="A4"} 2.0' in scrape
    assert 'pages_printed_total{paper="other"} 1.0' in scrape


def test_a_message_of_the_cli_is_a_field_and_a_case(copy: Copy) -> None:
    copy.change(f"{PACKAGE}/claude/stream.py", "    reason: str | None = None", "    new_mode: str | None = None\n")
    copy.change(
        f"{PACKAGE}/conversation/ingest.py",
        '        elif message.type == "system":',
        """        elif message.type == "mode_chosen":
            self._changed(permission_mode=message.new_mode)
""",
    )
    copy.environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    mode = copy.run(
        "-c",
        """from tests.conversation.sample import line
from tests.conversation.test_conversation_ingest import take
print(take(line(type="mode_chosen", new_mode="plan")).account.work.permission_mode)""",
    )
    assert mode == "plan\n"
