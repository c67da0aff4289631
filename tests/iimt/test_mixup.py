import math

import numpy as np
import pytest
import torch

from iimt_search.iimt.mixup import mix, mixing_coefficients


@pytest.mark.parametrize("alpha", [1e-9, 0.1, 1.0, 2.0, 100.0])
def test_first_operand_dominates(alpha: float) -> None:
    drawn = mixing_coefficients(alpha, 5000, np.random.default_rng(0))
    assert drawn.shape == (5000,)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0.5
    assert drawn.max() <= 1.0


def folded_uniform(share: float) -> float:
    return 0.5 + share / 2


def folded_arcsine(share: float) -> float:
    # Beta(½, ½) has the distribution function (2/π) arcsin √x; max(λ, 1 − λ) ≤ q iff it is ≤ (1 + share)/2.
    return math.sin(math.pi * (1 + share) / 4) ** 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("alpha", "quantile"), [(1.0, folded_uniform), (0.5, folded_arcsine)])
def test_quantiles_are_those_of_folded_beta(alpha: float, quantile: object, share: float) -> None:
    assert callable(quantile)
    drawn = mixing_coefficients(alpha, 40_000, np.random.default_rng(1))
    assert float(np.quantile(drawn.numpy(), share)) == pytest.approx(quantile(share), abs=0.008)


def test_mean_for_alpha_two() -> None:
    # E max(λ, 1 − λ) = ½ + 2 ∫_0^½ u · 6(¼ − u²) du = 0.5 + 0.1875.
    drawn = mixing_coefficients(2.0, 40_000, np.random.default_rng(2))
    assert drawn.double().mean().item() == pytest.approx(0.6875, abs=0.003)


def test_reproducible_from_the_generator() -> None:
    first = mixing_coefficients(0.7, 16, np.random.default_rng(5))
    assert torch.equal(first, mixing_coefficients(0.7, 16, np.random.default_rng(5)))
    assert not torch.equal(first, mixing_coefficients(0.7, 16, np.random.default_rng(6)))
    rng = np.random.default_rng(5)
    assert torch.equal(first, mixing_coefficients(0.7, 16, rng))
    assert not torch.equal(first, mixing_coefficients(0.7, 16, rng))


def test_global_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    mixing_coefficients(1.0, 8, np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_samples() -> None:
    assert mixing_coefficients(1.0, 0, np.random.default_rng(0)).shape == (0,)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_invalid_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"`alpha > 0` must hold, got {alpha}"):
        mixing_coefficients(alpha, 4, np.random.default_rng(0))


def test_nan_alpha() -> None:
    with pytest.raises(ValueError, match=r"`alpha > 0` must hold, got nan"):
        mixing_coefficients(math.nan, 4, np.random.default_rng(0))


def test_mix_by_hand() -> None:
    dominant, other = torch.tensor([[1.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0], [8.0, 0.0]])
    mixed = mix(dominant, other, torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 0.25], [4.0, 2.0]]))


def test_mix_ends() -> None:
    dominant, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert torch.equal(mix(dominant, other, torch.tensor([1.0])), dominant)
    assert torch.equal(mix(dominant, other, torch.tensor([0.0])), other)
    torch.testing.assert_close(mix(dominant, dominant, torch.tensor([0.6])), dominant)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2, 5)])
def test_mix_against_loop(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, *shape))
    weights = rng.uniform(0.5, 1, shape[0])
    expected = np.stack([w * x + (1 - w) * y for w, x, y in zip(weights, a, b, strict=True)])
    mixed = mix(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(weights))
    torch.testing.assert_close(mixed, torch.from_numpy(expected))


def test_swapping_operands_is_swapping_coefficients() -> None:
    rng = np.random.default_rng(0)
    a, b = torch.from_numpy(rng.normal(size=(2, 4, 3)))
    weights = torch.from_numpy(rng.uniform(0.5, 1, 4))
    torch.testing.assert_close(mix(a, b, weights), mix(b, a, 1 - weights))


def test_mixtures_of_labels_are_labels() -> None:
    rng = np.random.default_rng(0)
    a, b = torch.from_numpy(rng.dirichlet(np.ones(5), size=(2, 6)))
    mixed = mix(a, b, torch.from_numpy(rng.uniform(0.5, 1, 6)))
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert (mixed >= 0).all()
