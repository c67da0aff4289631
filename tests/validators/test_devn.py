import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.density_ratio import importance_weights
from iimt_search.validators.dev import controlled_risk
from iimt_search.validators.devn import bounded_risk, bounded_weights, score
from iimt_search.validators.source_risk import score as source_risk
from iimt_search.validators.source_risk import source_losses


def naive(losses: list[float], weights: list[float]) -> float:
    shares = [weight / max(weights) for weight in weights]
    shift = 1 - sum(shares) / len(shares)
    return sum((share + shift) * loss for share, loss in zip(shares, losses, strict=True)) / len(losses)


def test_weights_by_hand() -> None:
    # Divided: 1/4, 1/2, 1, with mean 7/12.
    found = bounded_weights(torch.tensor([1.0, 2.0, 4.0]).double()).tolist()
    assert found == pytest.approx([2 / 3, 11 / 12, 17 / 12])


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_bounded_with_mean_one(seed: int) -> None:
    found = bounded_weights(torch.from_numpy(np.random.default_rng(seed).exponential(size=50) ** 6))
    assert float(found.mean()) == pytest.approx(1.0)
    assert float(found.min()) >= 0 and float(found.max()) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_is_dev_of_the_bounded_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses, weights = (torch.from_numpy(rng.exponential(size=20)) for _ in range(2))
    assert bounded_risk(losses, weights) == pytest.approx(naive(losses.tolist(), weights.tolist()), rel=1e-12)
    assert bounded_risk(losses, weights) == pytest.approx(
        controlled_risk(losses, bounded_weights(weights)), rel=1e-9
    )


def test_one_enormous_weight_at_most_doubles_the_risk() -> None:
    losses, weights = torch.tensor([0.0, 0.0, 3.0]).double(), torch.tensor([1.0, 1.0, 1e13]).double()
    assert 1.0 < bounded_risk(losses, weights) <= 2.0


def test_collapsed_embeddings_leave_the_plain_risk(model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    given = replace(
        given, source_embeddings=torch.full((80, 3), 0.7), target_embeddings=torch.full((51, 3), 0.7)
    )
    assert score(given) == pytest.approx(source_risk(given), rel=1e-6)


def test_score_puts_its_parts_together(model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    weights = importance_weights(given.source_embeddings, given.target_embeddings)
    losses = source_losses(given.source_logits, given.source_labels)
    assert score(given) == pytest.approx(naive(losses.tolist(), weights.tolist()), rel=1e-9)


@pytest.mark.parametrize("part", ["source_logits", "source_embeddings", "target_embeddings"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite(part: str, bad: float, model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    getattr(given, part)[1, 1] = bad
    assert math.isnan(score(given))


def test_no_samples() -> None:
    assert math.isnan(bounded_risk(torch.zeros(0).double(), torch.zeros(0).double()))
