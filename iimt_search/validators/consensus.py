"""Does a model predict what a study's first trials together say? (ours, after Hu et al. 2023b)."""

import math

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def expected_agreement(predicted: Tensor, labels: Tensor) -> float:
    """Return the mean probability that labels give to predicted classes.

    Args:
        predicted: int64 (N,), −1 for none.
        labels: float (N, C), rows sum to 1.

    Returns:
        A value in [0, 1]; NaN without samples.

    >>> expected_agreement(torch.tensor([0, 1]), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    0.625
    """
    if len(predicted) == 0:
        return math.nan
    of_predicted = labels.double().gather(1, predicted.clamp_min(0)[:, None])[:, 0]
    return float(torch.where(predicted >= 0, of_predicted, 0.0).mean())


def score(predictions: Predictions) -> float:
    """Score a model by its expected agreement with the reference; NaN where a logit is not finite.

    Raises:
        ValueError: there is no reference; a study makes one of its first trials.
    """
    if predictions.reference is None:
        raise ValueError("consensus needs the reference that a study makes of its first trials")
    if not all_finite(predictions.target_logits, predictions.reference):
        return math.nan
    return expected_agreement(predictions.target_classes, predictions.reference)
