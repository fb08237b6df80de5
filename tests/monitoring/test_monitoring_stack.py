"""The rendered stack: what the real programs say of it, and the right form of what the guide got wrong."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocket_agent.monitoring import render, validate, write
from pocket_agent.settings import Settings
from pocket_agent.settings.sections import SETTINGS
from tests.harness.tool import GENERATIONS
from tests.monitoring.stack_sample import (
    CASES,
    SECRETS,
    Case,
    checks,
    defaults,
    everything,
    everything_changed,
    settings_of,
    texts,
    two_servers,
    value,
)

UNCOMMENTED = (".json", ".ndjson")
LEFT = {
    "server.auth",
    "server.tls.enabled",
    "metrics.enabled",
    "monitoring.webhook_url_file",
    "monitoring.watchdog_url_file",
}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Each kind of settings."""
    (tmp_path / "second").mkdir()
    made: Case = request.param(tmp_path)
    return made


def yaml_of(text: str) -> Any:
    return yaml.safe_load(text)


@pytest.mark.parametrize("suite", GENERATIONS.values(), ids=list(GENERATIONS))
def test_the_real_programs_accept_their_files(case: Case, tmp_path: Path, suite: str) -> None:
    write(tmp_path / "stack", render(case.first, case.others))
    said = checks(tmp_path / "stack", suite)
    for name in (
        "promtool check config",
        "promtool check rules",
        "amtool check-config",
        "blackbox --config.check",
        "k6 inspect",
    ):
        assert said[name].status == "ok", said[name]
    assert not [one for one in said.values() if one.status == "failed"]


def test_everything_changed_leaves_no_setting_out(tmp_path: Path) -> None:
    chosen = everything(tmp_path)
    sections = ("server.", "metrics.", "monitoring.", "alerts.")
    assert chosen.keys() == {key for key in SETTINGS if key.startswith(sections)} - LEFT
    settings, plain = everything_changed(tmp_path), Settings()
    assert [key for key in chosen if SETTINGS[key].value(settings) == SETTINGS[key].value(plain)] == []


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    """In other processes, too, whatever their hash seed, language, time zone, mask and directory."""
    found = []
    for number, (zone, language) in enumerate((("UTC", "C.UTF-8"), ("Asia/Tokyo", "C"))):
        place = tmp_path / str(number)
        place.mkdir()
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TZ": zone, "LC_ALL": language}
        subprocess.run(
            [sys.executable, "-m", "pocket_agent.cli", "monitoring", "render", "stack"],
            cwd=place,
            env={**env, "PYTHONHASHSEED": str(number + 1)},
            umask=0o077 if number else 0o022,
            check=True,
            capture_output=True,
        )
        files = sorted(path for path in place.rglob("*") if path.is_file())
        found.append({str(path.relative_to(place)): path.read_bytes() for path in files})
    assert found[0] == found[1]
    assert len(found[0]) > 30


def test_each_file_says_what_it_is_and_where_it_goes(case: Case) -> None:
    files = case.files
    for path, text in files.items():
        if path == "README.md" or path.endswith(UNCOMMENTED):
            continue
        mark = "//" if path.endswith((".js", ".alloy")) else "#"
        head = text.split("\n\n", 1)[0].splitlines()
        assert all(line.startswith(f"{mark} ") for line in head), path
        assert head[1].startswith(f"{mark} Place: "), path
        assert head[2].startswith(f"{mark} Reload: "), path
        assert "pocket-agent monitoring render" in head[-1], path


def test_every_file_is_in_the_index(case: Case) -> None:
    files = case.files
    rows = re.findall(r"^\| `(\S+)` \| (.+) \| (.+) \| (.+) \|$", files["README.md"], re.MULTILINE)
    patterns = [path for path, *_ in rows]
    for path in files.keys() - {"README.md"}:
        assert any(fnmatch(path, pattern) for pattern in patterns), path
    for pattern in patterns:
        assert pattern.startswith("/") or any(fnmatch(path, pattern) for path in files), pattern


def test_no_secret_is_rendered(tmp_path: Path) -> None:
    files = texts(render(everything_changed(tmp_path)))
    whole = "\n".join(files.values())
    for key, secret in SECRETS.items():
        assert secret not in whole
        assert str(everything(tmp_path)[key]).rsplit("/", 1)[1].split("$")[0] in whole, key


def test_nothing_is_rendered_with_a_trailing_blank(case: Case) -> None:
    for path, text in case.files.items():
        assert text.endswith("\n"), path
        if not path.startswith("prometheus/"):  # expressions of rules may be broken anywhere
            assert [line for line in text.splitlines() if line != line.rstrip()] == [], path


def scrapes(case: Case) -> dict[str, Any]:
    """The scrape jobs by name."""
    config = yaml_of(case.files["prometheus/prometheus.yml"])
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_does_not_scrape_itself_in_the_servers_place(tmp_path: Path) -> None:
    jobs = scrapes(defaults(tmp_path))
    assert jobs["pocket-agent"]["static_configs"][0]["targets"] == ["127.0.0.1:9090"]
    assert jobs["prometheus"]["static_configs"][0]["targets"] == ["127.0.0.1:9091"]
    assert {"node", "alertmanager", "blackbox", "blackbox-http", "blackbox-exporter"} < jobs.keys()


def test_what_python_exports_of_itself_is_dropped_and_a_flood_of_series_refused(tmp_path: Path) -> None:
    job = scrapes(defaults(tmp_path))["pocket-agent"]
    (drop,) = job["metric_relabel_configs"]
    assert (drop["action"], drop["regex"]) == ("drop", "python_gc_.*|.*_created")
    assert job["sample_limit"] >= 500


def test_the_probes_have_targets_that_their_probers_understand(tmp_path: Path) -> None:
    jobs = scrapes(defaults(tmp_path))
    assert jobs["blackbox"]["static_configs"][0]["targets"] == ["127.0.0.1:8443"]
    assert jobs["blackbox-http"]["static_configs"][0]["targets"] == ["https://127.0.0.1:8443/livez"]
    modules = yaml_of(defaults(tmp_path).files["blackbox/blackbox.yml"])["modules"]
    assert set(modules) == {"websocket_check", "http_check"}
    assert modules["websocket_check"]["prober"] == "tcp"
    assert modules["websocket_check"]["tcp"]["query_response"][-1] == {"expect": "^HTTP/1.1 101 "}
    for module, section in (("websocket_check", "tcp"), ("http_check", "http")):
        tls = modules[module][section]["tls_config"]
        assert tls == {"insecure_skip_verify": False, "ca_file": str(tmp_path / "data" / "tls" / "cert.pem")}


@pytest.mark.parametrize(("interval", "pace"), [("15s", None), ("2s", None), ("500ms", "2s")])
def test_a_probe_has_time_left_when_scrapes_are_fast(tmp_path: Path, interval: str, pace: str | None) -> None:
    """The exporter subtracts half a second from the time that a scrape may take."""
    jobs = scrapes(Case(settings_of(tmp_path, monitoring__scrape_interval=interval)))
    for name in ("blackbox", "blackbox-http"):
        assert jobs[name].get("scrape_interval") == jobs[name].get("scrape_timeout") == pace
    assert "scrape_interval" not in jobs["pocket-agent"]


def test_a_certificate_of_ones_own_is_trusted_under_its_name(tmp_path: Path) -> None:
    modules = yaml_of(Case(everything_changed(tmp_path)).files["blackbox/blackbox.yml"])["modules"]
    assert modules["http_check"]["http"]["tls_config"] == {
        "insecure_skip_verify": False,
        "ca_file": str(tmp_path / "ca.pem"),
        "server_name": "agent.example.org",
    }
    assert "Host: agent.example.org\r" in [
        step.get("send") for step in modules["websocket_check"]["tcp"]["query_response"]
    ]


def test_each_of_two_servers_is_scraped_and_probed_as_itself(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    case = two_servers(tmp_path)
    jobs = scrapes(case)
    first, second = jobs["pocket-agent"], jobs["pocket-agent-2"]
    assert (
        first["relabel_configs"]
        == second["relabel_configs"]
        == [{"target_label": "job", "replacement": "pocket-agent"}]
    )
    assert "authorization" not in first
    assert second["authorization"] == {"credentials_file": str(tmp_path / "token")}
    assert second["static_configs"][0] == {
        "targets": ["127.0.0.1:29090"],
        "labels": {"service": "second", "environment": "production"},
    }
    assert jobs["blackbox-2"]["params"] == {"module": ["websocket_check_2"]}
    instances = [rule.get("replacement") for rule in jobs["blackbox-2"]["relabel_configs"]]
    assert "127.0.0.1:29090" in instances, "the instance under which its metrics are"
    modules = yaml_of(case.files["blackbox/blackbox.yml"])["modules"]
    assert modules["websocket_check"]["tcp"]["tls"] is False
    assert modules["websocket_check_2"]["tcp"]["tls"] is True
    assert {"systemd/pocket-agent.service", "systemd/pocket-agent-2.service"} < case.files.keys()
    one = Case(case.first).files
    rules = [path for path in one if path.startswith("prometheus/rules/")]
    assert rules
    assert all(case.files[path] == one[path] for path in rules), "the rules serve all"


def test_alerts_reach_whom_the_guide_says(tmp_path: Path) -> None:
    config = yaml_of(Case(everything_changed(tmp_path)).files["alertmanager/alertmanager.yml"])
    routes = config["route"]["routes"]
    assert [(route["matchers"], route["receiver"], route.get("continue", False)) for route in routes] == [
        (['alertname="Watchdog"'], "watchdog", False),
        (['alertname="InfoInhibitor"'], "none", False),
        (['severity="critical"'], "pagerduty", True),
        (['severity=~"critical|warning"'], "slack", False),
    ]
    receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
    (slack,) = receivers["slack"]["slack_configs"]
    assert slack["api_url_file"] == str(tmp_path / "slack $url")
    assert slack["send_resolved"] is True
    assert "\\n" not in slack["text"]
    assert slack["text"].count("\n") >= 3
    (pager,) = receivers["pagerduty"]["pagerduty_configs"]
    assert pager["routing_key_file"] == str(tmp_path / "pagerduty: key")
    assert pager["url"] == "http://127.0.0.1:18082/v2/enqueue"
    assert "service_key" not in pager
    assert receivers["slack"]["email_configs"][0]["auth_password_file"] == str(tmp_path / "mail %h password")
    assert receivers["watchdog"]["webhook_configs"][0]["url"] == "https://watchdog.example.org/ping/1"
    assert receivers["none"] == {"name": "none"}


def test_inhibition_never_covers_a_critical_alert(tmp_path: Path) -> None:
    rules = yaml_of(defaults(tmp_path).files["alertmanager/alertmanager.yml"])["inhibit_rules"]
    assert len(rules) == 3
    for rule in rules:
        (severity,) = [matcher for matcher in rule["target_matchers"] if matcher.startswith("severity=")]
        found = re.fullmatch(r'severity=~?"([a-z|]+)"', severity)
        assert found is not None
        assert set(found[1].split("|")) <= {"warning", "info"}


def test_webhooks_whose_addresses_are_secrets_are_named_by_their_files(tmp_path: Path) -> None:
    files = {f"monitoring__{name}_url_file": tmp_path / f"{name} secret" for name in ("webhook", "watchdog")}
    for file in files.values():
        file.write_text("https://hooks.example/secret-path\n")
    rendered = texts(render(settings_of(tmp_path, **files)))
    receivers = {found["name"]: found for found in yaml_of(rendered["alertmanager/alertmanager.yml"])["receivers"]}
    webhook = {"url_file": str(tmp_path / "webhook secret"), "send_resolved": True}
    assert receivers["default"]["webhook_configs"] == receivers["slack"]["webhook_configs"] == [webhook]
    watchdog = {"url_file": str(tmp_path / "watchdog secret"), "send_resolved": False}
    assert receivers["watchdog"]["webhook_configs"] == [watchdog]
    assert "secret-path" not in "".join(rendered.values())
    mounted = yaml_of(rendered["docker-compose.yml"])["services"]["alertmanager"]["volumes"]
    assert all(any(str(file) in str(mount) for mount in mounted) for file in files.values())


def test_an_alertmanager_that_is_too_old_for_them_is_told_of(tmp_path: Path) -> None:
    amtool = tmp_path / "amtool"
    amtool.write_text("#!/bin/sh\necho 'line 5: field url_file not found in type config.plain'; exit 1\n")
    amtool.chmod(0o755)
    settings = settings_of(tmp_path, monitoring__webhook_url_file="/run/secrets/webhook")
    write(tmp_path / "stack", render(settings))
    found = {one.name: one for one in validate(tmp_path / "stack", {"amtool": str(amtool)}.get)}
    assert found["amtool check-config"].status == "failed"
    assert "Alertmanager 0.26" in found["amtool check-config"].message


def test_without_receivers_nothing_is_sent_and_nothing_is_refused(tmp_path: Path) -> None:
    config = yaml_of(defaults(tmp_path).files["alertmanager/alertmanager.yml"])
    assert [sorted(receiver) for receiver in config["receivers"]] == [["name"]] * 5


@pytest.mark.parametrize(("smarthost", "required"), [("localhost:25", False), ("mail.example.org:587", True)])
def test_mail_to_another_machine_is_encrypted(tmp_path: Path, smarthost: str, required: bool) -> None:
    settings = settings_of(tmp_path, monitoring__email_to="me@example.org", monitoring__email_smarthost=smarthost)
    config: Any = value(texts(render(settings)), "alertmanager/alertmanager.yml")
    (mail,) = config["receivers"][0]["email_configs"]
    assert mail["require_tls"] is required


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, "https://127.0.0.1:8443/docs/runbooks/ServiceDown"),
        ({"server__public_url": "https://agent.example.org"}, "https://agent.example.org/docs/runbooks/ServiceDown"),
        ({"monitoring__runbook_url": "https://wiki.example.org/r/"}, "https://wiki.example.org/r/ServiceDown"),
    ],
)
def test_an_alert_links_to_a_page_that_its_reader_reaches(
    tmp_path: Path, changed: dict[str, object], address: str
) -> None:
    files = texts(render(settings_of(tmp_path, **changed)))
    rules = [text for path, text in files.items() if path.startswith("prometheus/rules/")]
    assert any(f"runbook_url: {address}\n" in text for text in rules)


def test_the_load_test_asks_this_server(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    script = two_servers(tmp_path).files["k6/load-test.js"]
    assert "__ENV.PA_URL || 'ws://127.0.0.1:8443/ws'" in script
    assert "thresholds" in script
    assert "__ENV.PA_TOKEN" in script


def test_grafana_reads_from_the_programs_of_the_stack(tmp_path: Path) -> None:
    files = Case(everything_changed(tmp_path)).files
    sources = yaml_of(files["grafana/provisioning/datasources/pocket-agent.yml"])["datasources"]
    assert [(source["type"], source["url"]) for source in sources] == [
        ("prometheus", "http://127.0.0.1:19091"),
        ("loki", "http://127.0.0.1:13100"),
        ("tempo", "http://127.0.0.1:13200"),
    ]
    assert len({source["uid"] for source in sources}) == 3
    assert sources[0]["jsonData"]["timeInterval"] == "2.5s"


def test_everything_but_the_server_listens_on_loopback(case: Case) -> None:
    for path, text in case.files.items():
        if path.endswith((".yml", ".yaml", ".service", ".json")) and not path.startswith("elk/logstash"):
            assert "0.0.0.0" not in text, path
