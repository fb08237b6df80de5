"""The image and the compose files of this repository, as far as they can be tried without a container engine."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from pocket_agent.monitoring import render, write
from pocket_agent.settings import load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.compose import faults, mounts, read_compose
from tests.harness.server import ServerProcess, free_port
from tests.harness.tool import ROOT, require_tool
from tests.monitoring.stack_sample import checks


class Stage:
    """A stage of a Dockerfile.

    Attributes:
        image: what it begins with.
        steps: instructions with their values, in order.
    """

    def __init__(self, start: str) -> None:
        self.image, _, self.name = start.partition(" AS ") if " AS " in start else (start, "", "")
        self.steps: list[tuple[str, str]] = []

    def values(self, instruction: str) -> list[str]:
        """What an instruction is given, each time."""
        return [value for name, value in self.steps if name == instruction]


@pytest.fixture
def stages() -> list[Stage]:
    """The stages of the Dockerfile."""
    with (ROOT / "Dockerfile").open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    found: list[Stage] = []
    images: dict[str, str] = {}
    for step in structure:
        if step["instruction"] == "FROM":
            found.append(Stage(re.sub(r"\$\{(\w+)\}", lambda name: images[name[1]], step["value"])))
        elif step["instruction"] == "ARG" and not found:
            name, _, value = step["value"].partition("=")
            images[name] = value
        elif step["instruction"] != "COMMENT":
            found[-1].steps.append((step["instruction"], step["value"]))
    return found


def test_the_first_line_tells_the_builder_its_syntax() -> None:
    assert (ROOT / "Dockerfile").read_text().startswith("# syntax=docker/dockerfile:1\n")


def test_base_images_have_a_version(stages: list[Stage]) -> None:
    assert len(stages) >= 3, "what only builds is not shipped"
    for stage in stages:
        assert re.fullmatch(r"[a-z]+:[0-9]+(\.[0-9]+)*-[a-z0-9-]+", stage.image), stage.image


def test_no_package_runs_its_installation_step_unless_it_is_named(stages: list[Stage]) -> None:
    commands = [value for stage in stages for value in stage.values("RUN") if "npm" in value]
    for command in commands:
        for call in re.findall(r"npm (?:install|ci)\b[^&]*", command):
            assert "--ignore-scripts" in call, call
    for script in ("setup", "web", "grafana"):
        for call in re.findall(r"npm (?:install|ci) [^\n]*", (ROOT / "scripts" / script).read_text("utf-8")):
            assert "--ignore-scripts" in call, (script, call)
    named = re.findall(r"node (\S+)", "\n".join(commands))
    assert named == ["install.cjs"], "the CLI's own, and none else"


def test_packages_of_others_have_a_version_too(stages: list[Stage]) -> None:
    commands = "\n".join(value for stage in stages for value in stage.values("RUN"))
    (package,) = re.findall(r"npm install \S* ?.*?\"(@anthropic-ai/claude-code@[^\"]+)\"", commands)
    assert package == "@anthropic-ai/claude-code@${CLAUDE_VERSION}"
    pinned = json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"]["@anthropic-ai/claude-code"]
    (version,) = [value for stage in stages for value in stage.values("ARG") if value.startswith("CLAUDE_VERSION=")]
    assert version == f"CLAUDE_VERSION={pinned}", "the CLI that the tests run with"
    assert "--constraint constraints.txt" in commands
    assert "curl" not in commands and "wget" not in commands


def test_it_does_not_run_as_root(stages: list[Stage]) -> None:
    last = stages[-1]
    (user,) = last.values("USER")
    assert user not in ("root", "0")
    names = [name for name, _ in last.steps]
    assert "RUN" not in names[names.index("USER") :], "nothing is left to do for root after it"
    assert f"--uid 1000 {user}" in " ".join(last.values("RUN"))


def test_package_lists_are_not_shipped(stages: list[Stage]) -> None:
    for command in stages[-1].values("RUN"):
        if "apt-get install" in command:
            assert "--no-install-recommends" in command
            assert "rm -rf /var/lib/apt/lists/*" in command


def test_commands_are_lists_so_that_signals_reach_the_server(stages: list[Stage]) -> None:
    last = stages[-1]
    assert [json.loads(value) for value in last.values("ENTRYPOINT")] == [["tini", "--"]]
    assert [json.loads(value) for value in last.values("CMD")] == [["pocket-agent", "serve"]]


def test_copied_is_only_what_the_ignore_file_lets_through(stages: list[Stage]) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in stages:
        for value in stage.values("COPY"):
            if not value.startswith("--from="):
                sources = shlex.split(value)[:-1]
                assert all(source.split("/")[0] in allowed for source in sources), value


def test_the_copied_files_are_enough_to_build_the_package(stages: list[Stage], tmp_path: Path) -> None:
    build = next(stage for stage in stages if stage.name == "build")
    for value in build.values("COPY"):
        if value.startswith("--from="):
            continue
        *sources, target = shlex.split(value)
        for source in sources:
            place = ROOT / source
            if place.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "web")
                shutil.copytree(place, tmp_path / target, ignore=ignored)
            else:
                shutil.copy(place, tmp_path / target)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "pocket_agent/monitoring/templates/k6/load-test.js" in zipfile.ZipFile(wheel).namelist()


async def status(arguments: list[str], env: dict[str, str]) -> int:
    """How Python ends with these arguments."""
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=env, stdout=nothing, stderr=nothing)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await process.wait()


async def test_the_health_check_is_true_while_the_server_lives(stages: list[Stage], tmp_path: Path) -> None:
    (check,) = stages[-1].values("HEALTHCHECK")
    assert "/livez" in check, "what is not mended by a restart must not cause one"
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[0] == "python"
    server = ServerProcess(tmp_path)
    server.tls_port = free_port()
    env = {"PA_SERVER_PORT": str(server.tls_port)}
    try:
        await server.start()
        assert await status(command[1:], env) == 0
        await server.stop()
        assert await status(command[1:], env) != 0
    finally:
        await server.clean_up()


def test_the_compose_files_are_of_the_specification_and_sound() -> None:
    alone = read_compose((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert list(faults(alone)) == []
    (service,) = alone["services"].values()
    assert service["build"] == "."
    further = read_compose((ROOT / "docker-compose.monitoring.yml").read_text("utf-8"))
    assert further["services"].keys() == alone["services"].keys()
    targets = {mount["target"]: mount for mount in mounts(further["services"]["pocket-agent"])}
    assert targets["/etc/pocket-agent"]["read_only"] is True
    assert all(mount["source"] == target for target, mount in targets.items()), "true on both sides"


def test_the_page_on_containers_gives_settings_of_which_the_programs_accept_the_stack(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deployment" / "docker.md").read_text("utf-8").replace("/etc/pocket-agent", str(tmp_path))
    (certificate,) = re.findall(r"(openssl req -x509.*?-out cert\.pem)", page, re.DOTALL)
    require_tool("openssl")
    subprocess.run(["sh", "-euc", certificate], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "metrics-token").write_text("secret")
    (settings,) = re.findall(r"<<YAML\n(.*?)YAML\n", page, re.DOTALL)
    (tmp_path / "config.yaml").write_text(settings)
    # What the image and the compose file set.
    environment = {"HOME": str(tmp_path), "PA_SERVER_HOST": "0.0.0.0", "PA_METRICS_HOST": "0.0.0.0"}
    loaded = load_settings(config=tmp_path / "config.yaml", environ=environment, flags={})
    files = [
        file for file in render(loaded.settings) if not file.path.startswith("prometheus/tests/")
    ]  # they take long
    write(tmp_path / "stack", files)
    found = {one.status for one in checks(tmp_path / "stack").values()}
    assert "failed" not in found
    assert "ok" in found
    mounted = read_compose((tmp_path / "stack" / "docker-compose.yml").read_text("utf-8"))["services"]
    sources = {mount["source"] for service in mounted.values() for mount in mounts(service)}
    assert {str(tmp_path / "cert.pem"), str(tmp_path / "metrics-token"), "/var/log/pocket-agent"} <= sources


def test_the_server_is_given_time_to_stop() -> None:
    (service,) = read_compose((ROOT / "docker-compose.yml").read_text("utf-8"))["services"].values()
    assert service["stop_grace_period"] == "30s", "longer than timeouts.shutdown"
