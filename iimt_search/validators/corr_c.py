"""Corr-C, or SoftmaxCorr: the class correlations of the target predictions (Tu et al. 2023).

Tu et al. take the cosine similarity of PᵀP to the identity matrix, which is this score divided by √C, and
select the highest: predictions that are confident and evenly spread. The benchmarks of MixVal and EnsV (Hu
et al. 2023) compute this very ratio and select the lowest, which is a collapse or a uniform prediction.
Higher is better.
"""

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions


def corr_c(probabilities: Tensor) -> float:
    """Return tr(PᵀP) / ‖PᵀP‖_F.

    Args:
        probabilities: float (N, C), rows sum to 1.

    Returns:
        A value in [1, √C]: √C for confident predictions spread evenly over the classes, 1 for a
        collapse to one class and for uniform predictions (for any predictions that are all the same).
        NaN where an input is not finite, and without samples.

    >>> round(corr_c(torch.eye(4)), 3)
    2.0
    >>> round(corr_c(torch.full((3, 2), 0.5)), 3)
    1.0
    """
    p = probabilities.double()
    correlation = p.T @ p
    return float(correlation.trace() / torch.linalg.matrix_norm(correlation))


def score(predictions: Predictions) -> float:
    """Score a model by the class correlations of its target predictions; higher is better."""
    return corr_c(predictions.target_probabilities)
