"""What the commands share: the options --config, --data-dir and --json, and how settings are read."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from pocket_agent.settings import LoadedSettings

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The server's data directory.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class ReadSettings(Protocol):
    """Reads the settings for a command.

    Args:
        flags: dotted keys to values that the command's own options give.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __call__(self, flags: Mapping[str, object] = ...) -> "LoadedSettings": ...


def settings_command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a command with --config and --data-dir; its first parameter gets a `ReadSettings` that applies them."""
    return lambda command: app.command(name)(_with_settings(command))


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(config: Path | None = None, data_dir: Path | None = None, **arguments: object) -> None:
        def read(flags: Mapping[str, object] = {}) -> "LoadedSettings":
            from pocket_agent.settings import load_settings  # noqa: PLC0415 - slow, and `--help` does without

            return load_settings(config=config, environ=os.environ, flags={"data.dir": data_dir, **flags})

        command(read, **arguments)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(parameter.replace(kind=keyword) for parameter in list(inspect.signature(command).parameters.values())[1:]),
        inspect.Parameter("config", keyword, default=None, annotation=Config),
        inspect.Parameter("data_dir", keyword, default=None, annotation=DataDir),
    ]
    # typer reads both.
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def print_json(value: object) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2))


def claude_candidates() -> tuple[Path, ...]:
    """The CLI that `make setup` installs in a source checkout."""
    return (Path(__file__).resolve().parents[3] / "node_modules" / ".bin" / "claude",)
