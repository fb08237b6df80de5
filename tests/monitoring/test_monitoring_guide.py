"""docs/monitoring.md: every command, setting, file, link and name in it is there."""

import re

from pocket_agent.monitoring import render
from pocket_agent.monitoring.targets import FIXED_PORTS
from pocket_agent.settings import Settings
from tests.harness import manual
from tests.harness.tool import ROOT
from tests.monitoring.doctor.test_doctor_stack import NAMES

GUIDE = ROOT / "docs" / "monitoring.md"
TEXT = GUIDE.read_text("utf-8")
ORDER = [
    "Overview", "Metrics collection", "Logging strategy", "Health monitoring", "Alerting", "Dashboards",
    "Performance monitoring", "Troubleshooting", "What the tests do not run",
]  # fmt: skip
SOMETIMES = {
    "server revision",
    "readiness",
    "telemetry",
    "label values",
    "receiver file",
    "claude login",
    "alert delivery",
    "alert path",
    "inhibitions",
    "project directories",
    "prometheus flags",
}
"""Lines of doctor that a healthy stack does not have."""


def test_its_parts_are_in_the_order_of_the_guide() -> None:
    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE) == ORDER


def test_what_it_names_is_there() -> None:
    assert manual.wrong_commands(TEXT) == []
    assert manual.unknown_settings(TEXT) == []
    assert manual.unknown_log(TEXT) == []
    assert manual.broken_links(GUIDE) == []


def test_each_file_that_it_names_is_rendered() -> None:
    files = {file.path for file in render(Settings())}
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    named = set(re.findall(r"(?<![\w/])stack/([\w./*-]*[\w*])", TEXT))
    assert len(named) > 20
    for name in named:
        pattern = re.compile(re.escape(name).replace(r"\*", "[^/]*"))
        assert name in folders or any(pattern.fullmatch(path) for path in files | folders), name


def test_its_settings_can_be_used() -> None:
    for block in manual.blocks(TEXT, "yaml"):
        assert manual.refused_settings(block.text) == ""


def test_it_tells_of_every_port() -> None:
    settings = Settings()
    rows = re.findall(r"^\| (\d+) \| .* \| `([a-z_.]+)` \|$", TEXT, re.MULTILINE)
    assert {key: int(port) for port, key in rows} == {
        "server.port": settings.server.port,
        "server.plain_port": settings.server.plain_port,
        "metrics.port": settings.metrics.port,
        **{
            f"monitoring.{name}": value
            for name, value in settings.monitoring.model_dump().items()
            if name.endswith("_port")
        },
    }
    fixed = re.findall(r"^\| (\d+) \| .* \| fixed \|$", TEXT, re.MULTILINE)
    assert sorted(map(int, fixed)) == sorted(port for _, port in FIXED_PORTS.values())


def test_it_installs_each_program_before_it_runs_it() -> None:
    shell = "".join(block.text for block in manual.blocks(TEXT, "sh"))
    used = {
        "prometheus": "monitoring check stack",
        "jq": "| jq ",
        "loki": "stack/systemd/loki.service",
        "alloy": "stack/systemd/alloy.service",
        "grafana": "stack/systemd/grafana-server.service.d/",
        "tempo_": "stack/systemd/tempo.service",
        "otelcol_": "stack/systemd/otelcol.service",
    }
    for name, use in used.items():
        install = re.search(rf"^sudo apt-get install .*(?<![\w-]){name}", shell, re.MULTILINE)
        assert install is not None, name
        assert use in shell[install.end() :], name
        assert use not in shell[: install.start()], name
    assert "sudo apt-get install k6\n" in shell


def test_it_explains_every_line_of_doctor() -> None:
    table = TEXT[TEXT.index("| line | what it checks |") :]
    first = [row.split("|")[1] for row in table[: table.index("\n\n")].splitlines()[2:]]
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    lines = {"health: ..." if name.startswith("health: ") else name for name in NAMES}
    assert named == lines | SOMETIMES


def test_it_is_found_from_the_readme() -> None:
    assert "(docs/monitoring.md)" in (ROOT / "README.md").read_text("utf-8")
