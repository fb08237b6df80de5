"""`pocket-agent monitoring` as it is called."""

import json
import os
import sys
from pathlib import Path

import pytest

from pocket_agent.cli.main import main
from pocket_agent.monitoring import validate
from tests.harness.tool import require_tool


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings and no programs but the test's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Call `pocket-agent monitoring` with these arguments; its exit status."""
    monkeypatch.setattr(sys, "argv", ["pocket-agent", "monitoring", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def program(name: str, script: str = "exit 0") -> None:
    """A program that is installed."""
    place = Path("bin") / name
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


def test_render_tells_what_became_of_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "render", "stack") == 0
    told = capsys.readouterr().out
    count = len([path for path in Path("stack").rglob("*") if path.is_file()]) - 1
    assert told == f"stack: {count} files written, 0 unchanged, 0 removed\n"
    Path("stack/loki/config.yml").write_text("mine\n")
    Path("stack/tempo/config.yml").unlink()
    assert call(monkeypatch, "render", "stack") == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0] == f"stack: 1 files written, {count - 2} unchanged, 0 removed"
    assert told.splitlines()[-1] == "  loki/config.yml"
    assert "--force" in told
    assert call(monkeypatch, "render", "stack", "--force") == 0
    assert Path("stack/loki/config.yml").read_text() != "mine\n"


def test_render_takes_the_servers_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("agent.yaml").write_text("metrics: {port: 19090}\n")
    monkeypatch.setenv("PA_MONITORING_PROMETHEUS_PORT", "19091")
    assert call(monkeypatch, "render", "stack", "--config=agent.yaml", "--data-dir=data") == 0
    scraped = Path("stack/prometheus/prometheus.yml").read_text()
    assert "127.0.0.1:19090" in scraped
    assert "127.0.0.1:19091" in scraped
    assert str(Path("data/tls/cert.pem").absolute()) in Path("stack/blackbox/blackbox.yml").read_text()
    unit = Path("stack/systemd/pocket-agent.service").read_text()
    assert f"serve --config {Path('agent.yaml').absolute()}\n" in unit


def test_render_takes_further_servers_whose_settings_the_environment_does_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("two.yaml").write_text(
        "server: {port: 28443, plain_port: off}\nmetrics: {port: 29090}\ndata: {dir: two}\nlogging: {output: two.log}\n"
    )
    Path("three.yaml").write_text(
        "server: {port: 38443, plain_port: off}\nmetrics: {port: 39090}\ndata: {dir: three}\n"
    )
    monkeypatch.setenv("PA_SERVER_PORT", "18443")
    assert call(monkeypatch, "render", "stack", "--also=two.yaml", "--also=three.yaml") == 0
    scraped = Path("stack/prometheus/prometheus.yml").read_text()
    for port in (9090, 29090, 39090, 18443, 28443, 38443):
        assert f"127.0.0.1:{port}" in scraped
    assert (
        f"serve --config {Path('three.yaml').absolute()}\n" in Path("stack/systemd/pocket-agent-3.service").read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["render", "stack", "--config=missing.yaml"], "missing.yaml"),
        (["render", "stack", "--also=missing.yaml"], "missing.yaml"),
        (["render", "file/stack"], "cannot be written into file/stack"),
        (["up", "nowhere"], "pocket-agent monitoring render"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    Path("file").write_text("")
    assert call(monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pocket-agent: ")
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_nothing_is_written_when_the_settings_do_not_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PA_MONITORING_PROMETHEUS_PORT", "9090")
    assert call(monkeypatch, "render", "stack") == 1
    error = capsys.readouterr().err
    assert "metrics.port is 9090 and monitoring.prometheus_port is 9090" in error
    assert not Path("stack").exists()


def test_check_asks_who_is_installed_and_names_who_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "render", "stack")
    program("promtool", 'echo "$@" > promtool.said')
    program("prometheus-blackbox-exporter")
    capsys.readouterr()
    assert call(monkeypatch, "check", "stack") == 0
    told = {line[9:34].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert told["promtool check config"].startswith("ok ")
    assert "prometheus/prometheus.yml" in told["promtool check config"]
    assert told["blackbox --config.check"].startswith("ok ")
    assert told["amtool check-config"].startswith("skipped ")
    assert "amtool is not installed" in told["amtool check-config"]
    assert "monitoring.promtail is off" in told["promtail -check-syntax"]


def test_check_asks_every_program_and_none_for_the_projects_own_tests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PA_MONITORING_PROMTAIL", "true")
    call(monkeypatch, "render", "stack")
    for name in (
        "promtool", "amtool", "blackbox_exporter", "k6", "loki", "tempo", "alloy", "promtail", "otelcol"
    ):  # fmt: skip
        program(name, 'echo "${0##*/} $@" >> ../asked')
    capsys.readouterr()
    assert call(monkeypatch, "check", "stack") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"ok"}
    asked = Path("asked").read_text().splitlines()
    stack = Path("stack").absolute()
    assert f"tempo -config.verify -config.file={stack}/tempo/config.yml" in asked
    assert f"loki -verify-config -config.file={stack}/loki/config.yml" in asked
    assert f"otelcol validate --config={stack}/otel-collector/config.yaml" in asked
    assert not [line for line in asked if "test rules" in line]


def test_check_fails_with_what_the_program_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "render", "stack")
    program("amtool", 'echo "[red]no such receiver[/red]" >&2; exit 1')
    program("promtool", "exit 7")
    program("loki", "kill -9 $$")
    program("tempo", r"printf '\033]0;title\007\033[2J\tbad\n'; exit 1")
    capsys.readouterr()
    assert call(monkeypatch, "check", "stack") == 1
    out = capsys.readouterr().out
    assert "[red]no such receiver[/red]" in out, "what programs say is no markup"
    assert "ended with status 7" in out
    assert "ended with status -9" in out
    assert "?]0;title??[2J  " in out, "control sequences are not for the terminal"


def test_check_does_not_wait_for_a_child_that_a_program_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "render", "stack")
    os.mkfifo("held")
    program("amtool", "read line < ../held & echo wrong; exit 1")
    monkeypatch.setattr(sys.modules["pocket_agent.monitoring.validate"], "_SECONDS", 5.0)
    assert call(monkeypatch, "check", "stack") == 1
    Path("held").write_text("\n")  # the child ends
    assert "wrong" in capsys.readouterr().out


def test_check_tells_programs_in_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "render", "stack")
    program("promtool", "exit 1")
    capsys.readouterr()
    assert call(monkeypatch, "check", "stack", "--json") == 1
    found = {one["name"]: one["status"] for one in json.loads(capsys.readouterr().out)}
    assert found["promtool check rules"] == "failed"
    assert found["amtool check-config"] == "skipped"


def test_check_of_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check", "nowhere") == 1
    assert "write one: pocket-agent monitoring render nowhere" in capsys.readouterr().err


def test_a_broken_file_is_found_by_the_real_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "render", "stack")
    tools = {name: str(require_tool(name)) for name in ("promtool", "amtool", "prometheus-blackbox-exporter", "k6")}
    broken = {
        "promtool check config": ("prometheus/prometheus.yml", "scrape_interval: 15s", "scrape_interval: soon"),
        "promtool check rules": ("prometheus/rules/pocket-agent-slo.yml", "expr: ", "expr: sum(("),
        "amtool check-config": ("alertmanager/alertmanager.yml", "receiver: slack", "receiver: nobody"),
        "blackbox --config.check": ("blackbox/blackbox.yml", "prober: tcp", "probe: tcp"),
        "k6 inspect": ("k6/load-test.js", "export const options = {", "export const options = {{"),
    }
    for path, before, after in broken.values():
        place = Path("stack") / path
        text = place.read_text()
        assert before in text
        place.write_text(text.replace(before, after))
    found = {one.name: one for one in validate(Path("stack"), tools.get)}
    assert {name for name, one in found.items() if one.status == "failed"} == broken.keys()
    assert all(found[name].message for name in broken)


def test_up_without_programs_says_whose_packages_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "render", "stack")
    capsys.readouterr()
    assert call(monkeypatch, "up", "stack") == 1
    error = capsys.readouterr().err
    assert "alertmanager: not installed (Debian: prometheus-alertmanager)" in error
    assert error.endswith("pocket-agent: Nothing of the stack is installed here.\n")
