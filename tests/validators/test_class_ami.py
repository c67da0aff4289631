import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from iimt_search.validators import clusters as module
from iimt_search.validators.class_ami import class_ami, score
from iimt_search.validators.contract import Predictions


def clustered(classes: int = 3, each: int = 20) -> tuple[Tensor, Tensor]:
    """Well separated clusters around the axes, and the cluster of each point."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    points = 10 * np.eye(classes)[labels] + rng.normal(0, 0.1, (len(labels), classes))
    return torch.from_numpy(points), torch.from_numpy(labels)


def test_predictions_that_are_the_clusters_are_one() -> None:
    points, labels = clustered()
    assert class_ami(points, labels, 3) == pytest.approx(1.0)
    assert class_ami(points, (labels + 1) % 3, 3) == pytest.approx(1.0)  # names do not matter


def test_matches_scikit_learn_on_known_clusters() -> None:
    points, labels = clustered()
    predicted = labels.clone()
    predicted[::4] = 0
    expected = adjusted_mutual_info_score(predicted.numpy(), labels.numpy())
    assert 0.2 < expected < 0.9
    assert class_ami(points, predicted, 3) == pytest.approx(expected)


def test_unrelated_predictions_are_about_zero() -> None:
    points, labels = clustered(each=200)
    shuffled = labels[torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))]
    assert abs(class_ami(points, shuffled, 3)) < 0.02


def test_collapses() -> None:
    points, labels = clustered()
    assert class_ami(points, torch.zeros_like(labels), 3) == 0.0
    assert class_ami(torch.ones(500, 3), torch.zeros(500, dtype=torch.long), 7) == 0.0
    assert class_ami(torch.ones_like(points), labels, 3) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(class_ami(torch.full_like(points, float("nan")), labels, 3))


def test_samples_without_a_prediction_are_not_compared() -> None:
    points, labels = clustered()
    some = torch.where(torch.arange(60) % 4 == 0, -1, labels)
    assert class_ami(points, some, 3) == pytest.approx(1.0)
    assert class_ami(points, torch.where(some == 1, 1, -1), 3) == 0.0


def test_no_samples() -> None:
    assert math.isnan(class_ami(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 3))


@pytest.mark.parametrize("most", [5000, 40])
def test_order_does_not_matter_where_clusters_are_not_clear(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLES", most)
    rng = np.random.default_rng(2)
    points, predicted = torch.from_numpy(rng.normal(size=(150, 5))), torch.from_numpy(rng.integers(0, 4, 150))
    expected = class_ami(points, predicted, 4)
    for _ in range(3):
        order = torch.from_numpy(rng.permutation(150))
        assert class_ami(points[order], predicted[order], 4) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    points, labels = clustered()
    logits = torch.nn.functional.one_hot(labels).double()
    assert score(blank(target_logits=logits, target_embeddings=points)) == pytest.approx(1.0)
    points[7, 1] = bad
    assert math.isnan(score(blank(target_logits=logits, target_embeddings=points)))
    logits[7, 1] = bad
    assert math.isnan(score(blank(target_logits=logits, target_embeddings=clustered()[0])))
