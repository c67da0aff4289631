"""Importance weights: how likely is a source sample in the target? (Bickel et al. 2007; You et al. 2019)."""

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

# Penalty on the squared weights of the domain classifier, for each sample it is fitted to.
RIDGE = 0.01
# The largest logarithm of a weight, either way: none becomes 0 or infinite.
MOST_LOG_WEIGHT = 30.0


def _ratio(source: Floats, target: Floats, asked: Floats) -> Floats:
    """Fit a domain classifier to two domains, and return the density ratio at other samples."""
    fitted = np.concatenate((source, target))
    centre, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
    domain = np.repeat((0, 1), (len(source), len(target)))
    classifier = LogisticRegression(
        C=1 / (RIDGE * len(fitted)), solver="newton-cholesky", tol=1e-8, max_iter=200
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit((fitted - centre) / scale, domain)
    log_odds = classifier.decision_function((asked - centre) / scale)
    log_ratio = np.log(len(source) / len(target)) + log_odds
    return np.asarray(np.exp(np.clip(log_ratio, -MOST_LOG_WEIGHT, MOST_LOG_WEIGHT)), dtype=np.float64)


def importance_weights(source_embeddings: Tensor, target_embeddings: Tensor) -> Tensor:
    """Estimate p(target) / p(source) at every source sample with a linear domain classifier.

    A ridge-penalised logistic regression on standardised embeddings tells the domains apart. There are
    two: each is fitted to every second sample of both domains, in canonical order, and weights the
    source samples that the other one was fitted to, so that none is weighted by what learned it.

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
        order_s, order_t = canonical_order(f_s), canonical_order(f_t)
        for half in (0, 1):
            asked = order_s[1 - half :: 2]
            weights[asked] = _ratio(f_s[order_s[half::2]], f_t[order_t[half::2]], f_s[asked])
    return torch.from_numpy(weights)
