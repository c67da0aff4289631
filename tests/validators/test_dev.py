import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.density_ratio import importance_weights
from iimt_search.validators.dev import controlled_risk, score
from iimt_search.validators.source_risk import score as source_risk
from iimt_search.validators.source_risk import source_losses


def naive(losses: list[float], weights: list[float]) -> float:
    n = len(losses)
    weighted = [a * b for a, b in zip(losses, weights, strict=True)]
    mean_l, mean_w = sum(weighted) / n, sum(weights) / n
    covariance = sum((a - mean_l) * (b - mean_w) for a, b in zip(weighted, weights, strict=True)) / (n - 1)
    variance = sum((b - mean_w) ** 2 for b in weights) / (n - 1)
    eta = -covariance / variance
    return mean_l + eta * mean_w - eta


def test_by_hand() -> None:
    losses, weights = torch.tensor([0.5, 4.5, 2.0]).double(), torch.tensor([1.0, 1.0, 2.0]).double()
    # L = (1/2, 9/2, 4), mean 3; w mean 4/3. Cov = (5/6 − 1/2 + 2/3)/2 = 1/2, Var = (1/9 + 1/9 + 4/9)/2 = 1/3.
    # η = −3/2, so 3 − 3/2 · 1/3.
    assert controlled_risk(losses, weights) == pytest.approx(2.5)


@pytest.mark.parametrize("seed", range(3))
def test_against_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses, weights = rng.exponential(size=20), rng.exponential(size=20)
    assert controlled_risk(torch.from_numpy(losses), torch.from_numpy(weights)) == pytest.approx(
        naive(losses.tolist(), weights.tolist()), rel=1e-9
    )


def test_can_be_below_zero() -> None:
    losses, weights = torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 3.0]).double()
    # L = (0, 3): E = 1.5, η = −1.5, E[w] = 2: 1.5 − 1.5 · 1; a little more loss on the heavier is below 0.
    assert controlled_risk(losses, weights) == pytest.approx(0.0, abs=1e-12)
    assert controlled_risk(torch.tensor([0.0, 1.0]).double(), weights + 1) < 0


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_a_constant_loss_is_the_risk_whatever_the_weights(scale: float) -> None:
    weights = scale * torch.from_numpy(np.random.default_rng(0).exponential(size=20))
    assert controlled_risk(torch.full((20,), 0.7).double(), weights) == pytest.approx(0.7, rel=1e-6)


def test_weights_that_do_not_vary_have_no_control() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0]).double()
    assert controlled_risk(losses, torch.full((3,), 2.0).double()) == pytest.approx(6.0)
    nearly = torch.tensor([1.0, 1.0 + 1e-9, 1.0 - 1e-9]).double()
    assert controlled_risk(losses, nearly) == pytest.approx(3.0)


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


def test_one_sample_has_no_variance() -> None:
    assert math.isnan(controlled_risk(torch.ones(1).double(), torch.ones(1).double()))
