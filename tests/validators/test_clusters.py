import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from iimt_search.validators import clusters as module
from iimt_search.validators.class_ami import class_ami
from iimt_search.validators.clusters import kmeans_clusters

LABELS = np.repeat(np.arange(3), 20)
POINTS = torch.from_numpy(10 * np.eye(3)[LABELS] + np.random.default_rng(0).normal(0, 0.1, (60, 3)))
UNIT = (POINTS / POINTS.norm(dim=1, keepdim=True)).numpy()


def test_all_samples_are_used_where_they_are_few() -> None:
    found = kmeans_clusters(POINTS, 3)
    assert found is not None
    assert sorted(found.chosen) == list(range(60))
    assert found.embeddings == pytest.approx(UNIT[found.chosen])
    expected = KMeans(3, n_init=3, random_state=0).fit_predict(UNIT[found.chosen])
    assert found.of[found.chosen].tolist() == expected.tolist()


def test_samples_that_the_clusters_were_not_found_from_have_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLES", 12)
    found = kmeans_clusters(POINTS, 3)
    assert found is not None
    assert found.embeddings == pytest.approx(UNIT[found.chosen])
    assert len(found.chosen) == 12 and len(found.of) == 60
    assert adjusted_mutual_info_score(LABELS, found.of) == pytest.approx(1.0)


def test_order_does_not_matter_where_embeddings_are_equal_and_predictions_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLES", 20)
    rng = np.random.default_rng(0)
    points, predicted = torch.from_numpy(rng.normal(size=(60, 2)).round()), torch.from_numpy(LABELS)
    order = torch.from_numpy(rng.permutation(60))
    expected = class_ami(points, predicted, 3)
    assert class_ami(points[order], predicted[order], 3) == pytest.approx(expected, rel=1e-9)


def test_no_more_clusters_than_samples() -> None:
    found = kmeans_clusters(POINTS[:2], 3)
    assert found is not None and len(set(found.of)) == 2


@pytest.mark.parametrize("points", [POINTS[:0], POINTS * math.nan, POINTS / 0], ids=["none", "nan", "inf"])
def test_nothing_to_cluster(points: torch.Tensor) -> None:
    assert kmeans_clusters(points, 3) is None
