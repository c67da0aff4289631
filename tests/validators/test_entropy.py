import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.entropy import mean_entropy, score

Blank = Callable[..., Predictions]


def naive(rows: list[list[float]]) -> float:
    return sum(-sum(p * math.log(p) for p in row if p > 0) for row in rows) / len(rows)


def test_by_hand() -> None:
    # ln 2 for the even row, 0 for the sure one.
    assert mean_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(math.log(2) / 2)


def test_against_loop() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=9))
    assert mean_entropy(p) == pytest.approx(naive(p.tolist()), rel=1e-12)


def test_one_class_collapse_is_perfect() -> None:
    collapsed = torch.zeros(5, 4)
    collapsed[:, 2] = 1.0
    assert mean_entropy(collapsed) == 0.0


def test_uniform_is_the_maximum() -> None:
    assert mean_entropy(torch.full((5, 4), 0.25)) == pytest.approx(math.log(4))


def test_order_of_samples_and_classes_does_not_matter() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), size=6))
    assert mean_entropy(p[[5, 0, 3, 1, 4, 2]]) == pytest.approx(mean_entropy(p), rel=1e-14)
    assert mean_entropy(p[:, [3, 1, 0, 2]]) == pytest.approx(mean_entropy(p), rel=1e-14)


def test_nan_is_passed_on(blank: Blank) -> None:
    assert math.isnan(mean_entropy(torch.tensor([[0.5, 0.5], [math.nan, 1.0]])))
    assert math.isnan(score(blank(target_logits=torch.tensor([[0.0, 0.0], [math.nan, 1.0]]))))


def test_score_is_of_the_targets_softmax(blank: Blank) -> None:
    # softmax(ln 3, 0) = (3/4, 1/4)
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert score(blank(target_logits=torch.tensor([[math.log(3), 0.0]]))) == pytest.approx(expected, rel=1e-6)


def test_score_of_huge_logits_is_finite(blank: Blank) -> None:
    assert score(blank(target_logits=torch.tensor([[1e4, -1e4], [-3e38, 3e38]]))) == 0.0
