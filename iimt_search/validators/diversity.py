"""Diversity of the predicted target classes."""

import math

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def diversity(predicted: Tensor, classes: int) -> float:
    """Return the entropy of the predicted classes' shares, divided by ln C.

    Args:
        predicted: int64 (N,), the predicted classes, in [0, C).
        classes: C, at least 2.

    Returns:
        A value in [0, 1]: 0 for a collapse to one class, 1 where every class is predicted equally
        often. Information maximisation of hard predictions: blind to confidence, which temperature
        and mixing change without changing what is predicted.

    >>> diversity(torch.tensor([0, 1, 0, 1]), 2)
    1.0
    >>> diversity(torch.tensor([1, 1, 1, 1]), 2) == 0
    True
    """
    share = torch.bincount(predicted, minlength=classes).double() / len(predicted)
    return float(-torch.xlogy(share, share).sum()) / math.log(classes)


def score(predictions: Predictions) -> float:
    """Score a model by the diversity of its target predictions."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    logits = predictions.target_logits
    return diversity(logits.argmax(dim=-1), logits.shape[1])
