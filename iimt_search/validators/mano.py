"""MaNo: the norm of the target predictions as one long vector (Xie et al. 2024).

With the softmax as their normalisation, which they use where the predictions are calibrated; not with their
Taylor approximation of it.
"""

from torch import Tensor

from iimt_search.validators.contract import Predictions

POWER = 4


def mano(probabilities: Tensor) -> float:
    """Return (Σ_ic p_ic⁴ / (N·C))^(1/4).

    Args:
        probabilities: float (N, C), rows sum to 1.

    Returns:
        A value in [1/C, C^(−1/4)]: 1/C for uniform predictions, C^(−1/4) for confident ones, a
        collapse to one class among them. NaN where an input is NaN, and without samples.

    >>> import torch
    >>> mano(torch.full((2, 4), 0.25))
    0.25
    """
    return float((probabilities.double() ** POWER).mean() ** (1 / POWER))


def score(predictions: Predictions) -> float:
    """Score a model by the norm of its target predictions."""
    return mano(predictions.target_probabilities)
