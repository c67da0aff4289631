import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.information_maximisation import information_maximisation, score


def entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def naive(rows: list[list[float]]) -> float:
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return entropy(mean) - sum(entropy(row) for row in rows) / len(rows)


def test_by_hand() -> None:
    # The mean of (1, 0) and (0.5, 0.5) is (0.75, 0.25); the mean entropy is ln 2 / 2.
    expected = entropy([0.75, 0.25]) - math.log(2) / 2
    assert information_maximisation(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(expected)


def test_against_loop() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=9))
    assert information_maximisation(p) == pytest.approx(naive(p.tolist()), rel=1e-12)


def test_sure_and_balanced_is_the_maximum() -> None:
    assert information_maximisation(torch.eye(4).repeat(3, 1)) == pytest.approx(math.log(4))


def test_one_class_collapse_is_zero() -> None:
    collapsed = torch.zeros(5, 4)
    collapsed[:, 2] = 1.0
    assert information_maximisation(collapsed) == 0.0


def test_uniform_is_zero() -> None:
    assert information_maximisation(torch.full((5, 4), 0.25)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_range(seed: int) -> None:
    p = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(5, 0.2), size=30))
    assert 0.0 < information_maximisation(p) < math.log(5)


def test_order_of_samples_and_classes_does_not_matter() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), size=6))
    expected = pytest.approx(information_maximisation(p), rel=1e-12)
    assert information_maximisation(p[[5, 0, 3, 1, 4, 2]]) == expected
    assert information_maximisation(p[:, [3, 1, 0, 2]]) == expected


def test_nan_is_passed_on() -> None:
    assert math.isnan(information_maximisation(torch.tensor([[0.5, 0.5], [math.nan, 1.0]])))


def test_score_is_of_the_targets_softmax(blank: Callable[..., Predictions]) -> None:
    target = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert score(blank(target_logits=target)) == pytest.approx(math.log(2))
