"""Accuracy on held-out source samples."""

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.ties import votes


def source_accuracy(logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> float:
    """Return the share of source validation samples whose label is predicted, in [0, 1].

    Args:
        logits: float (N, C).
        labels: int64 (N,).
        shares: (C,), of the classes where the model was trained: so much each of them counts. None: as many
            samples as it has.

    A sample counts 1/m where m classes tie for its highest logit and its label is one of them. NaN
    where a logit is not finite, and without samples. Blind to the shift, yet among the best validators
    on average (Musgrave et al. 2022).

    >>> import torch
    >>> source_accuracy(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    >>> source_accuracy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    0.25
    >>> logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    >>> round(source_accuracy(logits, labels, torch.tensor([0.9, 0.1])), 6)
    0.9
    """
    if not all_finite(logits):
        return float("nan")
    right = votes(logits).gather(1, labels[:, None])[:, 0]
    if shares is None:
        return float(right.mean())
    weights = (shares.to(right) / labels.bincount(minlength=len(shares)).clamp_min(1))[labels]
    return float((right * weights).sum() / weights.sum())


def score(predictions: Predictions) -> float:
    """Score a model by its source validation accuracy."""
    return source_accuracy(predictions.source_logits, predictions.source_labels, predictions.source_shares)
