"""Do models of one configuration, trained with different seeds, predict the same of the target?

Two trainings that differ in their seeds only disagree about as often as each is wrong (Nakkiran and Bansal
2020; Jiang et al. 2022, "Assessing generalization via disagreement"): no label is needed to count it.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.training.kept import load_kept_predictions


def agreement(predicted: Sequence[Tensor]) -> float:
    """Return the mean chance-corrected agreement (Cohen's κ) of all pairs of models.

    Args:
        predicted: int64 (N,) for each model, its predicted classes of the same samples.

    Returns:
        At most 1; 0 where models agree no more than by chance, as two that each predict one class only
        do. NaN of fewer than two models.
    """
    if len(predicted) < 2:
        return math.nan

    def kappa(a: Tensor, b: Tensor) -> float:
        if a.unique().numel() < 2 and b.unique().numel() < 2:
            return 0.0
        return float(cohen_kappa_score(a.numpy(), b.numpy()))

    return fmean(kappa(a, b) for a, b in combinations(predicted, 2))


def kept_agreement(files: Sequence[Path]) -> float:
    """Return the :func:`agreement` of kept checkpoints of one task; NaN where one cannot be read."""
    try:
        logits = [load_kept_predictions(path).target_logits for path in files]
    except ModelFileError:
        return math.nan
    if not all(bool(each.isfinite().all()) for each in logits):
        return math.nan
    return agreement([each.argmax(dim=-1) for each in logits])
