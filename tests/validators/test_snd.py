import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators import snd as module
from iimt_search.validators.contract import Predictions
from iimt_search.validators.snd import score, snd


def naive(rows: list[list[float]]) -> float:
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]
    total = 0.0
    for i, a in enumerate(unit):
        scaled = [sum(x * y for x, y in zip(a, b, strict=True)) / 0.05 for j, b in enumerate(unit) if j != i]
        weights = [math.exp(x) for x in scaled]
        shares = [weight / sum(weights) for weight in weights]
        total -= sum(p * math.log(p) for p in shares if p > 0)
    return total / len(rows)


def test_by_hand() -> None:
    # Three orthogonal samples: each has two equally far neighbours.
    assert snd(torch.eye(3)) == pytest.approx(math.log(2))


def test_against_loop() -> None:
    f = np.random.default_rng(0).normal(size=(17, 3))
    assert snd(torch.from_numpy(f)) == pytest.approx(naive(f.tolist()), rel=1e-12)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    f = torch.from_numpy(np.random.default_rng(0).normal(size=(17, 3)))
    whole = snd(f)
    monkeypatch.setattr(module, "CHUNK", 5)
    assert snd(f) == pytest.approx(whole, rel=1e-12)


def test_total_collapse_is_the_maximum() -> None:
    assert snd(torch.full((9, 3), 0.7)) == pytest.approx(math.log(8))
    assert snd(torch.zeros(9, 3)) == pytest.approx(math.log(8))


def test_pairs_far_apart_have_one_neighbour_each() -> None:
    assert snd(torch.eye(4).repeat(2, 1)) == pytest.approx(0.0, abs=1e-6)


def test_length_does_not_matter() -> None:
    f = torch.from_numpy(np.random.default_rng(0).normal(size=(17, 3)))
    lengths = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 9.0, (17, 1)))
    assert snd(f * lengths) == pytest.approx(snd(f), rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    assert math.isnan(score(blank(target_embeddings=torch.tensor([[bad, 0.0], [0.0, 1.0]]))))


@pytest.mark.parametrize("count", [0, 1])
def test_no_neighbours(count: int) -> None:
    assert math.isnan(snd(torch.ones(count, 3)))


def test_score_is_of_the_target(blank: Callable[..., Predictions]) -> None:
    assert score(blank(target_embeddings=torch.eye(3))) == pytest.approx(math.log(2))
