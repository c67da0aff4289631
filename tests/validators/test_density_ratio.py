import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from iimt_search.validators.density_ratio import importance_weights

Floats = NDArray[np.float64]


def normal(count: int, mean: float, seed: int, dimensions: int = 3) -> Floats:
    return np.random.default_rng(seed).normal(mean, 1, (count, dimensions))


def weights(source: Floats, target: Floats) -> Floats:
    return importance_weights(torch.from_numpy(source), torch.from_numpy(target)).numpy()


def naive(source: Floats, target: Floats) -> Floats:
    """The same by general minimisation of the penalised logistic loss, halves from sorted rows."""
    halves = []
    for rows in (source, target):
        order = [i for _, i in sorted((tuple(row), i) for i, row in enumerate(rows.tolist()))]
        halves.append((order[0::2], order[1::2]))
    found = np.zeros(len(source))
    for fitted, asked in ((0, 1), (1, 0)):
        s, t = source[halves[0][fitted]], target[halves[1][fitted]]
        x = np.concatenate((s, t))
        centre, scale = x.mean(axis=0), x.std(axis=0)
        sign = np.array([-1.0] * len(s) + [1.0] * len(t))
        z = (x - centre) / scale

        def loss(b: Floats, z: Floats = z, sign: Floats = sign) -> float:
            margins = sign * (z @ b[1:] + b[0])
            return float(np.logaddexp(0, -margins).mean() + 0.01 / 2 * (b[1:] ** 2).sum())

        b = minimize(loss, np.zeros(x.shape[1] + 1), tol=1e-12).x
        p = 1 / (1 + np.exp(-((source[halves[0][asked]] - centre) / scale @ b[1:] + b[0])))
        found[halves[0][asked]] = len(s) / len(t) * p / (1 - p)
    return found


@pytest.mark.parametrize(("n_s", "n_t"), [(40, 40), (31, 50), (60, 17)])
def test_against_general_minimisation(n_s: int, n_t: int) -> None:
    source, target = normal(n_s, 0.0, seed=0), normal(n_t, 0.5, seed=1)
    assert weights(source, target) == pytest.approx(naive(source, target), rel=1e-4)


def test_gaussians_have_the_known_ratio() -> None:
    # Densities of N(1, 1) over N(0, 1): exp(x − 1/2).
    source, target = normal(4000, 0.0, 0, dimensions=1), normal(2000, 1.0, 1, dimensions=1)
    found, true = np.log(weights(source, target)), source[:, 0] - 0.5
    assert np.corrcoef(found, true)[0, 1] > 0.999
    assert np.abs(found - true).mean() < 0.1
    assert np.exp(found).mean() == pytest.approx(1.0, abs=0.1)


def test_equal_domains_have_weights_about_one() -> None:
    found = weights(normal(2000, 0.0, 0), normal(3000, 0.0, 1))
    assert np.abs(found - 1).mean() < 0.1
    assert found.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("n_s", "n_t"), [(10, 10), (9, 21), (2, 2)])
def test_collapsed_embeddings_have_weights_of_one(n_s: int, n_t: int) -> None:
    assert weights(np.full((n_s, 3), 0.7), np.full((n_t, 3), 0.7)) == pytest.approx(1.0, abs=1e-7)


def test_domains_far_apart_have_small_weights_above_zero() -> None:
    found = weights(normal(50, 0.0, 0), normal(50, 1000.0, 1))
    assert (found > 0).all() and (found < 0.05).all()


def test_samples_are_weighted_by_the_half_that_did_not_see_them() -> None:
    # Pull one sample far out: the classifier of its own half moves, which weights the other half only.
    source, target = normal(40, 0.0, 0), normal(40, 0.5, 1)
    order = np.lexsort(source.T[::-1])
    moved = source.copy()
    moved[order[10], 1:] += 5.0  # the first column, and so the order, stays
    changed = weights(source, target) != weights(moved, target)
    others = set(order[0::2].tolist()) - {int(order[10])}
    assert not changed[list(others)].any()
    assert changed[order[1::2]].all()


def test_order_does_not_matter() -> None:
    source, target = normal(41, 0.0, 0), normal(30, 0.5, 1)
    rng = np.random.default_rng(2)
    s, t = rng.permutation(41), rng.permutation(30)
    assert np.array_equal(weights(source[s], target[t]), weights(source, target)[s])


def test_scale_and_offset_of_embeddings_do_not_matter() -> None:
    source, target = normal(41, 0.0, 0), normal(30, 0.5, 1)
    scale, offset = np.array([10.0, 0.5, 100.0]), np.array([5.0, -5.0, 0.0])
    assert weights(source * scale + offset, target * scale + offset) == pytest.approx(
        weights(source, target), rel=1e-4
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["source", "target"])
def test_not_finite(bad: float, side: str) -> None:
    source, target = normal(6, 0.0, 0), normal(6, 0.5, 1)
    (source if side == "source" else target)[3, 1] = bad
    assert np.isnan(weights(source, target)).all()


@pytest.mark.parametrize(("n_s", "n_t"), [(1, 5), (5, 1), (0, 5), (5, 0)])
def test_too_few_samples(n_s: int, n_t: int) -> None:
    found = weights(normal(n_s, 0.0, 0), normal(n_t, 0.0, 1))
    assert len(found) == n_s and np.isnan(found).all()
