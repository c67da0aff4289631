import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from iimt_search.validators import neighbour_agreement as module
from iimt_search.validators.contract import Predictions
from iimt_search.validators.neighbour_agreement import neighbour_agreement, score


def drawn(classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, classes, 41), rng.integers(0, classes, 60)
    f_s = np.eye(classes, 4)[labels] + rng.normal(0, 0.6, (41, 4))
    f_t = np.eye(classes, 4)[predicted] + rng.normal(0, 0.6, (60, 4))
    return (
        torch.from_numpy(f_s),
        torch.from_numpy(labels),
        torch.from_numpy(f_t),
        torch.from_numpy(predicted),
    )


def naive(f_s: Tensor, labels: Tensor, f_t: Tensor, predicted: Tensor) -> float:
    total = 0.0
    for row, guess in zip(f_t.tolist(), predicted.tolist(), strict=True):
        angles = []
        for other, label in zip(f_s.tolist(), labels.tolist(), strict=True):
            dot = sum(x * y for x, y in zip(row, other, strict=True))
            angles.append((-dot / math.hypot(*row) / math.hypot(*other), label))
        votes = Counter(label for _, label in sorted(angles)[:5])
        winners = [label for label, count in votes.items() if count == max(votes.values())]
        total += (guess in winners) / len(winners)
    return total / len(f_t)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_against_loop(classes: int) -> None:
    given = drawn(classes)
    assert 1 / classes < naive(*given) < 1
    assert neighbour_agreement(*given) == pytest.approx(naive(*given), rel=1e-12)


def test_two_classes_are_scikit_learns() -> None:
    # Five votes of two classes have no ties.
    f_s, labels, f_t, predicted = drawn(2)
    neighbours = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(f_s.numpy(), labels.numpy())
    expected = float((neighbours.predict(f_t.numpy()) == predicted.numpy()).mean())
    assert neighbour_agreement(f_s, labels, f_t, predicted) == pytest.approx(expected, rel=1e-12)


def test_by_hand() -> None:
    # Three samples near the first axis outvote two near the second.
    f_s = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [0.1, 1.0], [0.2, 1.0]])
    labels = torch.tensor([1, 1, 1, 0, 0])
    f_t = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    assert neighbour_agreement(f_s, labels, f_t, torch.tensor([1, 1])) == 1.0
    assert neighbour_agreement(f_s, labels, f_t, torch.tensor([1, 0])) == 0.5


def test_a_tie_counts_its_share() -> None:
    # Two votes each for classes 0 and 1, one for class 2.
    f_s = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4], [1.0, 0.5]])
    labels = torch.tensor([0, 1, 2, 1, 0])
    for guess, expected in ((0, 0.5), (1, 0.5), (2, 0.0)):
        assert neighbour_agreement(f_s, labels, torch.tensor([[1.0, 0.0]]), torch.tensor([guess])) == expected


def test_collapsed_embeddings_give_the_commonest_source_class() -> None:
    f_s, f_t = torch.full((7, 3), 0.7), torch.full((4, 3), 0.7)
    labels = torch.tensor([0, 0, 2, 2, 2, 1, 1])
    assert neighbour_agreement(f_s, labels, f_t, torch.tensor([2, 2, 2, 0])) == 0.75
    assert neighbour_agreement(f_s, labels, f_t, torch.tensor([3, 3, 1, 0])) == 0.0


def test_one_class_collapse_is_the_share_of_targets_that_lie_there() -> None:
    f_s, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
    f_t = torch.eye(4)[[0, 0, 1, 2, 3]]
    assert neighbour_agreement(f_s, labels, f_t, torch.zeros(5, dtype=torch.int64)) == pytest.approx(0.4)


def test_domains_aligned_class_to_class_are_perfect_though_swapped() -> None:
    f_s, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
    assert neighbour_agreement(f_s, labels, f_s.roll(1, dims=1), (labels + 1) % 4) == 1.0


def test_fewer_than_five_source_samples() -> None:
    f_s, labels = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    assert neighbour_agreement(f_s, labels, f_s, torch.tensor([0, 0, 0])) == 1.0


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn()
    whole = neighbour_agreement(*given)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert neighbour_agreement(*given) == pytest.approx(whole, rel=1e-12)


def test_a_subsample_does_not_mind_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    f_s, labels, f_t, predicted = drawn()
    monkeypatch.setattr(module, "MAX_SAMPLES", 20)
    first = neighbour_agreement(f_s, labels, f_t, predicted)
    assert neighbour_agreement(f_s, labels, f_t.flip(0), predicted.flip(0)) == pytest.approx(first, rel=1e-12)
    assert first == pytest.approx(round(first * 40) / 40)  # halves of one of 20


@pytest.mark.parametrize("part", ["source_embeddings", "target_embeddings", "target_logits"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(part: str, bad: float, model: Callable[[float], Predictions]) -> None:
    assert math.isfinite(score(model(1.0)))
    given = model(1.0)
    getattr(given, part)[1, 1] = bad
    assert math.isnan(score(given))


def test_no_prediction_agrees_with_nobody() -> None:
    f_s, labels = torch.eye(2).repeat(5, 1), torch.arange(2).repeat(5)
    assert neighbour_agreement(f_s, labels, torch.eye(2), torch.tensor([0, -1])) == 0.5
    assert neighbour_agreement(f_s, labels, torch.eye(2), torch.tensor([-1, -1])) == 0.0


def test_no_samples() -> None:
    f_s, labels, f_t, predicted = drawn()
    assert math.isnan(neighbour_agreement(f_s[:0], labels[:0], f_t, predicted))
    assert math.isnan(neighbour_agreement(f_s, labels, f_t[:0], predicted[:0]))
