"""Accuracy on held-out source samples."""

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def source_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of source validation samples whose label is predicted, in [0, 1].

    Args:
        logits: float (N, C).
        labels: int64 (N,).

    NaN where a logit is not finite. Blind to the shift, yet among the best validators on average
    (Musgrave et al. 2022).

    >>> import torch
    >>> source_accuracy(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    """
    if not all_finite(logits):
        return float("nan")
    return float((logits.argmax(dim=-1) == labels).double().mean())


def score(predictions: Predictions) -> float:
    """Score a model by its source validation accuracy."""
    return source_accuracy(predictions.source_logits, predictions.source_labels)
