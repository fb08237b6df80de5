"""pocket_agent.cli.doctor: what people and programs get, and the exit status."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from pocket_agent import __version__
from pocket_agent.cli import doctor
from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring.doctor.result import Result, failed, ok, skipped, warning
from pocket_agent.settings import LoadedSettings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess, free_port, write_standin

LONG = "chmod -R go= /a/very/long/path/that/does/not/fit/into/one/line/of/a/terminal/of/eighty/columns/at/all"
FINDINGS = [
    ok("settings", "no file"),
    warning("data directory mode", "can be read by others", LONG),
    skipped("traces", "are off"),
    failed("alert delivery", "it \x1b[2J [red]failed[/red]\nin two lines", "See its log."),
]


def read() -> LoadedSettings:
    """The defaults."""
    return load_settings(config=None, environ={"HOME": "/home/ada"}, flags={})


def shown(monkeypatch: pytest.MonkeyPatch, findings: list[Result], **options: Any) -> tuple[str, int]:
    """What is printed, and the exit status."""

    async def examine(*_: object, **__: object) -> list[Result]:
        return findings

    monkeypatch.setattr(doctor, "examine", examine)
    out = io.StringIO()
    console = Console(file=out, width=80, **options)
    try:
        doctor.run_doctor(read, {}, alerts=False, as_json=False, console=console)
    except typer.Exit as ended:
        return out.getvalue(), ended.exit_code
    return out.getvalue(), 0


def test_people_get_a_table_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    text, code = shown(monkeypatch, FINDINGS, force_terminal=True, color_system=None)
    assert code == 1
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ok", "settings", "no", "file"]
    assert "".join(LONG.split()) in "".join(text.split()), "nothing is cut"
    assert lines[-1] == "1 failed, 1 warning, 1 ok, 1 skipped"


def test_where_there_is_no_terminal_no_line_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = shown(monkeypatch, FINDINGS)
    assert f"fix: {LONG}\n" in text
    words = ("no file", "can be", "fix:")
    columns = [line.index(word) for line in text.splitlines() for word in words if word in line]
    assert len(columns) == 4
    assert len(set(columns)) == 1


def test_without_colours_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = shown(monkeypatch, FINDINGS, force_terminal=True, no_color=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert {"ok", "warning", "skipped", "failed"} <= {line.split(" ")[0] for line in plain.splitlines()}
    assert "fix: See its log." in plain


def test_what_other_programs_say_does_not_reach_the_terminal_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = shown(monkeypatch, FINDINGS)
    assert "\x1b" not in text
    assert "[red]failed[/red]" in text


def test_only_a_failure_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, FINDINGS[:3])[1] == 0
    assert shown(monkeypatch, [])[1] == 0


def test_settings_that_cannot_be_used_are_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> LoadedSettings:
        raise ConfigurationError("The settings cannot be used:\n  config.yaml:3: server.prot: unknown setting")

    with pytest.raises(typer.Exit):
        doctor.run_doctor(refuse, {}, alerts=False, as_json=True, console=Console())
    told = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    assert (told["status"], finding["name"], finding["status"]) == ("failed", "settings", "failed")
    assert "config.yaml:3: server.prot" in finding["message"]
    assert "docs/settings.md" in finding["fix"]


def run(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`pocket-agent doctor`, as somebody types it."""
    command = [sys.executable, "-m", "pocket_agent.cli", "doctor", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)


async def test_the_command_itself(tmp_path: Path) -> None:
    """A server without a stack is no failure; a server that is gone is one."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
    }
    server = ServerProcess(tmp_path, env=env)
    config = tmp_path / "config.yaml"
    tls = {"enabled": False}
    config.write_text(json.dumps({"server": {"port": server.port, "tls": tls}}), "utf-8")
    arguments = ["--config", str(config), "--data-dir", str(server.data_dir)]
    try:
        await server.start()
        done = run(*arguments, "--json", env=env)
        told = json.loads(done.stdout)
        statuses = {finding["name"]: finding["status"] for finding in told["findings"]}
        assert (done.returncode, done.stderr) == (0, ""), done
        assert told["version"] == __version__
        assert statuses["server"] == statuses["metrics"] == statuses["claude"] == "ok"
        assert list(told["findings"][0]) == ["name", "status", "message", "fix"]
        done = run(*arguments, env={**env, "LC_ALL": "C", "COLUMNS": "20"})
        assert done.returncode == 0
        assert f" {config}; " in done.stdout, "a path can be copied"
    finally:
        await server.clean_up()
    done = run(*arguments, env=env)
    assert (done.returncode, done.stderr) == (1, "")
    assert "failed   server " in done.stdout


def test_a_settings_file_with_a_mistake(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("server:\n  prot: 1\n", "utf-8")
    done = run("--config", str(config), env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "")
    assert "config.yaml:2" in done.stdout
    assert "server.prot " in done.stdout
