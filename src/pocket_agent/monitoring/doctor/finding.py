"""What an examination found: one line for each thing that was looked at."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one thing.

    Attributes:
        name: what was looked at; stable, for programs. Several findings may have the same.
        status: `warning` needs attention and no haste; `skipped` could not be looked at, or is not in use.
        message: how it is, for a person.
        fix: what to do; empty when there is nothing to.
    """

    name: str
    status: Status
    message: str
    fix: str = ""


def runbook(name: str) -> str:
    """The command that shows what to do; unlike the server's page it works when the server does not run."""
    return f"pocket-agent runbook {name}"


def ok(name: str, message: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", message)


def warning(name: str, message: str, fix: str) -> Finding:
    """Needs attention."""
    return Finding(name, "warning", message, fix)


def failed(name: str, message: str, fix: str) -> Finding:
    """Is broken."""
    return Finding(name, "failed", message, fix)


def skipped(name: str, message: str, fix: str = "") -> Finding:
    """Could not be looked at, or is not in use; `fix` is how it could be."""
    return Finding(name, "skipped", message, fix)
