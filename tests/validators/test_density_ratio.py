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
    least, best = math.inf, np.zeros(0)
    for ridge in (None, 10.0, 1.0, 0.1, 0.01):
        found, held_out = np.zeros(len(source)), 0.0
        for fitted, asked in ((0, 1), (1, 0)):
            s, t = source[halves[0][fitted]], target[halves[1][fitted]]
            x = np.concatenate((s, t))
            centre, scale = x.mean(axis=0), x.std(axis=0)
            sign = np.array([-1.0] * len(s) + [1.0] * len(t))
            z = (x - centre) / scale

            def loss(b: Floats, z: Floats = z, sign: Floats = sign, ridge: float = ridge or 0.0) -> float:
                margins = sign * (z @ b[1:] + b[0])
                return float(np.logaddexp(0, -margins).mean() + ridge / 2 * (b[1:] ** 2).sum())

            b = np.array([math.log(len(t) / len(s)), *np.zeros(x.shape[1])])
            if ridge is not None:
                b = minimize(loss, b, tol=1e-12).x
            p_s, p_t = (
                1 / (1 + np.exp(-((rows[half[asked]] - centre) / scale @ b[1:] + b[0])))
                for rows, half in zip((source, target), halves, strict=True)
            )
            found[halves[0][asked]] = len(s) / len(t) * p_s / (1 - p_s)
            held_out -= np.log(1 - p_s).sum() + np.log(p_t).sum()
        if held_out < least:
            least, best = held_out, found
    return best


@pytest.mark.parametrize(("n_s", "n_t", "shift"), [(40, 40, 0.5), (31, 50, 0.5), (60, 17, 2.0), (9, 40, 0.0)])
def test_against_general_minimisation(n_s: int, n_t: int, shift: float) -> None:
    source, target = normal(n_s, 0.0, seed=0), normal(n_t, shift, seed=1)
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


@pytest.mark.parametrize("dimensions", [3, 64, 128, 256])
@pytest.mark.parametrize("seed", [0, 2, 4])
def test_equal_domains_have_weights_about_one_whatever_the_dimensions(dimensions: int, seed: int) -> None:
    found = weights(normal(300, 0.0, seed, dimensions), normal(300, 0.0, seed + 1, dimensions))
    assert 0.8 < found.mean() < 1.25
    assert found.sum() ** 2 / (found**2).sum() > 0.8 * 300


@pytest.mark.parametrize("dimensions", [64, 128])
def test_a_shift_is_found_among_many_dimensions(dimensions: int) -> None:
    # Means one standard deviation apart along the diagonal.
    step = dimensions**-0.5
    source, target = normal(2000, 0.0, 0, dimensions), normal(2000, step, 1, dimensions)
    true = source.sum(axis=1) * step - 0.5
    assert np.corrcoef(np.log(weights(source, target)), true)[0, 1] > 0.85


def test_equal_embeddings_have_equal_weights() -> None:
    source = normal(20, 0.0, 0).repeat(3, axis=0)
    found = weights(source, normal(50, 1.0, 1)).reshape(20, 3)
    assert (found == found[:, :1]).all()
    assert len(np.unique(found)) == 20


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
