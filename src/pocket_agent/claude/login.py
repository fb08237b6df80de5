"""Whether somebody is logged in to the CLI."""

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SECONDS: Final = 10.0


async def is_logged_in(binary: Path, environment: Mapping[str, str]) -> bool | None:
    """What `claude auth status` (2.1.330) says; None for a program that does not tell.

    A key in the environment counts as a login there; nothing is asked over the network.
    """
    return await asyncio.to_thread(_ask, binary, environment)


def _ask(binary: Path, environment: Mapping[str, str]) -> bool | None:
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell reads it
            [str(binary), "auth", "status"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            timeout=_SECONDS,
            start_new_session=True,
            check=False,
        )
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = told.get("loggedIn") if isinstance(told, dict) else None
    return found if isinstance(found, bool) else None
