"""How long to wait before the next attempt to connect."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter, so that many clients do not come back in step.

    The form is "full jitter" of the AWS architecture blog, "Exponential Backoff And Jitter".

    Attributes:
        initial: the bound of the first wait, in seconds.
        maximum: the bound of any wait, in seconds.
    """

    initial: float = 0.25
    maximum: float = 15.0

    def delay(self, attempt: int) -> float:
        """A random wait in seconds before attempt number `attempt`, counted from 0."""
        bound = min(self.maximum, self.initial * 2 ** min(attempt, 32))
        return random.uniform(0, bound)  # noqa: S311 - spreads load, guards no secret
