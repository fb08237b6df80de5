"""The stack in containers: the files by the Compose Specification, and that their parts fit together.

There is no container engine here, so what the images do with their flags is not tried.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.monitoring import render, write
from tests.harness.compose import faults, mounts, read_compose
from tests.monitoring.stack_sample import CASES, Case, changed, defaults, settings_of, two_servers


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    (tmp_path / "second").mkdir()
    made: Case = request.param(tmp_path)
    return made


def services(case: Case, path: str = "docker-compose.yml") -> dict[str, Any]:
    found: dict[str, Any] = read_compose(case.files[path])["services"]
    return found


def bound(service: dict[str, Any]) -> dict[str, str]:
    """What of the machine is mounted, by its place in the container."""
    return {mount["target"]: mount["source"] for mount in mounts(service) if mount["type"] == "bind"}


def test_the_files_are_of_the_specification_and_sound(case: Case) -> None:
    for path in ("docker-compose.yml", "elk/docker-compose.yml"):
        assert list(faults(read_compose(case.files[path]))) == [], path


def test_all_of_the_stack_is_in_it(tmp_path: Path) -> None:
    assert services(defaults(tmp_path)).keys() == {
        "prometheus",
        "alertmanager",
        "node-exporter",
        "blackbox-exporter",
        "grafana",
        "loki",
        "alloy",
        "tempo",
        "otel-collector",
    }
    assert services(defaults(tmp_path), "elk/docker-compose.yml").keys() == {
        "elasticsearch",
        "logstash",
        "kibana",
        "setup",
    }


def test_each_program_gets_the_rendered_file_that_it_is_told_to_read(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    write(folder, render(case.first, case.others))
    for name, service in services(case).items():
        named = [word.split("=", 1)[-1] for word in service.get("command", []) if re.search(r"\.(ya?ml|alloy)$", word)]
        for place in named:
            target = next(target for target in bound(service) if place.startswith(f"{target}/"))
            assert (folder / bound(service)[target] / place.removeprefix(f"{target}/")).is_file(), (name, place)
        for source in bound(service).values():
            assert not source.startswith("./") or (folder / source).is_dir(), source


def test_everything_listens_on_loopback_at_the_ports_of_the_settings(tmp_path: Path) -> None:
    found = services(changed(tmp_path))
    for name, port in (
        ("prometheus", 19091),
        ("alertmanager", 19093),
        ("node-exporter", 19100),
        ("blackbox-exporter", 19115),
    ):
        assert f"--web.listen-address=127.0.0.1:{port}" in found[name]["command"]
    assert found["grafana"]["environment"]["GF_SERVER_HTTP_PORT"] == "13000"
    assert found["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_secrets_are_mounted_for_who_needs_them_and_nobody_else(tmp_path: Path) -> None:
    found = services(changed(tmp_path))
    doubled = str(tmp_path).replace("$", "$$")
    wanted = {
        "prometheus": {f"{doubled}/metrics token"},
        "alertmanager": {f"{doubled}/slack $$url", f"{doubled}/pagerduty: key", f"{doubled}/mail %h password"},
        "blackbox-exporter": {f"{doubled}/ca.pem"},
    }
    for name, service in found.items():
        mounted = {target for target in bound(service) if target.startswith(doubled)}
        assert mounted == wanted.get(name, {f"{doubled}/log dir"} if name == "alloy" else set()), name
        for mount in mounts(service):
            if mount["target"].startswith(doubled):
                assert mount["read_only"] and mount["bind"] == {"create_host_path": False}


def test_a_renewed_certificate_is_seen(tmp_path: Path) -> None:
    """The directory is mounted: a renewed certificate is another file of the same name."""
    mounted = bound(services(defaults(tmp_path))["blackbox-exporter"])
    assert str(tmp_path / "data" / "tls") in mounted
    assert str(tmp_path / "data") not in mounted


def test_two_servers_are_both_reached(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    found = services(two_servers(tmp_path))
    assert str(tmp_path / "token") in bound(found["prometheus"])
    assert str(tmp_path / "second" / "data" / "tls") in bound(found["blackbox-exporter"])
    alloy = bound(found["alloy"])
    assert str(tmp_path) in alloy, "the log file of the first"
    assert "/run/log/journal" in alloy, "the journal for the second"


def test_a_log_shipper_of_files_may_read_them_and_of_the_journal_nothing_more(tmp_path: Path) -> None:
    assert "cap_add" not in services(defaults(tmp_path))["alloy"]
    file = Case(settings_of(tmp_path, logging__output="/var/log/pocket-agent/agent.log"))
    assert services(file)["alloy"]["cap_add"] == ["DAC_READ_SEARCH"]
    assert "/run/log/journal" not in bound(services(file)["alloy"])


def test_elastic_asks_for_passwords(tmp_path: Path) -> None:
    found = services(defaults(tmp_path), "elk/docker-compose.yml")
    search = found["elasticsearch"]["environment"]
    assert search["xpack.security.enabled"] == "true"
    assert search["ELASTIC_PASSWORD"].startswith("${ELASTIC_PASSWORD:?")
    assert found["kibana"]["environment"]["ELASTICSEARCH_USERNAME"] == "kibana_system"
    assert found["setup"]["restart"] == "no"
