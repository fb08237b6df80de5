"""Starts the terminal client out of flags and environment."""

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
    """The options of `pocket-agent chat`; `cli/main.py` has their help."""

    path: str | None = None
    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    conversation: str | None = None
    resume: str | None = None
    prompt: str | None = None
    approve: bool = False
    as_json: bool = False
    history: int = 20


def run_chat(options: ChatOptions, settings: Callable[[], LoadedSettings], environ: Mapping[str, str]) -> int:
    """Run the terminal client, or send one prompt; returns the exit status.

    Raises:
        PocketAgentError: the server cannot be reached or refuses this client.
    """
    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"The prompt on standard input is not UTF-8 text: {error.reason}.") from error
    if prompt is not None and not prompt.strip():
        raise ConfigurationError("The prompt is empty: give it with --prompt or on standard input.")
    if prompt is None and (options.approve or options.as_json):
        raise ConfigurationError("--yes and --json go with --prompt.")
    connect = connector(options, settings, environ)
    try:
        if prompt is not None:
            return asyncio.run(_run_prompt(connect, options, prompt))
        kept = settings().settings.data.dir
        history_file = kept / _HISTORY_FILE if kept.is_dir() and os.access(kept, os.W_OK) else None
        if history_file is not None:  # prompt_toolkit would create it with the umask, readable by other users
            history_file.touch(mode=0o600)
            history_file.chmod(0o600)
        return asyncio.run(
            run_terminal(
                connect,
                options.path,
                conversation=options.conversation,
                resume=options.resume,
                history=options.history,
                history_file=history_file,
            )
        )
    except KeyboardInterrupt:
        sys.stderr.write("Left; the agent goes on.\n")
        return 130


def connector(
    options: ChatOptions, settings: Callable[[], LoadedSettings], environ: Mapping[str, str]
) -> Callable[[Callable[[Status], None]], Client]:
    """A function that makes the client; raises as `find_access`."""
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
            conversation=options.conversation,
            resume=options.resume,
            approve=options.approve,
            as_json=options.as_json,
        )
