"""DEVN: deep embedded validation with bounded weights (Musgrave et al. 2022; You et al. 2019)."""

from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.iwcv import weighted_risk
from iimt_search.validators.source_risk import source_losses


def bounded_weights(weights: Tensor) -> Tensor:
    """Divide weights by their maximum, and shift them to mean 1.

    Args:
        weights: float64 (N,), above 0, N at least 1.

    Returns:
        float64 (N,), between 0 and 2.

    >>> import torch
    >>> bounded_weights(torch.tensor([1.0, 2.0, 5.0])).sum().item()  # mean 1
    3.0
    """
    shares = weights / weights.max()
    return shares - shares.mean() + 1


def bounded_risk(losses: Tensor, weights: Tensor) -> float:
    """Return the risk of DEV with bounded weights.

    As their mean is 1, the control variate η·E[w] − η of DEV is 0 whatever η is, and only E[w·loss] is left.

    Args:
        losses: float64 (N,), nats.
        weights: float64 (N,), importance weights, above 0.

    Returns:
        Nats in [0, ∞), at most twice the plain risk; the plain risk where the weights do not vary. NaN
        where an input is NaN, and without samples.
    """
    if len(losses) == 0:
        return float("nan")
    return weighted_risk(losses, bounded_weights(weights))


def score(predictions: Predictions) -> float:
    """Score a model by its normalised deep embedded validation risk; lower is better."""
    return bounded_risk(
        source_losses(predictions.source_logits, predictions.source_labels),
        predictions.importance_weights,
    )
