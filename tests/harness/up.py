"""`pocket-agent monitoring render` and `up` as commands, with settings and programs of a test's own."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import free_port
from tests.harness.tool import require_tool

PROGRAMS = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "prometheus-blackbox-exporter")
PORTS = ("PROMETHEUS", "ALERTMANAGER", "NODE", "BLACKBOX", "GRAFANA", "LOKI", "TEMPO", "OTLP")


class Up:
    """A rendered stack, and `pocket-agent monitoring up` for it.

    Attributes:
        folder: of the rendered files.
        env: settings by environment variable, and PATH.
        process: the running command.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], programs: Sequence[str] = PROGRAMS) -> None:
        self.folder = folder / "stack"
        bin_dir = folder / "bin"
        bin_dir.mkdir()
        for name in programs:
            (bin_dir / name).symlink_to(require_tool(name))
        shell = ("sh", "dirname", "readlink")  # for the wrapper that lets an unpacked Alertmanager find its templates
        for name in shell:
            (bin_dir / name).symlink_to(str(shutil.which(name)))
        self.env = {
            "PATH": str(bin_dir),
            "HOME": str(folder),
            "PA_MONITORING_SCRAPE_INTERVAL": "500ms",
            **{f"PA_MONITORING_{name}_PORT": str(free_port()) for name in PORTS},
            **env,
        }
        self.process: asyncio.subprocess.Process | None = None
        self.log = folder / "up.log"

    def port(self, name: str) -> int:
        """The port of a program."""
        return int(self.env[f"PA_MONITORING_{name}_PORT"])

    async def command(self, *arguments: str, output: Any) -> asyncio.subprocess.Process:
        """Start `pocket-agent monitoring`."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pocket_agent.cli",
            "monitoring",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=self.env,
        )

    async def render(self, *arguments: str) -> None:
        """Write the files."""
        process = await self.command("render", str(self.folder), *arguments, output=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{process.returncode}: {said.decode()}"

    async def start(self) -> None:
        """`up`, until all programs answer."""
        with self.log.open("wb") as log:
            self.process = await self.command("up", str(self.folder), output=log)

    def family(self) -> list[psutil.Process]:
        """All processes of the command but itself."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ended(self) -> int:
        """Wait until the command has ended; its exit status."""
        assert self.process is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()

    async def answers(self, name: str) -> None:
        """Wait until a program answers."""

        async def asked() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.log.read_text("utf-8", "replace")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port(name))
                writer.close()
                await writer.wait_closed()
                return True
            return False

        await eventually(asked, f"{name} answers")

    async def clean_up(self) -> None:
        """Leave nothing running."""
        if self.process is not None and self.process.returncode is None:
            left = self.family()
            self.process.kill()
            await self.process.wait()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
