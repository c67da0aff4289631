"""An order of the samples that does not depend on the order they came in."""

import numpy as np
from numpy.typing import NDArray


def canonical_order(rows: NDArray[np.float64], most: int | None = None) -> NDArray[np.int64]:
    """Return the lexicographic order of the rows: by the first column, ties by the second, and so on.

    What depends on the order of its samples (subsamples, folds, where k-means begins) takes them in
    this order, and so gives the same score however a data set was shuffled. Equal rows keep the order
    they came in.

    Args:
        rows: float (N, D), finite.
        most: of more rows than this, exactly so many, evenly spaced in that order. None: all.

    Returns:
        int64 (min(N, most),), the places of the rows.

    >>> canonical_order(np.array([[2.0, 1.0], [1.0, 5.0], [2.0, 0.0]])).tolist()
    [1, 2, 0]
    >>> canonical_order(np.arange(5.0)[:, None], 3).tolist()
    [0, 1, 3]
    """
    order: NDArray[np.int64] = np.lexsort(rows.T[::-1])
    if most is None or len(order) <= most:
        return order
    return order[np.arange(most) * len(order) // most]
