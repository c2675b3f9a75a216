"""Numbers that change over a training: a Ramp takes a step, counted from 0, to a number."""

from collections.abc import Callable

Ramp = Callable[[int], float]


def cooldown(value: float, steps: int, share: float) -> Ramp:
    """Return a ramp that is constant, and falls linearly to 0 over the last `share` of the
    steps; a share of 0 keeps it."""
    if share == 0:
        return lambda step: value
    return lambda step: value * min(1.0, (steps - step) / (share * steps))


def linear(start: float, end: float, steps: int) -> Ramp:
    """Return a ramp that is `start` at the first step and `end` at the last one."""
    return lambda step: start + (end - start) * (step / max(1, steps - 1))
