"""The runbooks: one for each alert, with all its parts, and nothing in them that is not there."""

import re
from pathlib import Path

import pytest

from pocket_agent.monitoring import all_alerts, render_runbook_index
from pocket_agent.settings import Settings
from pocket_agent.storage.database import _REASON
from tests.harness import manual
from tests.harness.tool import ROOT

FOLDER = ROOT / "docs" / "runbooks"
ALERTS = all_alerts(Settings())
NAMES = sorted({alert.name for alert in ALERTS})
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Fix"]


def text_of(name: str) -> str:
    """A runbook."""
    return (FOLDER / f"{name}.md").read_text("utf-8")


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted([*NAMES, "README"])


def test_the_index_names_all() -> None:
    text = render_runbook_index()
    assert all(f"[{name}]({name}.md)" in text for name in NAMES)
    assert text == text_of("README"), "run `make generate`"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_all_its_parts(name: str) -> None:
    text = text_of(name)
    assert text.startswith(f"# {name}\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(len(part.strip()) > 20 for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:])
    if name != "MetricLabelOverflow":  # there is nothing to look at but the figure
        assert manual.blocks(text, "sh"), "a command"
    assert manual.queries(text), "a query"
    assert max(map(len, re.sub(r"```.*?```|^\|.*$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_when_its_alert_fires(name: str) -> None:
    said = text_of(name).splitlines()[2]
    cases = dict.fromkeys(f"`{alert.severity}`, after {alert.hold}" for alert in ALERTS if alert.name == name)
    assert said == "; ".join(cases) + "."


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_what_a_page_names_is_there(name: str) -> None:
    text = text_of(name)
    assert manual.wrong_commands(text) == []
    assert manual.unknown_settings(text) == []
    assert manual.unknown_log(text) == []
    assert manual.broken_links(FOLDER / f"{name}.md") == []


def test_each_query_is_understood_and_asks_for_what_there_is(tmp_path: Path) -> None:
    queries = [query for name in NAMES for query in manual.queries(text_of(name))]
    assert len(queries) > 60
    assert manual.wrong_queries(queries, tmp_path) == []


def test_each_threshold_that_a_page_tells_is_the_default() -> None:
    said = {
        "ClaudeCostBudget": "90 % (`alerts.limit_ratio`)",
        "ConnectionsRejected": "20 (`alerts.rejected_connections`)",
        "DiskSpaceLow": "1 GiB free (`alerts.disk_free`)",
        "EventLoopLagHigh": "250 ms late or more\n(`alerts.loop_lag`)",
        "ExecutionsFailing": "20 % (`alerts.failed_ratio`)",
        "FileDescriptorsHigh": "90 % (`alerts.limit_ratio`)",
        "HighErrorRate": "0.05 faults a second (`alerts.error_rate`)",
        "HighMemoryUsage": "90 % (`alerts.memory_ratio`)",
        "PocketAgentFlapping": "at least three times (`alerts.restarts`)",
        "SlowConsumersDropped": "five connections (`alerts.dropped_clients`)",
        "SlowExecutions": "two minutes or more\n(`alerts.slow_execution`)",
        "TLSCertificateExpiring": "14 days (`alerts.certificate`)",
        "TooManyConnections": "90 % (`alerts.limit_ratio`)",
    }
    alerts = Settings().alerts
    assert {name: text in text_of(name) for name, text in said.items()} == dict.fromkeys(said, True)
    assert (alerts.limit_ratio, alerts.memory_ratio, alerts.failed_ratio) == (0.9, 0.9, 0.2)
    assert (alerts.error_rate, alerts.error_ratio, alerts.loop_lag) == (0.05, 0.05, 0.25)
    assert (alerts.rejected_connections, alerts.dropped_clients, alerts.restarts) == (20, 5, 3)
    assert (alerts.disk_free, alerts.certificate, alerts.slow_execution) == (2**30, 14 * 86400, 120)


def test_the_reasons_of_a_refused_write_are_those_that_the_store_gives() -> None:
    rows = [line for line in text_of("StorageErrors").splitlines() if line.startswith("| `")]
    reasons = [re.findall(r"`([^`]+)`", row)[0] for row in rows]
    messages = " ".join(message for _, message in _REASON.values())
    assert len(reasons) == 6
    assert [reason for reason in reasons if reason not in messages] == []


def test_the_checks_themselves_see_mistakes(tmp_path: Path) -> None:
    text = (
        "`pocket-agent dctor` and `pocket-agent doctor --alert`, `pocket-agent monitoring down DIR`, `limits.memry`, "
    )
    assert len(manual.wrong_commands(text)) == 3
    assert manual.unknown_settings(text) == ["limits.memry"]
    assert manual.unknown_settings("`alerts.objectives`, prometheus.yml, `storage.max_size`, pocket-agent.db") == []
    assert manual.unknown_log('select(.msg == "server read") | .fields.reasn') == ["server read", "reasn"]
    links = "[a](ServiceDown.md#meaning) [b](ServiceDown.md#nothing) [c](None.md) [d](https://example.org)"
    assert manual.broken_links(FOLDER / "README.md", text=links) == ["ServiceDown.md#nothing", "None.md"]
    good = ['sum by (code) (rate(pocket_agent_errors_total{code=~"FILE_OPERATION|FORBIDDEN"}[5m])) / 2 > 0']
    assert manual.wrong_queries(good, tmp_path) == []
    for bad in (
        "pocket_agent_error_total",
        'pocket_agent_errors_total{cod="FORBIDDEN"}',
        'pocket_agent_errors_total{code="NONE"}',
        "rate(pocket_agent_errors_total[5m]",
    ):
        assert manual.wrong_queries([bad], tmp_path), bad
