"""The units, as systemd's own verifier reads them, and what they promise."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pocket_agent.monitoring import render
from tests.harness.absence import absent
from tests.harness.tool import ROOT, require_tool
from tests.monitoring.stack_sample import CASES, Case, defaults, everything_changed, settings_of, texts, two_servers

UNITS = Path("etc/systemd/system")
GRAFANA = "[Service]\nExecStart=/usr/sbin/grafana\n[Install]\nWantedBy=multi-user.target\n"
"""A stand-in for the unit of Grafana's package, which ours adds to."""
AGENTS = ("pocket-agent", "pocket-agent-2")


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def units(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The files of `systemd/` by name."""
    (tmp_path / "second").mkdir()
    case: Case = request.param(tmp_path)
    return units_of(case)


def units_of(case: Case) -> dict[str, str]:
    return {path.removeprefix("systemd/"): text for path, text in case.files.items() if path.startswith("systemd/")}


def lines(unit: str, key: str) -> list[str]:
    """The values of a key."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def systemd_units() -> Path:
    """The units that come with systemd, installed or unpacked."""
    places = (ROOT / ".tools" / "lib" / "systemd" / "system", Path("/lib/systemd/system"))
    found = next((place for place in places if (place / "sysinit.target").exists()), None)
    if found is None:
        absent("the units of systemd")
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; the unpacked one finds its private library."""
    program = require_tool("systemd-analyze")
    libraries = ":".join(str(path) for path in (ROOT / ".tools").glob("usr/lib/*/systemd"))
    return subprocess.run(
        [str(program), *arguments],
        env={
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": libraries,
            "HOME": "/nonexistent",
            "XDG_RUNTIME_DIR": "/tmp",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def make_root(folder: Path, files: Mapping[str, str]) -> Path:
    """A tree as the machine's would be with these units and, in place of each program that they run, a stand-in."""
    root = folder / "root"
    shutil.copytree(systemd_units(), root / "lib" / "systemd" / "system", symlinks=True)
    programs = {"/bin/kill", "/usr/sbin/grafana", "/usr/bin/true"}
    for name, text in {**files, "grafana-server.service": GRAFANA}.items():
        place = root / UNITS / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
        programs |= {command.split()[0] for command in lines(text, "Exec[A-Za-z]+")}
    for program in programs:
        place = root / program.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("#!/bin/sh\n")
        place.chmod(0o755)
    return root


def verify(root: Path, *names: str) -> str:
    """What systemd has against the units; empty when nothing."""
    done = analyze("verify", f"--root={root}", "--man=no", "--recursive-errors=no", *names)
    return done.stderr if done.returncode == 0 else f"status {done.returncode}: {done.stderr}"


def test_systemd_has_nothing_against_them(units: dict[str, str], tmp_path: Path) -> None:
    system = {name: text for name, text in units.items() if not name.startswith("user/")}
    services = [name for name in system if name.endswith(".service")]
    assert len(services) >= 10
    assert verify(make_root(tmp_path, system), *services, "grafana-server.service") == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("NoNewPrivileges=yes", "NoNewPrivilege=yes"), "'NoNewPrivilege'"),
        (("TimeoutStopSec=30", "TimeoutStopSec=soon"), "Failed to parse"),
        (("/opt/pocket-agent/bin/pocket-agent serve", "pocket-agent/serve"), "pocket-agent/serve"),
    ],
)
def test_it_would_have_if_there_were_something(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    unit = units_of(defaults(tmp_path))["pocket-agent.service"]
    assert change[0] in unit
    root = make_root(tmp_path, {"pocket-agent.service": unit.replace(*change)})
    assert says in verify(root, "pocket-agent.service")


def test_a_persons_own_unit_is_good_too(tmp_path: Path) -> None:
    unit = units_of(defaults(tmp_path))["user/pocket-agent.service"]
    program = tmp_path / "pocket-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = tmp_path / "pocket-agent.service"
    # There is no home directory in which to put a stand-in.
    place.write_text(unit.replace("%h/.local/bin/pocket-agent", str(program)))
    done = analyze("--user", "verify", "--man=no", "--recursive-errors=no", str(place))
    assert (done.returncode, done.stderr) == (0, "")


def test_programs_of_the_stack_may_do_little(units: dict[str, str], tmp_path: Path) -> None:
    """systemd's own measure: from 0, nothing is possible, to 10, everything is."""
    exposures = {}
    for name, text in units.items():
        if name.endswith(".service") and not name.startswith("user/"):
            place = tmp_path / name
            place.write_text(text, "utf-8")
            done = analyze("security", "--offline=true", "--no-pager", str(place))
            found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
            assert found is not None, done
            exposures[name.removesuffix(".service")] = float(found[1])
    assert [name for name, exposure in exposures.items() if exposure > 3 and name not in AGENTS] == []
    # What agents are for needs the user's files, the network and whatever tools there are.
    assert all(exposures[name] < 8 for name in AGENTS if name in exposures)


def test_a_refused_system_call_is_an_error_and_no_death(units: dict[str, str]) -> None:
    filtered = {name for name, text in units.items() if lines(text, "SystemCallFilter")}
    assert len(filtered) >= 9
    assert {name for name in filtered if lines(units[name], "SystemCallErrorNumber") != ["EPERM"]} == set()


def test_users_of_grafanas_packages_have_no_group_of_their_name(tmp_path: Path) -> None:
    """`adduser --system`, which the packages of Loki, Promtail and Tempo run, makes no group."""
    units = units_of(defaults(tmp_path))
    for name in ("loki", "promtail", "tempo"):
        unit = units[f"{name}.service"]
        assert (lines(unit, "User"), lines(unit, "Group")) == ([name], []), name


def test_the_servers_unit_hides_what_no_agent_needs(tmp_path: Path) -> None:
    root = f"{pwd.getpwnam('root').pw_dir}/data"
    for directory, capabilities in (("/var/lib/pocket-agent", [""]), ("/home/ada/data", [""]), (root, [])):
        unit = units_of(Case(settings_of(tmp_path, data__dir=directory)))["pocket-agent.service"]
        assert lines(unit, "CapabilityBoundingSet") == capabilities, directory
        assert lines(unit, "ProtectProc") == ["invisible"]
        assert lines(unit, "PrivateDevices") == ["yes"]


def test_the_servers_units_let_agents_be_confined(units: dict[str, str]) -> None:
    """bubblewrap needs user and mount namespaces, all of mount(2), and a /proc with more than processes."""
    for name in ("pocket-agent.service", "user/pocket-agent.service"):
        for directive in ("RestrictNamespaces", "SystemCallFilter", "PrivateUsers", "ProcSubset"):
            assert lines(units[name], directive) == [], (name, directive)


def test_agents_survive_a_restart_of_the_server(units: dict[str, str]) -> None:
    for name in ("pocket-agent.service", "user/pocket-agent.service"):
        unit = units[name]
        assert lines(unit, "KillMode") == ["process"]
        assert lines(unit, "PrivateTmp") == []
        assert lines(unit, "ProtectHome") == []
        assert lines(unit, "Restart") == ["always"]
        assert lines(unit, "ExecReload") == ["/bin/kill -HUP $MAINPID"]


def test_a_stop_may_take_as_long_as_the_server_grants_itself(tmp_path: Path) -> None:
    for settings, seconds in ((settings_of(tmp_path), 30), (everything_changed(tmp_path), 62)):
        assert lines(units_of(Case(settings))["pocket-agent.service"], "TimeoutStopSec") == [str(seconds)]


@pytest.mark.parametrize(
    ("directory", "user", "state"),
    [
        ("/var/lib/pocket-agent", "pocket-agent", ["pocket-agent"]),
        ("/var/lib/agents/one", "pocket-agent", ["agents/one"]),
        ("/home/ada/.local/share/pocket-agent", "ada", []),
        (str(Path("~root/.local/share/pocket-agent").expanduser()), "root", []),
        ("/srv/agent", "pocket-agent", []),
    ],
)
def test_the_server_runs_as_who_owns_its_data(tmp_path: Path, directory: str, user: str, state: list[str]) -> None:
    unit = units_of(Case(settings_of(tmp_path, data__dir=directory)))["pocket-agent.service"]
    assert lines(unit, "User") == lines(unit, "Group") == [user]
    assert lines(unit, "StateDirectory") == state
    assert lines(unit, "Environment") == [f"PA_DATA_DIR={directory}"]


def test_the_prober_sees_the_servers_certificate_and_nothing_else_of_its_data(tmp_path: Path) -> None:
    for directory, home in (("/var/lib/pocket-agent", "yes"), ("/home/ada/.local/share/pocket-agent", "tmpfs")):
        unit = units_of(Case(settings_of(tmp_path, data__dir=directory)))["prometheus-blackbox-exporter.service"]
        assert lines(unit, "TemporaryFileSystem") == [f"{directory}:ro"]
        assert lines(unit, "BindReadOnlyPaths") == [f"-{directory}/tls"]
        assert lines(unit, "ProtectHome") == [home]


def test_who_ships_a_log_file_may_read_it_and_who_reads_the_journal_needs_no_more(tmp_path: Path) -> None:
    journal = units_of(defaults(tmp_path))
    file = units_of(Case(settings_of(tmp_path, logging__output="/var/log/pocket-agent/agent.log")))
    for name in ("alloy.service", "promtail.service"):
        assert lines(journal[name], "CapabilityBoundingSet") == [""]
        assert lines(file[name], "AmbientCapabilities") == ["CAP_DAC_READ_SEARCH"]
        assert lines(file[name], "CapabilityBoundingSet") == ["CAP_DAC_READ_SEARCH"]
        assert lines(file[name], "SupplementaryGroups") == ["systemd-journal"]
    assert lines(file["pocket-agent.service"], "LogsDirectory") == ["pocket-agent"]
    assert lines(journal["promtail.service"], "Conflicts") == ["alloy.service"]


def test_ours_replace_those_of_debians_packages_and_answer_to_the_guides_names(tmp_path: Path) -> None:
    units = units_of(defaults(tmp_path))
    assert lines(units["prometheus-node-exporter.service"], "Alias") == ["node_exporter.service"]
    assert lines(units["prometheus-blackbox-exporter.service"], "Alias") == ["blackbox_exporter.service"]
    assert lines(units["prometheus-alertmanager.service"], "Alias") == ["alertmanager.service"]
    assert "prometheus.service" in units


def test_each_of_two_servers_has_a_unit(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    units = units_of(two_servers(tmp_path))
    assert " --config /etc/pocket-agent/config.yaml" in lines(units["pocket-agent.service"], "ExecStart")[0]
    assert " --config /etc/pocket-agent/server-2.yaml" in lines(units["pocket-agent-2.service"], "ExecStart")[0]


def test_words_of_a_command_are_what_they_say(tmp_path: Path) -> None:
    unit = units_of(defaults(tmp_path))["prometheus-node-exporter.service"]
    assert r"--collector.filesystem.mount-points-exclude=^/(sys|proc|dev|host|etc)($$|/)" in unit


def test_a_data_directory_with_strange_characters_stays_one_word(tmp_path: Path) -> None:
    files = texts(render(settings_of(tmp_path, data__dir='/srv/a b%c"d')))
    assert 'Environment="PA_DATA_DIR=/srv/a b%%c\\"d"' in files["systemd/pocket-agent.service"]
    root = make_root(tmp_path, {"pocket-agent.service": files["systemd/pocket-agent.service"]})
    assert verify(root, "pocket-agent.service") == ""
