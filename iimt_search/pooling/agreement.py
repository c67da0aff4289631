"""How far models agree on the target, corrected for chance.

Two trainings that differ in their seeds only disagree about as often as each is wrong (Nakkiran and Bansal
2020; Jiang et al. 2022, "Assessing generalization via disagreement"): no label is needed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def kappas(predicted: Sequence[Tensor], classes: int) -> Tensor:
    """Return Cohen's κ of every pair of models.

    Args:
        predicted: int64 (N,) for each of M models, its predicted classes of the same samples, in [0, C).
        classes: C.

    Returns:
        float64 (M, M), at most 1; 0 where two agree no more than by chance, as two that each predict one
        class only do, and on the diagonal.

    >>> mixed, constant = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 0, 0])
    >>> kappas([mixed, mixed, constant], 2).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    shares = torch.stack([torch.bincount(p, minlength=classes).double() / len(p) for p in predicted])
    same = torch.stack([torch.stack([(a == b).double().mean() for b in predicted]) for a in predicted])
    chance = shares @ shares.T
    room = 1 - chance
    values = torch.where(room > 1e-9, (same - chance) / room.clamp_min(1e-9), 0.0)
    return values.fill_diagonal_(0)


def mean_agreement(predicted: Sequence[Tensor], classes: int) -> float:
    """Return the mean κ of all pairs of models; NaN of fewer than two."""
    count = len(predicted)
    return float(kappas(predicted, classes).sum()) / (count * (count - 1)) if count > 1 else math.nan


def agreement_weights(pairs: Tensor) -> Tensor:
    """Return how much each model counts among the others: its mean κ with them, squared.

    A model that has collapsed agrees with no other, not even with one that has collapsed the same way.

    Args:
        pairs: float64 (M, M), as :func:`kappas` returns them.

    Returns:
        float64 (M,), sums to 1; all the same where no two agree.
    """
    count = len(pairs)
    weights = (pairs.sum(dim=1) / max(count - 1, 1)).clamp_min(0) ** 2
    total = weights.sum()
    return weights / total if total > 0 else torch.full((count,), 1 / count, dtype=torch.float64)
