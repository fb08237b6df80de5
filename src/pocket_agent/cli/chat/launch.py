"""Starts the terminal client from flags and environment."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocket_agent.cli.access import find_access
from pocket_agent.cli.chat.screen import run_prompt
from pocket_agent.cli.chat.terminal import run_terminal
from pocket_agent.client import Client, Status
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings

_HISTORY_FILE = "chat.history"


@dataclass(frozen=True)
class ChatOptions:
    """The options of the command line.

    Attributes:
        path: the project's directory, id or name.
        url: the server's WebSocket; None for PA_URL, or the server of the settings.
        token_file: file with the token; None for PA_TOKEN, or this machine's own token.
        ca: the certificate to trust.
        resume: the session to continue.
        prompt: send this prompt, print the answer and exit.
        approve: allow every tool; only with `prompt`.
        as_json: print raw frames; only with `prompt`.
        history: how many entries to show at the start.
    """

    path: str | None = None
    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    resume: str | None = None
    prompt: str | None = None
    approve: bool = False
    as_json: bool = False
    history: int = 20


def run_chat(options: ChatOptions, settings: Callable[[], LoadedSettings], environ: Mapping[str, str]) -> int:
    """Run the terminal client, or one prompt; returns the exit status.

    Raises:
        PocketAgentError: the server cannot be reached or refuses this client.
    """
    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is None and (options.approve or options.as_json):
        raise ConfigurationError("--yes and --json require --prompt.")
    connect = connector(options, settings, environ)
    try:
        if prompt is not None:
            return asyncio.run(_run_prompt(connect, options, prompt))
        kept = settings().settings.data.dir
        history_file = kept / _HISTORY_FILE if kept.is_dir() and os.access(kept, os.W_OK) else None
        if history_file is not None:  # prompt_toolkit would create it with the umask, readable for other users
            history_file.touch(mode=0o600)
            history_file.chmod(0o600)
        return asyncio.run(
            run_terminal(
                connect, options.path, resume=options.resume, history=options.history, history_file=history_file
            )
        )
    except KeyboardInterrupt:
        sys.stderr.write("Exited; the agent continues.\n")
        return 130


def connector(
    options: ChatOptions, settings: Callable[[], LoadedSettings], environ: Mapping[str, str]
) -> Callable[[Callable[[Status], None]], Client]:
    """A function that creates the client, see `find_access`.

    Raises:
        ConfigurationError: the token file cannot be read.
    """
    access = find_access(options.url, options.token_file, options.ca, settings, environ)
    return lambda on_status: Client(
        access.url, token=access.token, ssl=access.ca, name="chat", on_status=on_status, check=access.check
    )


async def _run_prompt(connect: Callable[[Callable[[Status], None]], Client], options: ChatOptions, prompt: str) -> int:
    def on_status(status: Status) -> None:
        if not status.online and status.attempt == 0:
            sys.stderr.write(f"offline: {status.reason}\n")

    async with connect(on_status) as client:
        return await run_prompt(
            client,
            options.path or ".",
            prompt,
            resume=options.resume,
            approve=options.approve,
            as_json=options.as_json,
        )
