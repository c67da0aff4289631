"""Times interleaved: what is compared takes turns, so that a slow moment hits all of it."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each work's median seconds over the rounds, after one round that is not counted.

    Args:
        work: name → what to time.
        rounds: how often each is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, do in work.items():
            began = time.perf_counter()
            do()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(found) for name, found in seconds.items()}
