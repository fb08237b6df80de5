"""When each request is due, and of which kind it is; decided before the first answer, whatever the server does."""

import math
from collections.abc import Iterator

from pocket_agent.load.plan import Kind, Mix


def offsets(rate: float, ramp_seconds: float, duration_seconds: float) -> Iterator[float]:
    """Seconds from the start at which requests are due, in order.

    During the ramp the rate rises evenly from 0, so that after t seconds rate * t² / (2 * ramp) are due.

    Args:
        rate: requests a second after the ramp.
        ramp_seconds: how long the ramp is; 0 for none.
        duration_seconds: nothing is due then or later.
    """
    in_ramp = rate * ramp_seconds / 2
    number = 0
    while True:
        if number < in_ramp:
            offset = math.sqrt(2 * number * ramp_seconds / rate)
        else:
            offset = ramp_seconds + (number - in_ramp) / rate
        if offset >= duration_seconds:
            return
        yield offset
        number += 1


def rotation(mix: Mix) -> Iterator[Kind]:
    """Kinds for ever, each as often as its weight says, and spread evenly.

    Each turn every kind gains its weight, and the one that has most is chosen and pays the sum of the
    weights (the smooth weighted round robin of nginx's upstream module).
    """
    total = sum(mix.values())
    credit = dict.fromkeys(mix, 0)
    while True:
        for kind, weight in mix.items():
            credit[kind] += weight
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= total
        yield chosen
