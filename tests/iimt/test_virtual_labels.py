import math

import numpy as np
import pytest
import torch

from iimt_search.iimt.virtual_labels import mean_prediction, sharpen


def naive_sharpen(rows: list[list[float]], temperature: float) -> list[list[float]]:
    powers = [[p ** (1 / temperature) for p in row] for row in rows]
    return [[p / sum(row) for p in row] for row in powers]


def test_sharpen_by_hand() -> None:
    # (0.75, 0.25) squared is (0.5625, 0.0625): 9 to 1.
    sharp = sharpen(torch.tensor([[0.75, 0.25]]), 0.5)
    torch.testing.assert_close(sharp, torch.tensor([[0.9, 0.1]]))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 0.9, 2.0, 10.0])
def test_sharpen_against_loop(temperature: float) -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), size=6))
    expected = torch.tensor(naive_sharpen(p.tolist(), temperature), dtype=torch.float64)
    torch.testing.assert_close(sharpen(p, temperature), expected)


def test_temperature_one_changes_nothing() -> None:
    p = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(sharpen(p, 1.0), p)


@pytest.mark.parametrize("temperature", [1e-2, 1e-6, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_temperature_is_argmax(temperature: float, dtype: torch.dtype) -> None:
    p = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]], dtype=dtype)
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=dtype)
    torch.testing.assert_close(sharpen(p, temperature), expected)


def test_smallest_temperature_is_argmax() -> None:
    p = torch.tensor([[0.6, 0.4, 0.0]])
    torch.testing.assert_close(sharpen(p, 1e-40), torch.tensor([[1.0, 0.0, 0.0]]))


def test_ties_stay_ties() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(sharpen(p, 1e-6), p)
    uniform = torch.full((1, 10), 0.1)
    torch.testing.assert_close(sharpen(uniform, 0.1), uniform)


def test_large_temperature_flattens() -> None:
    torch.testing.assert_close(sharpen(torch.tensor([[0.9, 0.1]]), 1e6), torch.tensor([[0.5, 0.5]]))


def test_sharpening_keeps_order_and_sums_to_one() -> None:
    p = torch.from_numpy(np.random.default_rng(1).dirichlet(np.ones(5), size=(3, 4)))
    sharp = sharpen(p, 0.3)
    assert sharp.shape == p.shape
    assert torch.equal(sharp.argsort(dim=-1), p.argsort(dim=-1))
    torch.testing.assert_close(sharp.sum(dim=-1), torch.ones(3, 4, dtype=torch.float64))
    assert (sharp.amax(dim=-1) > p.amax(dim=-1)).all()


@pytest.mark.parametrize("temperature", [0.0, -0.5])
def test_invalid_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"`temperature > 0` must hold, got {temperature}"):
        sharpen(torch.tensor([[0.5, 0.5]]), temperature)


def test_nan_temperature() -> None:
    with pytest.raises(ValueError, match=r"`temperature > 0` must hold, got nan"):
        sharpen(torch.tensor([[0.5, 0.5]]), math.nan)


def virtual_labels(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return sharpen(mean_prediction(logits), temperature)


def test_virtual_labels_average_before_they_sharpen() -> None:
    # Mean of (0.9, 0.1) and (0.2, 0.8) is (0.55, 0.45); its squares are 0.3025 and 0.2025.
    # Sharpening first would give 0.5233 instead of 0.5990.
    logits = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]], dtype=torch.float64).log()
    expected = torch.tensor([[0.3025 / 0.505, 0.2025 / 0.505]], dtype=torch.float64)
    torch.testing.assert_close(virtual_labels(logits, 0.5), expected)


def test_virtual_labels_average_probabilities_not_logits() -> None:
    # Logits (4, 0) and (−2, 0) have the mean (1, 0), whose softmax is 0.731; the mean probability is 0.551.
    logits = torch.tensor([[[4.0, 0.0]], [[-2.0, 0.0]]])
    mean = (1 / (1 + math.exp(-4)) + 1 / (1 + math.exp(2))) / 2
    assert virtual_labels(logits, 1.0)[0, 0].item() == pytest.approx(mean, rel=1e-6)


def test_one_augmentation_is_sharpened_softmax() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 6, 4)))
    expected = sharpen(torch.softmax(logits[0], dim=-1), 0.4)
    torch.testing.assert_close(virtual_labels(logits, 0.4), expected)


def test_order_of_augmentations_does_not_matter_and_of_samples_is_kept() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 6, 4)))
    labels = virtual_labels(logits, 0.5)
    assert labels.shape == (6, 4)
    torch.testing.assert_close(virtual_labels(logits[[2, 0, 1]], 0.5), labels)
    order = [5, 0, 3, 1, 4, 2]
    torch.testing.assert_close(virtual_labels(logits[:, order], 0.5), labels[order])


def test_no_gradient_flows() -> None:
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    labels = virtual_labels(logits, 0.5)
    assert not labels.requires_grad
    assert labels.grad_fn is None
