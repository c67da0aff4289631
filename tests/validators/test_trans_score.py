import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators import trans_score as module
from iimt_search.validators.contract import Predictions
from iimt_search.validators.trans_score import angle_deviation, hopkins, score, trans_score


def simplex(classes: int) -> torch.Tensor:
    """Rows at equal angles, as far apart as can be."""
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def naive_deviation(rows: list[list[float]]) -> float:
    classes = len(rows)
    total = 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                angle = math.acos(dot / math.hypot(*a) / math.hypot(*b))
                total += (angle - math.acos(-1 / (classes - 1))) ** 2
    return total / (classes * (classes - 1))


def naive_hopkins(rows: list[list[float]]) -> float:
    low, high = ([side(column) for column in zip(*rows, strict=True)] for side in (min, max))
    drawn = np.random.default_rng(0).random((len(rows), len(rows[0]))).tolist()
    points = [[a + (b - a) * x for a, b, x in zip(low, high, row, strict=True)] for row in drawn]
    u = sum(min(math.dist(point, row) for row in rows) for point in points)
    w = sum(min(math.dist(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows))
    return u / (u + w)


def test_deviation_by_hand() -> None:
    # Two classes should look opposite ways, and are at a right angle.
    assert angle_deviation(torch.eye(2)) == pytest.approx((math.pi / 2) ** 2)
    assert angle_deviation(torch.tensor([[3.0, 0.0], [-0.1, 0.0]])) == pytest.approx(0.0, abs=1e-12)


def test_deviation_against_loop() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 7))
    assert angle_deviation(torch.from_numpy(weight)) == pytest.approx(
        naive_deviation(weight.tolist()), rel=1e-9
    )


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_deviation_of_a_simplex_and_of_a_collapse(classes: int) -> None:
    assert angle_deviation(simplex(classes)) == pytest.approx(0.0, abs=1e-12)
    worst = math.acos(-1 / (classes - 1)) ** 2
    assert angle_deviation(torch.ones(classes, 4)) == pytest.approx(worst)


@pytest.mark.parametrize("weight", [torch.ones(1, 3), torch.zeros(3, 3), torch.eye(3) * math.inf])
def test_deviation_that_is_undefined(weight: torch.Tensor) -> None:
    assert math.isnan(angle_deviation(weight))


def test_hopkins_against_loop() -> None:
    f = np.random.default_rng(1).normal(size=(40, 3))
    assert hopkins(torch.from_numpy(f)) == pytest.approx(naive_hopkins(f.tolist()), rel=1e-12)


def test_hopkins_tells_clusters_from_none_from_a_grid() -> None:
    rng = np.random.default_rng(2)
    clusters = torch.from_numpy(np.eye(2)[rng.integers(0, 2, 400)] + rng.normal(0, 0.01, (400, 2)))
    even = torch.from_numpy(rng.random((400, 2)))
    grid = torch.cartesian_prod(torch.arange(20.0), torch.arange(20.0))
    assert hopkins(clusters) > 0.9
    assert hopkins(even) == pytest.approx(0.5, abs=0.05)
    assert hopkins(grid) < 0.35


def test_hopkins_of_a_collapse_is_zero() -> None:
    assert hopkins(torch.full((9, 3), 0.7)) == 0.0


def test_hopkins_does_not_mind_scale_and_place() -> None:
    f = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 3)))
    assert hopkins(1000 * f + 5) == pytest.approx(hopkins(f), rel=1e-9)


def test_hopkins_of_a_subsample_does_not_mind_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    f = torch.from_numpy(np.random.default_rng(1).normal(size=(90, 3)))
    whole = hopkins(f)
    monkeypatch.setattr(module, "MAX_SAMPLES", 20)
    assert hopkins(f.flip(0)) == hopkins(f) != whole


@pytest.mark.parametrize("f", [torch.zeros(0, 3), torch.ones(1, 3), torch.tensor([[math.nan], [0.0]])])
def test_hopkins_that_is_undefined(f: torch.Tensor) -> None:
    assert math.isnan(hopkins(f))


def test_puts_its_parts_together() -> None:
    # Sure and balanced: MI / ln C = 1. A simplex: U = 0.
    f = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 3)))
    assert trans_score(torch.eye(3).repeat(4, 1), f, simplex(3)) == pytest.approx(1 + hopkins(f))
    # A collapse to one class: MI = 0; and a lopsided classifier.
    collapsed = torch.eye(3)[[0] * 12]
    assert trans_score(collapsed, f, torch.eye(3)) == pytest.approx(
        hopkins(f) - (math.acos(-0.5) - math.pi / 2) ** 2
    )


def test_everything_collapsed_is_the_minimum() -> None:
    uniform = torch.full((9, 2), 0.5)
    assert trans_score(uniform, torch.ones(9, 3), torch.ones(2, 3)) == pytest.approx(-(math.pi**2))


@pytest.mark.parametrize("part", ["target_logits", "target_embeddings", "classifier_weight"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(part: str, bad: float, model: Callable[[float], Predictions]) -> None:
    assert math.isfinite(score(model(1.0)))
    given = model(1.0)
    getattr(given, part)[1, 1] = bad
    assert math.isnan(score(given))
