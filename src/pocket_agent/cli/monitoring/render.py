"""`pocket-agent monitoring render`: the stack as files, and what became of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer

from pocket_agent.config import load_settings
from pocket_agent.monitoring.bundle import Outcome, write
from pocket_agent.monitoring.stack import render

_OWN: Final = "PA_"


def render_stack(
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
    settings = load_settings(config=config, environ=environ, flags={"data.dir": data_dir}).settings
    # The environment's settings are those of the first server.
    plain = {name: value for name, value in environ.items() if not name.startswith(_OWN)}
    others = [load_settings(config=file, environ=plain, flags={}).settings for file in also]
    outcome = write(directory, render(settings, others), force=force)
    typer.echo(_told(directory, outcome))


def _told(directory: Path, outcome: Outcome) -> str:
    counts = (f"{len(outcome.written)} files written", f"{len(outcome.unchanged)} unchanged")
    lines = [f"{directory}: {', '.join(counts)}, {len(outcome.removed)} removed"]
    if outcome.kept:
        lines.append("Left alone, since they were changed by hand (--force overwrites them):")
        lines += [f"  {path}" for path in outcome.kept]
    return "\n".join(lines)
