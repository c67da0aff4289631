"""Accuracy on held-out source samples."""

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.ties import votes


def source_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of source validation samples whose label is predicted, in [0, 1].

    Args:
        logits: float (N, C).
        labels: int64 (N,).

    A sample counts 1/m where m classes tie for its highest logit and its label is one of them. NaN
    where a logit is not finite, and without samples. Blind to the shift, yet among the best validators
    on average (Musgrave et al. 2022).

    >>> import torch
    >>> source_accuracy(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    >>> source_accuracy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    0.25
    """
    if not all_finite(logits):
        return float("nan")
    return float(votes(logits).gather(1, labels[:, None]).mean())


def score(predictions: Predictions) -> float:
    """Score a model by its source validation accuracy."""
    return source_accuracy(predictions.source_logits, predictions.source_labels)
