"""Why the queue of a project is on hold, in words."""

from typing import Final

from pocket_agent.model import HoldReason, Milliseconds, QueueHold

_SAID_CHARACTERS: Final = 500
_TEXTS: Final = {
    HoldReason.INTERRUPTED: "The execution was interrupted.",
    HoldReason.KILLED: "The execution was killed.",
    HoldReason.USAGE_LIMIT: "The account's usage limit is reached.",
    HoldReason.CREDIT: "The account has no credit left.",
    HoldReason.AUTHENTICATION: "Claude Code is not logged in, or its login is not accepted.",
    HoldReason.OVERLOADED: "The API is overloaded or fails.",
    HoldReason.NETWORK: "The API cannot be reached.",
    HoldReason.DIRECTORY: "The project's directory is not available.",
    HoldReason.CLI: "The Claude Code CLI is not available.",
    HoldReason.START: "Claude Code ends before it takes a prompt.",
    HoldReason.CONVERSATION: "The conversation no longer exists; the next prompt starts a new one.",
    HoldReason.TRUST: "The project's own settings would have Claude Code do something that nobody has accepted yet.",
}
VERIFIABLE: Final = frozenset({HoldReason.DIRECTORY, HoldReason.CLI, HoldReason.TRUST})
"""The hold ends by itself once the server finds that the cause is gone."""


def queue_hold(reason: HoldReason, said: str, at: Milliseconds) -> QueueHold:
    """A hold.

    Args:
        reason: what holds the queue.
        said: what the error said; empty for nothing more.
        at: when it began.
    """
    goes_on = "when that is over" if reason in VERIFIABLE else "when the queue is resumed"
    if reason is HoldReason.TRUST:
        goes_on = "once it is accepted, or gone"
    texts = [_TEXTS[reason], said[:_SAID_CHARACTERS], f"The prompts that wait start {goes_on}."]
    return QueueHold(reason, " ".join(filter(None, texts)), at)
