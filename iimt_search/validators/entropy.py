"""Mean prediction entropy on the target (Morerio et al. 2018)."""

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions


def mean_entropy(probabilities: Tensor) -> float:
    """Return (1/N) Σ_i H(p_i).

    Args:
        probabilities: float (N, C), rows sum to 1.

    Returns:
        Nats in [0, ln C]; 0 · ln 0 counts as 0. NaN where an input is NaN, and without samples.

    >>> mean_entropy(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0
    True
    >>> round(mean_entropy(torch.tensor([[0.5, 0.5]])), 4)
    0.6931
    """
    p = probabilities.double()
    return float(-torch.xlogy(p, p).sum(dim=-1).mean())


def score(predictions: Predictions) -> float:
    """Score a model by the mean entropy of its target predictions; lower is better."""
    return mean_entropy(predictions.target_probabilities)
