import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_risk import score, source_losses

Blank = Callable[..., Predictions]


def naive(rows: list[list[float]], labels: list[int]) -> list[float]:
    return [
        math.log(sum(math.exp(x) for x in row)) - row[label] for row, label in zip(rows, labels, strict=True)
    ]


def test_by_hand(blank: Blank) -> None:
    # softmax(ln 3, 0) = (3/4, 1/4)
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    losses = source_losses(logits, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4)], rel=1e-6)
    given = blank(source_logits=logits, source_labels=torch.tensor([0, 1]))
    assert score(given) == pytest.approx(math.log(16 / 3) / 2, rel=1e-6)


def test_against_loop() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (23, 5)), rng.integers(0, 5, 23)
    losses = source_losses(torch.from_numpy(logits), torch.from_numpy(labels))
    assert losses.tolist() == pytest.approx(naive(logits.tolist(), labels.tolist()), rel=1e-12)


def test_uniform_is_ln_of_the_classes(blank: Blank) -> None:
    given = blank(source_logits=torch.zeros(6, 4), source_labels=torch.arange(6) % 4)
    assert score(given) == pytest.approx(math.log(4))


def test_confident_collapse_costs_its_margin(blank: Blank) -> None:
    logits = torch.tensor([[100.0, 0.0]]).repeat(4, 1)
    given = blank(source_logits=logits, source_labels=torch.tensor([0, 1, 1, 1]))
    assert score(given) == pytest.approx(75.0)


def test_huge_logits_are_finite(blank: Blank) -> None:
    logits = torch.tensor([[3e38, -3e38], [3e38, -3e38]])
    assert score(blank(source_logits=logits, source_labels=torch.tensor([0, 0]))) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(bad: float, blank: Blank) -> None:
    given = blank(source_logits=torch.tensor([[bad, 0.0], [0.0, 1.0]]), source_labels=torch.tensor([1, 1]))
    assert math.isnan(score(given))
