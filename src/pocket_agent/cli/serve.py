"""`pocket-agent serve`: runs the server and prints how to reach it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from pocket_agent.app import Started, serve
from pocket_agent.cli.common import claude_candidates
from pocket_agent.cli.pair import qr_code
from pocket_agent.server.address import local_page
from pocket_agent.settings import LoadedSettings

_FIRST_FILE: Final = "first-device.txt"
"""File in the data directory with the first device's secrets, when standard error is not a terminal."""
_BANNER = """
  ************************************************************************
  *  DEMO: agents talk to the built-in scripted model, not to Claude.    *
  *  Nothing leaves this machine. To use your own account, log in once   *
  *  with `claude`, then start `pocket-agent serve` without --demo.      *
  ************************************************************************
"""


def run(read_settings: Callable[[], LoadedSettings]) -> None:
    """Serve until SIGTERM or SIGINT."""
    umask = os.umask(0o077)
    uvloop.run(
        serve(
            read_settings(),
            dict(os.environ),
            candidates=claude_candidates(),
            umask=umask,
            on_started=_greet,
            read_settings=read_settings,
        )
    )


def _keep(data_dir: Path, lines: Sequence[str]) -> Path:
    """Write the first device's secrets, readable by the server's user alone."""
    path = data_dir / _FIRST_FILE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text("\n".join([*lines, ""]), "utf-8")
    return path


def _greet(started: Started) -> None:
    """Print to standard error, which keeps a log on standard output clean."""
    listeners = started.listeners
    lines = [*([_BANNER] if started.settings.demo else []), f"  Pocket Agent Server   {listeners.url}"]
    if listeners.plain_url is not None:
        local = local_page(listeners.plain_url) if started.settings.server.auth else listeners.plain_url
        lines.append(f"  in a local browser    {local}")
    lines += [f"  from other machines   {url}" for url in listeners.exposed_urls]
    if not started.settings.server.auth:
        lines.append("  WITHOUT TOKENS        every program and user of this machine may run the agent")
    elif started.token is not None:
        secrets = [f"  token (shown once)    {started.token}"]
        secrets += [f"  pair a device         {url}" for url in started.pairing_urls]
        if sys.stderr.isatty():
            lines += secrets
        else:  # others read a journal or the log of a container
            path = _keep(started.settings.data.dir, secrets)
            lines.append(f"  token, pairing link   in {path} (until the next start)")
            lines.append("  another device        pocket-agent pair")
    else:
        (started.settings.data.dir / _FIRST_FILE).unlink(missing_ok=True)
        lines.append("  another device        pocket-agent pair")
    lines.append("  terminal client       pocket-agent chat")
    if started.pairing_urls and sys.stderr.isatty():
        lines += ["", qr_code(started.pairing_urls[0])]
    sys.stderr.write("\n".join(["", *lines, "", ""]))
    sys.stderr.flush()
