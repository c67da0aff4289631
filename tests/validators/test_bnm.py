import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.bnm import bnm, score
from iimt_search.validators.contract import Predictions


def test_by_hand() -> None:
    # Singular values of diag(1, 1) with a zero row: 1 and 1; the most is √(3 · 2).
    assert bnm(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])) == pytest.approx(
        (math.sqrt(1.5) + 1) / math.sqrt(6)
    )


@pytest.mark.parametrize("count", [3, 6, 40])
def test_against_eigenvalues(count: int) -> None:
    p = np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=count)
    gram = p @ p.T if count < 6 else p.T @ p
    norm = sum(math.sqrt(max(value, 0.0)) for value in np.linalg.eigvalsh(gram))
    assert bnm(torch.from_numpy(p)) == pytest.approx(norm / math.sqrt(count * min(count, 6)), rel=1e-6)


@pytest.mark.parametrize("repeats", [1, 25])
def test_confident_and_balanced_is_one(repeats: int) -> None:
    assert bnm(torch.eye(4).repeat(repeats, 1)) == pytest.approx(1.0)


def test_fewer_samples_than_classes_can_be_perfect() -> None:
    assert bnm(torch.eye(5)[:3]) == pytest.approx(1.0)


def test_one_class_collapse() -> None:
    assert bnm(torch.eye(4)[[2] * 12]) == pytest.approx(1 / 2)  # 1/√4


def test_uniform() -> None:
    assert bnm(torch.full((12, 4), 0.25)) == pytest.approx(1 / 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    values = torch.tensor([[bad, 0.0], [0.0, 1.0]])
    assert math.isnan(bnm(values))
    assert math.isnan(score(blank(target_logits=values)))


def test_no_samples() -> None:
    assert math.isnan(bnm(torch.zeros(0, 3)))


def test_score_is_of_the_targets_softmax(blank: Callable[..., Predictions]) -> None:
    assert score(blank(target_logits=1000 * torch.eye(3))) == pytest.approx(1.0)
