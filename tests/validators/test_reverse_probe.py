import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.reverse_probe import reverse_probe, score

Floats = NDArray[np.float64]


def naive_predictions(f_t: Floats, labels: NDArray[np.int64], f_s: Floats) -> NDArray[np.int64]:
    """One-against-rest ridge regression on ±1 with penalty 1, by the normal equations."""
    x = (f_t - f_t.mean(axis=0)) / f_t.std(axis=0)
    classes = np.unique(labels)
    y = np.where(labels[:, None] == classes, 1.0, -1.0)
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    scores = ((f_s - f_t.mean(axis=0)) / f_t.std(axis=0)) @ weights + y.mean(axis=0)
    return classes[scores.argmax(axis=1)]


def clusters(classes: int, count: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Embeddings (count, 4) around one centre a class, the same centres for every seed."""
    centres = np.random.default_rng(99).normal(0, 3, (classes, 4))
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    embeddings = centres[labels] + rng.normal(0, spread, (count, 4))
    return torch.from_numpy(embeddings), torch.from_numpy(labels)


def test_by_hand() -> None:
    # Two classes at −1 and 1 on a line: the probe's border is 0, and one of four lies on its wrong side.
    target, pseudo = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])
    source, truth = torch.tensor([[-2.0], [-0.5], [0.5], [0.1]]), torch.tensor([0, 0, 1, 0])
    assert reverse_probe(target, pseudo, source, truth) == 0.75


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_against_normal_equations(classes: int) -> None:
    f_t, pseudo = clusters(classes, 60, seed=1, spread=4.0)
    f_s, truth = clusters(classes, 41, seed=2, spread=4.0)
    predicted = naive_predictions(f_t.numpy(), pseudo.numpy(), f_s.numpy())
    accuracy = reverse_probe(f_t, pseudo, f_s, truth)
    assert accuracy == float((predicted == truth.numpy()).mean())
    assert 1 / classes < accuracy < 1.0


def test_separable_clusters_are_perfect() -> None:
    f_t, pseudo = clusters(3, 30, seed=1, spread=0.01)
    f_s, truth = clusters(3, 30, seed=2, spread=0.01)
    assert reverse_probe(f_t, pseudo, f_s, truth) == 1.0


def test_swapped_pseudo_labels_are_found_out() -> None:
    f_t, pseudo = clusters(2, 30, seed=1, spread=0.01)
    f_s, truth = clusters(2, 30, seed=2, spread=0.01)
    assert reverse_probe(f_t, 1 - pseudo, f_s, truth) == 0.0


def test_scale_and_offset_of_embeddings_do_not_matter() -> None:
    f_t, pseudo = clusters(3, 60, seed=1, spread=4.0)
    f_s, truth = clusters(3, 41, seed=2, spread=4.0)
    scale, offset = torch.tensor([10.0, 0.5, 100.0, 1.0]), torch.tensor([5.0, -5.0, 0.0, 1.0])
    expected = reverse_probe(f_t, pseudo, f_s, truth)
    assert reverse_probe(f_t * scale + offset, pseudo, f_s * scale + offset, truth) == expected


def test_order_of_samples_does_not_matter() -> None:
    f_t, pseudo = clusters(3, 60, seed=1, spread=4.0)
    f_s, truth = clusters(3, 41, seed=2, spread=4.0)
    rng = np.random.default_rng(0)
    t, s = torch.from_numpy(rng.permutation(60)), torch.from_numpy(rng.permutation(41))
    expected = reverse_probe(f_t, pseudo, f_s, truth)
    assert reverse_probe(f_t[t], pseudo[t], f_s[s], truth[s]) == expected


def test_one_class_collapse_is_that_classs_share() -> None:
    f_t, _ = clusters(3, 30, seed=1)
    f_s, _ = clusters(3, 8, seed=2)
    truth = torch.tensor([1, 1, 1, 0, 0, 2, 2, 2])
    assert reverse_probe(f_t, torch.ones(30, dtype=torch.int64), f_s, truth) == 3 / 8


def test_collapsed_embeddings_give_the_commonest_pseudo_label() -> None:
    f_t, pseudo = torch.full((5, 4), 0.7), torch.tensor([0, 1, 1, 1, 0])
    assert reverse_probe(f_t, pseudo, torch.full((4, 4), 0.7), torch.tensor([1, 0, 0, 0])) == 0.25


def test_a_tie_of_the_probe_counts_its_share() -> None:
    f_t, pseudo = torch.full((6, 4), 0.7), torch.tensor([0, 2, 1, 2, 0, 1])
    truth = torch.tensor([0, 1, 1, 2, 3, 3])
    assert reverse_probe(f_t, pseudo, f_t, truth) == pytest.approx(4 / 6 / 3)


def test_samples_without_a_pseudo_label_are_left_out() -> None:
    f_t, pseudo = clusters(3, 60, seed=1, spread=4.0)
    f_s, truth = clusters(3, 41, seed=2, spread=4.0)
    some = torch.where(torch.arange(60) % 4 == 0, -1, pseudo)
    kept = some >= 0
    assert reverse_probe(f_t, some, f_s, truth) == reverse_probe(f_t[kept], pseudo[kept], f_s, truth)
    assert reverse_probe(f_t, torch.full((60,), -1), f_s, truth) == 0.0


def test_a_class_that_vanished_is_never_right() -> None:
    f_t, pseudo = clusters(3, 30, seed=1, spread=0.01)
    f_s, truth = clusters(3, 30, seed=2, spread=0.01)
    kept = pseudo != 2
    assert reverse_probe(f_t[kept], pseudo[kept], f_s, truth) == pytest.approx(2 / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["source", "target"])
def test_embedding_that_is_not_finite(bad: float, side: str) -> None:
    f_t, pseudo = clusters(2, 6, seed=1)
    f_s, truth = clusters(2, 6, seed=2)
    (f_t if side == "target" else f_s)[3, 1] = bad
    assert math.isnan(reverse_probe(f_t, pseudo, f_s, truth))


def test_collapse_with_broken_embeddings_is_nan() -> None:
    f_t, f_s = torch.full((4, 2), math.nan), torch.zeros(4, 2)
    constant = torch.zeros(4, dtype=torch.int64)
    assert math.isnan(reverse_probe(f_t, constant, f_s, constant))


@pytest.fixture
def given(blank: Callable[..., Predictions]) -> Predictions:
    f_t, pseudo = clusters(3, 30, seed=1, spread=0.01)
    f_s, truth = clusters(3, 30, seed=2, spread=0.01)
    return blank(
        source_logits=torch.zeros(30, 3),
        source_labels=truth,
        source_embeddings=f_s,
        target_logits=torch.nn.functional.one_hot(pseudo, 3).double(),
        target_embeddings=f_t,
    )


def test_score_takes_the_targets_predictions_as_labels(given: Predictions) -> None:
    assert score(given) == 1.0
    assert score(replace(given, target_logits=given.target_logits.roll(1, dims=1))) == 0.0


def test_nan_logits_have_no_score(given: Predictions) -> None:
    assert math.isnan(score(replace(given, target_logits=torch.full((30, 3), math.nan))))
