"""Cross-entropy on held-out source samples (Ganin et al. 2016 name it as the usual criterion)."""

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def source_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample.

    Args:
        logits: float (N, C).
        labels: int64 (N,).

    Returns:
        float64 (N,), nats in [0, ∞). All NaN where a logit is not finite.

    >>> source_losses(torch.zeros(1, 2), torch.tensor([1])).round(decimals=4).tolist()
    [0.6931]
    """
    if not all_finite(logits):
        return torch.full((len(logits),), float("nan"), dtype=torch.float64, device=logits.device)
    return torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")


def score(predictions: Predictions) -> float:
    """Score a model by its mean cross-entropy on the source validation samples; lower is better.

    Nats in [0, ∞): ln C for uniform predictions. NaN where a logit is not finite, and without samples. Blind
    to the shift, and it counts an unconfident prediction as an error although mixup trains it.
    """
    return float(source_losses(predictions.source_logits, predictions.source_labels).mean())
