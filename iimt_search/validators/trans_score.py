"""TransScore: an even classifier, clustered embeddings and informative predictions (Yang et al. 2024).

Their Hopkins statistic raises each distance to the power D. With hundreds of dimensions it is then all but
exactly 1, which is not what they report (0.85 to 0.93), so here the power is 1. They do not say where their
random points lie: here in the smallest box around the embeddings.
"""

import math

import numpy as np
import torch
from torch import Tensor

from iimt_search.validators.canonical_order import canonical_order
from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.information_maximisation import information_maximisation

MAX_SAMPLES = 500
_EXACT = "donot_use_mm_for_euclid_dist"


def angle_deviation(weight: Tensor) -> float:
    """Return U, the mean of (θ_ij − θ_C)² over all pairs of classes i ≠ j.

    Args:
        weight: float (C, D), a linear classifier's. θ_ij is the angle between rows i and j.

    Returns:
        Radians², in [0, θ_C²], where θ_C = arccos(−1/(C − 1)) is the angle in a regular simplex: π for
        two classes, near π/2 for many. 0 for that simplex (which needs C ≤ D + 1), θ_C² where all
        rows point one way. NaN where an input is not finite, where a row is 0, for fewer than two
        classes.

    >>> round(angle_deviation(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), 6)
    0.0
    """
    classes = len(weight)
    w = weight.double()
    length = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    if classes < 2 or not all_finite(weight) or bool((length == 0).any()):
        return float("nan")
    w = w / length
    # tan(θ/2) = |a − b| / |a + b|: unlike arccos, exact near 0 and π.
    angle = 2 * torch.atan2(torch.cdist(w, w, compute_mode=_EXACT), torch.cdist(w, -w, compute_mode=_EXACT))
    pairs = angle[~torch.eye(classes, dtype=torch.bool, device=angle.device)]
    return float(((pairs - math.acos(-1 / (classes - 1))) ** 2).mean())


def hopkins(embeddings: Tensor) -> float:
    """Return H = Σu / (Σu + Σw), the Hopkins statistic.

    u are the distances of m random points to the nearest of m samples; w those of the samples to the
    nearest other one. The points are uniform in the smallest box around all embeddings, from a fixed seed.

    Args:
        embeddings: float (N, D), on the target. Of more than 500, evenly spaced ones in canonical order
            are the samples.

    Returns:
        A value in [0, 1]: near 1 for tight clusters, about 0.5 for samples as even as the points, 0 where
        all samples are the same, in which there are no clusters. NaN where an embedding is not finite,
        and for fewer than two samples.
    """
    if len(embeddings) < 2 or not all_finite(embeddings):
        return float("nan")
    f = embeddings.double().cpu().numpy()
    low, high = f.min(axis=0), f.max(axis=0)
    if (low == high).all():
        return 0.0
    samples = torch.from_numpy(f[canonical_order(f, MAX_SAMPLES)])
    uniform = np.random.default_rng(0).random(samples.shape)
    points = torch.from_numpy(low + (high - low) * uniform)
    u = torch.cdist(points, samples, compute_mode=_EXACT).min(dim=-1).values.sum()
    between = torch.cdist(samples, samples, compute_mode=_EXACT)
    between.fill_diagonal_(torch.inf)
    return float(u / (u + between.min(dim=-1).values.sum()))


def trans_score(probabilities: Tensor, embeddings: Tensor, weight: Tensor) -> float:
    """Return −U + H + MI / ln C.

    Args:
        probabilities: float (N, C), on the target, rows sum to 1. MI is what
            :mod:`iimt_search.validators.information_maximisation` computes of them.
        embeddings: float (N, D), on the target.
        weight: float (C, D), of the linear classifier on the embeddings.

    Returns:
        A value in [−θ_C², 2], with θ_C as in :func:`angle_deviation`: −π² at the least, for two
        classes. NaN where one of the three is NaN: without samples, and for fewer than two classes.
    """
    information = information_maximisation(probabilities)
    return hopkins(embeddings) - angle_deviation(weight) + information / math.log(max(len(weight), 2))


def score(predictions: Predictions) -> float:
    """Score a model by its TransScore."""
    return trans_score(
        predictions.target_probabilities,
        predictions.target_embeddings,
        predictions.classifier_weight,
    )
