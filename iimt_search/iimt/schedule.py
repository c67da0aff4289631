"""Weights that change during training. ``progress`` is step / steps, in [0, 1]."""

import math
from collections.abc import Iterable


def linear(progress: float, maximum: float) -> float:
    """Return w_t: it rises linearly from 0 to ``maximum`` (Yan et al. 2020, section 3.4)."""
    return maximum * min(max(progress, 0.0), 1.0)


def stepwise(progress: float, earlier: Iterable[tuple[float, float]], last: float) -> float:
    """Return a value that changes in steps.

    Args:
        progress: where to look.
        earlier: pairs (until, value), by rising ``until``: the value below that progress.
        last: the value after all of them.
    """
    return next((value for until, value in earlier if progress < until), last)


def dann_ramp(progress: float) -> float:
    """Return 2 / (1 + exp(−10 p)) − 1, from 0 to just under 1 (Ganin & Lempitsky 2015)."""
    return 2.0 / (1.0 + math.exp(-10.0 * min(max(progress, 0.0), 1.0))) - 1.0


def warmup_cosine(progress: float, warmup: float) -> float:
    """Return the learning rate's share: linear from 0 to 1 over ``warmup``, then a cosine to 0."""
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1.0 - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(rest, 1.0)))
