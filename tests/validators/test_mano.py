import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.mano import mano, score


def test_by_hand() -> None:
    # (1 + 0 + 1/16 + 1/16) / 4 = 9/32
    assert mano(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx((9 / 32) ** 0.25)


def test_against_loop() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=19)
    naive = (sum(x**4 for row in p.tolist() for x in row) / (19 * 6)) ** 0.25
    assert mano(torch.from_numpy(p)) == pytest.approx(naive, rel=1e-12)


def test_uniform_is_the_minimum() -> None:
    assert mano(torch.full((7, 4), 0.25)) == pytest.approx(1 / 4)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1, 1, 1, 1]])
def test_confident_is_the_maximum_even_as_a_collapse(rows: list[int]) -> None:
    assert mano(torch.eye(4)[rows]) == pytest.approx(4**-0.25)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    assert math.isnan(mano(torch.tensor([[math.nan, 0.0], [0.0, 1.0]])))
    assert math.isnan(score(blank(target_logits=torch.tensor([[bad, 0.0], [0.0, 1.0]]))))


def test_no_samples() -> None:
    assert math.isnan(mano(torch.zeros(0, 3)))


def test_score_is_of_the_targets_softmax(blank: Callable[..., Predictions]) -> None:
    assert score(blank(target_logits=1000 * torch.eye(4))) == pytest.approx(4**-0.25)
