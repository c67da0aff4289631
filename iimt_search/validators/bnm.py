"""BNM: the nuclear norm of the target predictions (Cui et al. 2020)."""

import math

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def bnm(probabilities: Tensor) -> float:
    """Return ‖P‖_* divided by the most that it can be.

    Args:
        probabilities: float (N, C), rows sum to 1.

    Returns:
        The sum of the singular values, divided by √(N · min(N, C)): a value in (0, 1] in which the
        number of samples drops out. 1 for confident predictions spread evenly over the classes (where
        N is a multiple of C), 1/√C for a confident collapse to one class, 1/C for uniform
        predictions (both where N ≥ C). NaN where an input is not finite, and without samples.

    >>> bnm(torch.eye(3))
    1.0
    >>> bnm(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    0.7071067811865476
    """
    if len(probabilities) == 0 or not all_finite(probabilities):
        return float("nan")
    n, c = probabilities.shape
    return float(torch.linalg.svdvals(probabilities.double()).sum()) / math.sqrt(n * min(n, c))


def score(predictions: Predictions) -> float:
    """Score a model by the nuclear norm of its target predictions."""
    return bnm(predictions.target_probabilities)
