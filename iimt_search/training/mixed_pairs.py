"""Which target samples are mixed for MixVal (Hu et al. 2023)."""

import numpy as np
from numpy.typing import NDArray

from iimt_search.training.samples import evenly_spaced

Indices = NDArray[np.int64]

# Share of the first sample in a mixture.
MIXED_SHARE = 0.55
# At most so many pairs of each of the two sorts.
MOST_PAIRS = 512


def _partners(at: Indices, predicted: Indices, same: bool, rng: np.random.Generator) -> Indices:
    """Return for each sample at ``at`` another one of the same or of another class, −1 for none."""
    found = np.full(len(at), -1, dtype=np.int64)
    for label in np.unique(predicted[at]):
        mine = np.flatnonzero(predicted[at] == label)
        others = np.flatnonzero((predicted == label) == same)
        if len(others) > same:  # a class of one sample has no other
            drawn = others[rng.integers(len(others), size=len(mine))]
            if same:  # the next one, where a sample drew itself
                at_next = (np.searchsorted(others, drawn) + 1) % len(others)
                drawn = np.where(drawn == at[mine], others[at_next], drawn)
            found[mine] = drawn
    return found


def mixed_pairs(predicted: Indices) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Draw pairs of samples with the same predicted class, and with different ones.

    Args:
        predicted: int64 (N,), predicted classes.

    Returns:
        First and second sample of each pair, int64 (M,), and whether their classes are the same, bool
        (M,). At most 512 pairs of each sort, from evenly spaced first samples; the same for equal
        predictions.
    """
    rng = np.random.default_rng(0)
    at = evenly_spaced(len(predicted), MOST_PAIRS)
    firsts, seconds, sorts = [], [], []
    for same in (True, False):
        partners = _partners(at, predicted, same, rng)
        firsts.append(at[partners >= 0])
        seconds.append(partners[partners >= 0])
        sorts.append(np.full(len(seconds[-1]), same))
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(sorts)
