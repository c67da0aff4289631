"""A curve in one line of text."""

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Return one character for each value, its height between the least and the greatest of them.

    A value that is not finite is ``?``; values that are all the same are drawn half-way up.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "?" * len(values)
    low, high = min(finite), max(finite)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return "?"
        share = 0.5 if high == low else (value - low) / (high - low)
        return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]

    return "".join(map(bar, values))
