"""EnsV: does a candidate predict what all candidates predict together? (Hu et al. 2023b)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from iimt_search.validators.contract import all_finite
from iimt_search.validators.ties import votes


def ensemble_agreement(logits: Sequence[Tensor]) -> list[float]:
    """Return each candidate's agreement with the ensemble of all.

    Args:
        logits: of each candidate, float (N, C), on the same samples in one order.

    Returns:
        Of each candidate the share of samples, in [0, 1], for which it predicts the class with the
        highest mean probability over the candidates; where classes tie, on either side, what the two
        votes of :mod:`iimt_search.validators.ties` have in common. A candidate whose logits are not
        all finite has NaN, and no say in that mean. 1 for a candidate alone; NaN without samples.

    >>> sure, other = torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.1, 0.0], [0.1, 0.0]])
    >>> ensemble_agreement([sure, other])
    [1.0, 0.5]
    """
    sound = [all_finite(candidate) for candidate in logits]
    if not any(sound):
        return [float("nan")] * len(logits)
    total = torch.zeros((), dtype=torch.float64)
    for candidate, finite in zip(logits, sound, strict=True):
        if finite:
            total = total + torch.softmax(candidate.double(), dim=-1)
    together = votes(total)
    return [
        float(torch.minimum(votes(candidate), together).sum(dim=-1).mean()) if finite else float("nan")
        for candidate, finite in zip(logits, sound, strict=True)
    ]


def score_pool(pool: Sequence[Tensor]) -> list[float]:
    """Score every candidate of a pool by its agreement with their ensemble on the target."""
    return ensemble_agreement(pool)
