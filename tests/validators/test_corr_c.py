import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.corr_c import corr_c, score


def naive(rows: list[list[float]]) -> float:
    classes = range(len(rows[0]))
    matrix = [[sum(row[a] * row[b] for row in rows) for b in classes] for a in classes]
    trace = sum(matrix[a][a] for a in classes)
    return trace / math.sqrt(sum(x * x for row in matrix for x in row))


def test_by_hand() -> None:
    # PᵀP = diag(2, 1): 3 / √5.
    assert corr_c(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == pytest.approx(3 / math.sqrt(5))


def test_against_loop() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=19)
    assert corr_c(torch.from_numpy(p)) == pytest.approx(naive(p.tolist()), rel=1e-12)


def test_is_the_cosine_similarity_to_the_identity_times_root_c() -> None:
    p = np.random.default_rng(1).dirichlet(np.full(5, 0.3), size=19)
    matrix, identity = p.T @ p, np.eye(5)
    cosine = (matrix * identity).sum() / np.linalg.norm(matrix) / np.linalg.norm(identity)
    assert corr_c(torch.from_numpy(p)) == pytest.approx(math.sqrt(5) * cosine, rel=1e-12)


def test_confident_and_balanced_is_the_maximum() -> None:
    assert corr_c(torch.eye(4).repeat(5, 1)) == pytest.approx(2.0)


def test_one_class_collapse_is_the_minimum() -> None:
    assert corr_c(torch.eye(4)[[1] * 7]) == pytest.approx(1.0)


def test_uniform_is_the_minimum() -> None:
    assert corr_c(torch.full((7, 4), 0.25)) == pytest.approx(1.0)


def test_confusion_lowers_it() -> None:
    sure = torch.eye(4).repeat(5, 1)
    assert corr_c(0.9 * sure + 0.025) > corr_c(0.5 * sure + 0.125) > 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    assert math.isnan(corr_c(torch.tensor([[math.nan, 0.0], [0.0, 1.0]])))
    assert math.isnan(score(blank(target_logits=torch.tensor([[bad, 0.0], [0.0, 1.0]]))))


def test_no_samples() -> None:
    assert math.isnan(corr_c(torch.zeros(0, 3)))


def test_score_is_of_the_targets_softmax(blank: Callable[..., Predictions]) -> None:
    assert score(blank(target_logits=1000 * torch.eye(4))) == pytest.approx(2.0)
