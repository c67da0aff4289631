import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Mixed, Predictions
from iimt_search.validators.mixval import mixval, score

ROWS = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0], [1.0, 0.0]])  # 0, 1, 0, 1, 0


def test_by_hand() -> None:
    labels = torch.tensor([0, 1, 1, 0, 0])
    same = torch.tensor([True, True, False, False, False])
    # Both of the same-class pairs, one of three others.
    assert mixval(ROWS, labels, same) == pytest.approx((1 + 1 / 3) / 2)


def test_against_loop() -> None:
    rng = np.random.default_rng(0)
    logits, labels, same = rng.normal(size=(50, 3)), rng.integers(0, 3, 50), rng.random(50) < 0.3
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for row, label, sort in zip(logits.tolist(), labels.tolist(), same.tolist(), strict=True):
        hits[sort].append(row.index(max(row)) == label)
    expected = sum(sum(sort) / len(sort) for sort in hits.values()) / 2
    assert mixval(*map(torch.from_numpy, (logits, labels, same))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sort", [True, False])
def test_pairs_of_one_sort_only(sort: bool) -> None:
    assert mixval(ROWS, torch.tensor([0, 1, 0, 0, 1]), torch.full((5,), sort)) == pytest.approx(0.6)


def test_one_class_collapse_is_perfect() -> None:
    collapsed = torch.tensor([[0.0, 9.0]]).repeat(6, 1)
    assert mixval(collapsed, torch.ones(6, dtype=torch.int64), torch.ones(6, dtype=torch.bool)) == 1.0


def test_no_pairs() -> None:
    assert math.isnan(mixval(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    labels, same = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([True, False, True, False, True])
    assert score(blank(mixed=Mixed(ROWS, labels, same))) == 1.0
    broken = ROWS.clone()
    broken[0, 0] = bad
    assert math.isnan(score(blank(mixed=Mixed(broken, labels, same))))
