import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from iimt_search.validators import clusters as module
from iimt_search.validators.class_ss import class_ss, score
from iimt_search.validators.contract import Predictions


def clustered(classes: int, each: int, spread: float) -> tuple[Tensor, list[int]]:
    labels = [i % classes for i in range(classes * each)]
    noise = np.random.default_rng(0).normal(0, spread, (len(labels), classes))
    return torch.from_numpy(np.eye(classes)[labels] + noise), labels


def naive(embeddings: Tensor, clusters: list[int]) -> float:
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in embeddings.tolist()]
    total = 0.0
    for i, a in enumerate(unit):
        distances: dict[int, list[float]] = {}
        for j, b in enumerate(unit):
            if i != j:
                distances.setdefault(clusters[j], []).append(math.dist(a, b))
        means = {cluster: sum(d) / len(d) for cluster, d in distances.items()}
        own = means.pop(clusters[i])
        nearest = min(means.values())
        total += (nearest - own) / max(own, nearest)
    return total / len(unit)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_against_loop(classes: int) -> None:
    points, labels = clustered(classes, 12, spread=0.1)  # clear: k-means finds the labels
    assert class_ss(points, classes) == pytest.approx(naive(points, labels), rel=1e-9)


def test_by_hand() -> None:
    # Two pairs of equal directions: own distance 0, so each silhouette is 1.
    assert class_ss(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), 2) == pytest.approx(1.0)


def test_noise_has_no_clear_clusters() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 30)))
    points, _ = clustered(3, 60, spread=0.1)
    assert -0.1 < class_ss(noise, 3) < 0.15 < 0.7 < class_ss(points, 3)


def test_collapses_are_the_worst() -> None:
    assert class_ss(torch.full((20, 3), 0.7), 3) == -1.0
    assert class_ss(torch.zeros(20, 3), 3) == -1.0
    assert class_ss(torch.eye(3), 3) == -1.0  # as many clusters as samples
    assert class_ss(torch.eye(3)[:1], 3) == -1.0


def test_a_subsample_does_not_mind_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = clustered(3, 60, spread=0.5)
    order = torch.from_numpy(np.random.default_rng(1).permutation(180))
    whole = class_ss(points, 3)
    monkeypatch.setattr(module, "MAX_SAMPLES", 50)
    assert class_ss(points[order], 3) == class_ss(points, 3) != whole


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    points, _ = clustered(2, 3, spread=0.1)
    logits = torch.zeros(6, 2)
    assert score(blank(target_embeddings=points, target_logits=logits)) > 0
    points[1, 1] = logits[3, 1] = bad
    assert math.isnan(score(blank(target_embeddings=points, target_logits=torch.zeros(6, 2))))
    assert math.isnan(score(blank(target_embeddings=torch.eye(6), target_logits=logits)))


def test_no_samples() -> None:
    assert math.isnan(class_ss(torch.zeros(0, 3), 2))
