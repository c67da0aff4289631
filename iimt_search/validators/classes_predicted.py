"""The share of the classes that a model finds in the target: a check, not a ranking."""

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite

# A class that is predicted less often than this share of an even one has vanished.
LEAST_SHARE = 0.05


def classes_predicted(predicted: Tensor, classes: int) -> float:
    """Return the share of classes that are predicted for at least N / (20 C) samples.

    Args:
        predicted: int64 (N,), predicted classes in [0, C); −1 is none.
        classes: C.

    Returns:
        A value in [0, 1]; 1/C for a collapse to one class. NaN without samples.

    >>> classes_predicted(torch.tensor([0, 0, 1, 1]), 4)
    0.5
    """
    if len(predicted) == 0:
        return float("nan")
    counts = torch.bincount(predicted[predicted >= 0], minlength=classes)
    found = (counts > 0) & (counts >= LEAST_SHARE * len(predicted) / classes)
    return float(found.double().mean())


def score(predictions: Predictions) -> float:
    """Check which share of the classes the target predictions have; NaN where a logit is not finite."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return classes_predicted(predictions.target_classes, predictions.target_logits.shape[1])
