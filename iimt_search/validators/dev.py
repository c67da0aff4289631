"""DEV: the importance-weighted source risk with a control variate (You et al. 2019)."""

from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_risk import source_losses

# Weights that vary by less than this share of their mean are constant, up to the classifier's fit.
LEAST_VARIATION = 1e-6


def controlled_risk(losses: Tensor, weights: Tensor) -> float:
    """Return E[L] + η·E[w] − η with L = w·loss and η = −Cov(L, w) / Var(w).

    The weights' expectation is known to be 1, so η takes out what their sample mean is off by.

    Args:
        losses: float64 (N,), nats.
        weights: float64 (N,), importance weights.

    Returns:
        Nats, unbounded either way; the loss itself where it is constant. Where the weights do not
        vary, η is 0. NaN where an input is NaN, and for fewer than two samples.

    >>> import torch
    >>> controlled_risk(torch.full((3,), 2.0), torch.tensor([0.5, 1.0, 1.5]))
    2.0
    """
    if len(losses) < 2:
        return float("nan")
    weighted = weights * losses.to(weights)
    apart = weights - weights.mean()
    eta = 0.0
    if float(apart.std()) > LEAST_VARIATION * float(weights.mean()):
        eta = -float((apart * (weighted - weighted.mean())).mean() / (apart * apart).mean())
    return float(weighted.mean()) + eta * (float(weights.mean()) - 1)


def score(predictions: Predictions) -> float:
    """Score a model by its deep embedded validation risk; lower is better."""
    return controlled_risk(
        source_losses(predictions.source_logits, predictions.source_labels),
        predictions.importance_weights,
    )
