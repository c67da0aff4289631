import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_accuracy import score, source_accuracy


def test_by_hand() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 2.0], [5.0, 1.0, 2.0]])
    assert source_accuracy(logits, torch.tensor([0, 1, 1, 2])) == 0.5
    assert source_accuracy(logits, torch.tensor([0, 1, 2, 0])) == 1.0
    assert source_accuracy(logits, torch.tensor([1, 0, 0, 1])) == 0.0


def test_against_loop() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(37, 5)), rng.integers(0, 5, 37)
    hits = sum(
        max(range(5), key=lambda c, row=row: row[c]) == y for row, y in zip(logits, labels, strict=True)
    )
    assert source_accuracy(torch.from_numpy(logits), torch.from_numpy(labels)) == hits / 37


def test_one_class_collapse_is_that_classs_share() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.0]]).repeat(8, 1)
    assert source_accuracy(logits, torch.tensor([1, 1, 1, 0, 0, 2, 2, 2])) == 3 / 8


def test_a_tie_counts_its_share() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert (
        source_accuracy(logits[:1], torch.tensor([0]))
        == source_accuracy(logits[1:2], torch.tensor([1]))
        == 0.5
    )
    assert source_accuracy(logits, torch.tensor([0, 2, 1])) == pytest.approx((1 / 2 + 0 + 1 / 3) / 3)


def test_no_samples() -> None:
    assert math.isnan(source_accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


def test_order_of_samples_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.normal(size=(20, 4))), torch.from_numpy(rng.integers(0, 4, 20))
    order = torch.from_numpy(rng.permutation(20))
    assert source_accuracy(logits[order], labels[order]) == source_accuracy(logits, labels)


def test_nan_logits_have_no_accuracy() -> None:
    logits = torch.tensor([[math.nan, math.nan], [0.0, 1.0]])
    assert math.isnan(source_accuracy(logits, torch.tensor([0, 1])))


def test_score_looks_at_the_source(blank: Callable[..., Predictions]) -> None:
    right, wrong = torch.eye(2), torch.eye(2).flip(0)
    given = blank(
        source_logits=right, source_labels=torch.tensor([0, 1]), target_logits=wrong, reverse_logits=wrong
    )
    assert score(given) == 1.0
