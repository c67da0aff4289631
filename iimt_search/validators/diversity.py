"""Diversity of the predicted target classes."""

import math

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def diversity(predicted: Tensor, classes: int) -> float:
    """Return the entropy of the predicted classes' shares, divided by ln C.

    Args:
        predicted: int64 (N,), the predicted classes, in [0, C); −1 (none) is left out.
        classes: C.

    Returns:
        A value in [0, 1]: 0 for a collapse to one class and where none is predicted, 1 where every
        class is predicted equally often. NaN without samples, and for C below 2. Information
        maximisation of hard predictions: blind to confidence, which temperature and mixing change
        without changing what is predicted.

    >>> diversity(torch.tensor([0, 1, 0, 1]), 2)
    1.0
    >>> diversity(torch.tensor([1, 1, 1, 1]), 2) == 0
    True
    """
    if len(predicted) == 0 or classes < 2:
        return float("nan")
    counts = torch.bincount(predicted[predicted >= 0], minlength=classes).double()
    share = counts / counts.sum().clamp_min(1)
    return float(-torch.xlogy(share, share).sum()) / math.log(classes)


def score(predictions: Predictions) -> float:
    """Score a model by the diversity of its target predictions."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return diversity(predictions.target_classes, predictions.target_logits.shape[1])
