"""MixVal: are mixtures of target samples predicted as their first samples are? (Hu et al. 2023)."""

import math

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.ties import votes


def mixval(logits: Tensor, labels: Tensor, same: Tensor) -> float:
    """Return the mean of the shares of rightly predicted mixtures, of the two sorts of pairs.

    Pairs of one predicted class probe whether its samples lie together, pairs of two classes where the
    border between them is. Each sort counts a half, however many pairs it has; Hu et al. compute the two
    shares apart.

    Args:
        logits: float (M, C), of 0.55 of a pair's first sample and 0.45 of its second.
        labels: int64 (M,), the class predicted for the first.
        same: bool (M,), whether the same is predicted for the second.

    Returns:
        A value in [0, 1]. Where there are pairs of one sort only, the share of that sort: a collapse to
        one class has no pairs of two classes, and scores 1. A mixture counts 1/m where m classes tie
        for its highest logit and its label is one of them. NaN where a logit is not finite, and where
        there is no pair at all.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> mixval(logits, torch.tensor([0, 1, 1]), torch.tensor([True, True, False]))
    0.5
    """
    if not all_finite(logits):
        return float("nan")
    right = votes(logits).gather(1, labels[:, None])[:, 0]
    shares = [float(right[sort].mean()) for sort in (same, ~same)]
    found = [share for share in shares if not math.isnan(share)]
    return sum(found) / len(found) if found else float("nan")


def score(predictions: Predictions) -> float:
    """Score a model by its predictions of mixed target samples.

    Raises:
        ValueError: there are none; they are made at a training's end.
    """
    mixed = predictions.mixed
    if mixed is None:
        raise ValueError("mixval needs predictions of mixtures, which are made at a training's end")
    return mixval(mixed.logits, mixed.labels, mixed.same)
