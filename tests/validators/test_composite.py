import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

from iimt_search.validators.class_ami import class_ami
from iimt_search.validators.composite import combine
from iimt_search.validators.contract import Predictions, score_all
from iimt_search.validators.diversity import diversity


def clustered(classes: int = 3, each: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Well separated clusters around the axes, and the cluster of each point."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    points = 10 * np.eye(classes)[labels] + rng.normal(0, 0.1, (len(labels), classes))
    return torch.from_numpy(points), torch.from_numpy(labels)


def test_composite_is_the_geometric_mean() -> None:
    assert combine(0.9, 0.8, 0.3) == pytest.approx((0.9 * 0.8 * 0.3) ** (1 / 3))


def test_composite_of_a_collapsed_part_is_zero() -> None:
    assert combine(1.0, -0.01, 1.0) == 0.0


def test_composite_passes_nan_on() -> None:
    assert math.isnan(combine(0.5, float("nan"), 0.5))


def test_class_ami_of_predictions_that_are_the_clusters_is_one() -> None:
    points, labels = clustered()
    assert class_ami(points, labels, 3) == pytest.approx(1.0)
    assert class_ami(points, (labels + 1) % 3, 3) == pytest.approx(1.0)  # names do not matter


def test_class_ami_matches_scikit_learn_on_known_clusters() -> None:
    points, labels = clustered()
    predicted = labels.clone()
    predicted[::4] = 0
    expected = adjusted_mutual_info_score(predicted.numpy(), labels.numpy())
    assert 0.2 < expected < 0.9
    assert class_ami(points, predicted, 3) == pytest.approx(expected)


def test_class_ami_of_unrelated_predictions_is_about_zero() -> None:
    points, labels = clustered(each=200)
    shuffled = labels[torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))]
    assert abs(class_ami(points, shuffled, 3)) < 0.02


def test_class_ami_of_collapses() -> None:
    points, labels = clustered()
    assert class_ami(points, torch.zeros_like(labels), 3) == 0.0
    assert class_ami(torch.ones_like(points), labels, 3) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(class_ami(torch.full_like(points, float("nan")), labels, 3))


def test_class_ami_does_not_mind_the_order() -> None:
    points, labels = clustered()
    order = torch.from_numpy(np.random.default_rng(2).permutation(len(labels)))
    predicted = labels.clone()
    predicted[::5] = 1
    assert class_ami(points[order], predicted[order], 3) == pytest.approx(class_ami(points, predicted, 3))


def test_diversity_by_hand() -> None:
    assert diversity(torch.tensor([2, 2, 2]), 4) == 0.0
    assert diversity(torch.tensor([0, 1, 2, 3]), 4) == pytest.approx(1.0)
    assert diversity(torch.tensor([0, 0, 1, 2]), 4) == pytest.approx(1.5 / 2)  # 1.5 of 2 bits


def test_score_puts_its_parts_together() -> None:
    points, labels = clustered()
    logits = 5.0 * torch.eye(3)[labels]
    wrong_source = logits.roll(10, dims=0)
    predictions = Predictions(wrong_source, labels, points, logits, points)
    accuracy = float((wrong_source.argmax(1) == labels).double().mean())
    assert 0 < accuracy < 1
    scores = score_all(["composite", "class_ami", "diversity", "source_accuracy"], predictions)
    assert scores["source_accuracy"] == pytest.approx(accuracy)
    assert scores["composite"] == pytest.approx(
        (accuracy * scores["class_ami"] * scores["diversity"]) ** (1 / 3)
    )
