"""The default objective: a bounded mean of validators that fail in different ways."""

import math


def combine(*parts: float) -> float:
    """Return the geometric mean of parts that are each 1 at best.

    Args:
        parts: source accuracy, ClassAMI and diversity. Below 0 counts as 0.

    Returns:
        A value in [0, 1] that depends on no other candidate. Geometric, so that a part which has
        collapsed cannot be made up for by the others: source accuracy is blind to the shift, ClassAMI
        to clusters that are consistent and wrong, diversity to everything but vanished classes.
        NaN where a part is NaN.

    >>> round(combine(1.0, 0.9, 0.9), 3)
    0.932
    >>> combine(1.0, 0.9, 0.0)
    0.0
    """
    if any(math.isnan(part) for part in parts):
        return float("nan")
    return float(math.prod(min(max(part, 0.0), 1.0) for part in parts) ** (1 / len(parts)))
