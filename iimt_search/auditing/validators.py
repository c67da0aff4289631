"""How well each validator picks and ranks the models of one task, by their sealed test accuracies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import rankdata

from iimt_search.files import strict_json


def weighted_spearman(scores: Sequence[float], accuracies: Sequence[float], power: float = 2.0) -> float:
    """Return the Spearman correlation with more weight on what either ranks high (Musgrave et al. 2022).

    A validator is used to find the best, so confusing bad models with each other costs nothing, and
    ranking a bad one high or a good one low costs much: each pair of ranks has the weight
    ``max(rank of score, rank of accuracy) ** power``.

    Args:
        scores: (N,), higher is better.
        accuracies: (N,).
        power: 0 gives the plain Spearman correlation.

    Returns:
        A value in [−1, 1]; NaN of fewer than two, or where either is constant.
    """
    if len(set(scores)) < 2 or len(set(accuracies)) < 2:
        return float("nan")
    a, b = rankdata(scores), rankdata(accuracies)
    weight = np.maximum(a, b) ** power
    weight /= weight.sum()
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    return float((weight * a * b).sum() / np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))


# A pick with less than this share of source-only's accuracy is catastrophic.
CATASTROPHIC = 0.5


@dataclass(frozen=True)
class ValidatorAudit:
    """One validator on one task. Accuracies and gaps in percent.

    Attributes:
        target_accuracy: of the model that it scores best.
        oracle_gap: how far that lies below the best model's.
        spearman: of its scores with the accuracies, higher is better; NaN where it scores all alike.
        weighted_spearman: the same with more weight on what either ranks high.
    """

    target_accuracy: float
    oracle_gap: float
    spearman: float
    weighted_spearman: float


def audit_validator(
    higher_is_better: bool, scores: Sequence[float], accuracies: Sequence[float], oracle: float
) -> ValidatorAudit | None:
    """Measure a validator on a pool of models.

    Args:
        higher_is_better: its direction.
        scores: its score of each model; a model whose score is NaN is not picked and not ranked.
        accuracies: target test accuracy of each, in percent.
        oracle: the best accuracy that there is, in percent.

    Returns:
        None where it has scored no model.
    """
    sign = 1.0 if higher_is_better else -1.0
    known = [(sign * s, a) for s, a in zip(scores, accuracies, strict=True) if math.isfinite(s)]
    if not known:
        return None
    higher, accuracy = zip(*known, strict=True)
    picked = accuracy[higher.index(max(higher))]
    return ValidatorAudit(
        target_accuracy=picked,
        oracle_gap=oracle - picked,
        spearman=weighted_spearman(higher, accuracy, power=0),
        weighted_spearman=weighted_spearman(higher, accuracy),
    )


def mean_finite(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; NaN where none is."""
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def pick_summary(
    picked: Mapping[str, float], oracle: Mapping[str, float], source_only: Mapping[str, float]
) -> dict[str, Any]:
    """Summarise what was picked over the tasks.

    Args:
        picked: task → accuracy of the picked model, in percent.
        oracle: task → best accuracy.
        source_only: task → accuracy without adaptation.
    """
    gaps = [oracle[task] - value for task, value in picked.items()]
    gains = [value - source_only[task] for task, value in picked.items()]
    return {
        "target_accuracy": fmean(picked.values()),
        "oracle_gap": fmean(gaps),
        "worst_oracle_gap": max(gaps),
        "mean_gain": fmean(gains),
        "worst_gain": min(gains),
        "below_source_only_rate": fmean(gain < 0 for gain in gains),
        "catastrophic_rate": fmean(
            value < CATASTROPHIC * source_only[task] for task, value in picked.items()
        ),
    }


def validator_summary(
    audits: Mapping[str, ValidatorAudit], oracle: Mapping[str, float], source_only: Mapping[str, float]
) -> dict[str, Any]:
    """Summarise one validator over the tasks that it has scored, as JSON values."""
    picked = {task: audit.target_accuracy for task, audit in audits.items()}
    summary = {
        **pick_summary(picked, oracle, source_only),
        "spearman": mean_finite([audit.spearman for audit in audits.values()]),
        "weighted_spearman": mean_finite([audit.weighted_spearman for audit in audits.values()]),
    }
    return {name: strict_json(value) for name, value in summary.items()}
