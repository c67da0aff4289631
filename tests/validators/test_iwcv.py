import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.density_ratio import importance_weights
from iimt_search.validators.iwcv import score, weighted_risk
from iimt_search.validators.source_risk import score as source_risk


def test_by_hand() -> None:
    assert weighted_risk(torch.tensor([1.0, 3.0, 0.0]), torch.tensor([0.5, 2.0, 9.0])) == pytest.approx(
        6.5 / 3
    )


def test_weights_of_one_leave_the_plain_risk() -> None:
    losses = torch.tensor([1.0, 3.0, 0.5])
    assert weighted_risk(losses, torch.ones(3)) == pytest.approx(1.5)


def test_collapsed_embeddings_leave_the_plain_risk(model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    given = replace(
        given, source_embeddings=torch.full((80, 3), 0.7), target_embeddings=torch.full((51, 3), 0.7)
    )
    assert score(given) == pytest.approx(source_risk(given), rel=1e-6)


def test_score_against_loop(model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    weights = importance_weights(given.source_embeddings, given.target_embeddings).tolist()
    total = 0.0
    for row, label, weight in zip(
        given.source_logits.tolist(), given.source_labels.tolist(), weights, strict=True
    ):
        total += weight * (math.log(sum(map(math.exp, row))) - row[label])
    assert score(given) == pytest.approx(total / len(weights), rel=1e-9)
    assert score(given) != pytest.approx(source_risk(given), rel=1e-3)


@pytest.mark.parametrize("part", ["source_logits", "source_embeddings", "target_embeddings"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite(part: str, bad: float, model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    getattr(given, part)[1, 1] = bad
    assert math.isnan(score(given))
