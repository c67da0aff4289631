"""IWCV: the source risk, weighted to stand for the target's (Sugiyama et al. 2007)."""

from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_risk import source_losses


def weighted_risk(losses: Tensor, weights: Tensor) -> float:
    """Return (1/N) Σ_i w_i · loss_i.

    Args:
        losses: float64 (N,), nats.
        weights: float64 (N,), importance weights. Their sum is not divided out: where the domains hardly
            overlap they are all small, and so is the risk.

    Returns:
        Nats in [0, ∞); the plain risk where every weight is 1. NaN where an input is NaN, and without
        samples.

    >>> import torch
    >>> weighted_risk(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))
    3.5
    """
    return float((weights * losses.to(weights)).mean())


def score(predictions: Predictions) -> float:
    """Score a model by its importance-weighted source risk; lower is better."""
    return weighted_risk(
        source_losses(predictions.source_logits, predictions.source_labels),
        predictions.importance_weights,
    )
