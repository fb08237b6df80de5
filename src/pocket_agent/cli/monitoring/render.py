"""`pocket-agent monitoring render`: the stack as files, and what became of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer

from pocket_agent.config import load_settings
from pocket_agent.monitoring.bundle import Outcome, write
from pocket_agent.monitoring.stack import Server, render_stack
from pocket_agent.monitoring.target import SERVICE_FILE

_OWN: Final = "PA_"


def write_stack(
    directory: Path,
    *,
    config: Path | None,
    data_dir: Path | None,
    also: Sequence[Path],
    environ: Mapping[str, str],
    force: bool,
) -> None:
    """Write the stack and tell what was done.

    Raises:
        ConfigurationError: the settings cannot be used, or not for a stack.
        FileOperationError: the directory cannot be written.
    """
    first = load_settings(config=config, environ=environ, flags={"data.dir": data_dir})
    # The environment's settings are those of the first server.
    plain = {name: value for name, value in environ.items() if not name.startswith(_OWN)}
    others = [load_settings(config=file, environ=plain, flags={}) for file in also]
    servers = [Server(loaded.settings, (loaded.file or SERVICE_FILE).absolute()) for loaded in (first, *others)]
    typer.echo(_told(directory, write(directory, render_stack(servers), force=force)))


def _told(directory: Path, outcome: Outcome) -> str:
    counts = (f"{len(outcome.written)} files written", f"{len(outcome.unchanged)} unchanged")
    lines = [f"{directory}: {', '.join(counts)}, {len(outcome.removed)} removed"]
    if outcome.kept:
        lines.append("Left alone, since they were changed by hand (--force overwrites them):")
        lines += [f"  {path}" for path in outcome.kept]
    if outcome.abandoned:
        lines.append("Not part of the stack any more, and changed by hand, so they are still there:")
        lines += [f"  {path}" for path in outcome.abandoned]
    return "\n".join(lines)
