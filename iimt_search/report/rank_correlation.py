"""Rank correlation of a validator's scores with the accuracies that they stand for."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def weighted_spearman(scores: Sequence[float], accuracies: Sequence[float], power: float = 2.0) -> float:
    """Return the Spearman correlation with more weight on what either ranks high (Musgrave et al. 2022).

    A validator is used to find the best, so confusing bad models with each other costs nothing, and
    ranking a bad one high or a good one low costs much: each pair of ranks has the weight
    ``max(rank of score, rank of accuracy) ** power``.

    Args:
        scores: (N,), higher is better.
        accuracies: (N,).
        power: 0 gives the plain Spearman correlation.

    Returns:
        A value in [−1, 1]; NaN of fewer than two, or where either is constant.
    """
    if len(set(scores)) < 2 or len(set(accuracies)) < 2:
        return float("nan")
    a, b = rankdata(scores), rankdata(accuracies)
    weight = np.maximum(a, b) ** power
    weight /= weight.sum()
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    return float((weight * a * b).sum() / np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))
