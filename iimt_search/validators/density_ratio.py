"""Importance weights: how likely is a source sample in the target? (Bickel et al. 2007; You et al. 2019)."""

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from iimt_search.validators.canonical_order import canonical_order
from iimt_search.validators.contract import all_finite

Floats = NDArray[np.float64]

# Penalties on the squared weights of the domain classifier, for each sample it is fitted to.
RIDGES = (10.0, 1.0, 0.1, 0.01)
# The largest logarithm of a weight, either way: none becomes 0 or infinite.
MOST_LOG_WEIGHT = 30.0


def _log_ratio(source: Floats, target: Floats, asked: Floats, ridge: float) -> Floats:
    """Fit a domain classifier to two domains, and return the log density ratio at other samples."""
    fitted = np.concatenate((source, target))
    centre, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
    domain = np.repeat((0, 1), (len(source), len(target)))
    classifier = LogisticRegression(
        C=1 / (ridge * len(fitted)), solver="newton-cholesky", tol=1e-8, max_iter=200
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit((fitted - centre) / scale, domain)
    log_odds: Floats = classifier.decision_function((asked - centre) / scale)
    found = math.log(len(source) / len(target)) + log_odds
    return np.clip(found, -MOST_LOG_WEIGHT, MOST_LOG_WEIGHT)


def _cross_fitted(source: Floats, target: Floats, ridge: float) -> tuple[Floats, float]:
    """Return each source sample's log density ratio, and the log-loss on both domains, by the other half."""
    found, loss = np.zeros(len(source)), 0.0
    for half in (0, 1):
        s, t = source[half::2], target[half::2]
        asked = np.concatenate((source[1 - half :: 2], target[1 - half :: 2]))
        ratio = np.zeros(len(asked)) if math.isinf(ridge) else _log_ratio(s, t, asked, ridge)
        found[1 - half :: 2], at_target = np.split(ratio, [len(source[1 - half :: 2])])
        prior = math.log(len(t) / len(s))
        loss += float(np.logaddexp(0, found[1 - half :: 2] + prior).sum())
        loss += float(np.logaddexp(0, -at_target - prior).sum())
    return found, loss


def importance_weights(source_embeddings: Tensor, target_embeddings: Tensor) -> Tensor:
    """Estimate p(target) / p(source) at every source sample with a linear domain classifier.

    A ridge-penalised logistic regression on standardised embeddings tells the domains apart. There are
    two: each is fitted to every second sample of both domains, in canonical order, and weights the
    source samples that the other one was fitted to, so that none is weighted by what learned it. Their
    ridge is the one of :data:`RIDGES` with the least log-loss on those other halves, or infinite (all
    weights 1) where none does better than not looking at the embeddings. Equal embeddings have equal
    weights, their mean.

    Args:
        source_embeddings: float (N_s, D), held-out samples.
        target_embeddings: float (N_t, D).

    Returns:
        float64 (N_s,), w = (n_s / n_t) · p(target | f) / p(source | f) with the sample counts of the
        fitted half, between e⁻³⁰ and e³⁰. 1 where the domains cannot be told apart, collapsed
        embeddings included. Their mean is about 1 where the domains overlap, and near 0 where they
        do not. All NaN where an embedding is not finite, and for fewer than two samples of a domain.

    >>> same = torch.ones(4, 2)
    >>> importance_weights(same, same).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    weights = np.full(len(source_embeddings), np.nan)
    enough = min(len(source_embeddings), len(target_embeddings)) >= 2
    if enough and all_finite(source_embeddings, target_embeddings):
        f_s, f_t = (f.double().cpu().numpy() for f in (source_embeddings, target_embeddings))
        order = canonical_order(f_s)
        f_s, f_t = f_s[order], f_t[canonical_order(f_t)]
        # min takes the first of equals, the strongest ridge.
        log_ratio, _ = min(
            (_cross_fitted(f_s, f_t, ridge) for ridge in (math.inf, *RIDGES)), key=lambda fit: fit[1]
        )
        place = np.concatenate(([0], (f_s[1:] != f_s[:-1]).any(axis=1).cumsum()))
        weights[order] = (np.bincount(place, np.exp(log_ratio)) / np.bincount(place))[place]
    return torch.from_numpy(weights)
