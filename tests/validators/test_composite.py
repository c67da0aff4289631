import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

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


def test_diversity_by_hand() -> None:
    assert diversity(torch.tensor([2, 2, 2]), 4) == 0.0
    assert diversity(torch.tensor([0, 1, 2, 3]), 4) == pytest.approx(1.0)
    assert diversity(torch.tensor([0, 0, 1, 2]), 4) == pytest.approx(1.5 / 2)  # 1.5 of 2 bits


def test_score_puts_its_parts_together(blank: Callable[..., Predictions]) -> None:
    points, labels = clustered()
    logits = 5.0 * torch.eye(3)[labels]
    wrong_source = logits.roll(10, dims=0)
    predictions = blank(
        source_logits=wrong_source, source_labels=labels, target_logits=logits, target_embeddings=points
    )
    accuracy = float((wrong_source.argmax(1) == labels).double().mean())
    assert 0 < accuracy < 1
    scores = score_all(["composite", "class_ami", "diversity", "source_accuracy"], predictions)
    assert scores["source_accuracy"] == pytest.approx(accuracy)
    assert scores["composite"] == pytest.approx(
        (accuracy * scores["class_ami"] * scores["diversity"]) ** (1 / 3)
    )
