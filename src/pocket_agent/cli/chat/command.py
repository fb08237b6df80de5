"""The flags of `pocket-agent chat`. Cheap to import: what it needs is imported when it runs."""
# ruff: noqa: PLC0415 - prompt_toolkit and rich are slow to import, and other commands do without

import os
from pathlib import Path
from typing import Annotated

import typer


def chat_command(
    path: Annotated[str | None, typer.Argument(help="The project's directory, id or name.")] = None,
    url: Annotated[str | None, typer.Option(help="The server, wss://HOST:8443/ws (PA_URL).")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token (PA_TOKEN).", dir_okay=False)] = None,
    ca: Annotated[Path | None, typer.Option(help="The certificate to trust.", dir_okay=False)] = None,
    resume: Annotated[str | None, typer.Option(help="The session to continue.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Send this prompt, print the answer and exit.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --prompt: allow every tool.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --prompt: print the raw frames.")] = False,
    history: Annotated[int, typer.Option(help="Number of entries to show at the start.", min=0, max=1000)] = 20,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Data directory of the server.", file_okay=False)
    ] = None,
) -> None:
    """Talk to an agent from this terminal."""
    from pocket_agent.cli.chat.launch import ChatOptions, run_chat
    from pocket_agent.settings import LoadedSettings, load_settings

    def settings() -> LoadedSettings:
        return load_settings(config=config, environ=os.environ, flags={"data.dir": data_dir})

    options = ChatOptions(path, url, token_file, ca, resume, prompt, yes, as_json, history)
    raise typer.Exit(run_chat(options, settings, os.environ))
