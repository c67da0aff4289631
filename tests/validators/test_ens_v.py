import math

import numpy as np
import pytest
import torch

from iimt_search.validators.ens_v import ensemble_agreement, score_pool


def naive(pool: list[list[list[float]]]) -> list[float]:
    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(x) for x in row]
        return [x / sum(powers) for x in powers]

    together = []
    for rows in zip(*pool, strict=True):
        mean = [sum(column) / len(pool) for column in zip(*map(softmax, rows), strict=True)]
        together.append(mean.index(max(mean)))
    return [
        sum(row.index(max(row)) == label for row, label in zip(rows, together, strict=True)) / len(rows)
        for rows in pool
    ]


def one_hot(*classes: int) -> torch.Tensor:
    return 10.0 * torch.eye(3)[list(classes)]


def test_by_hand() -> None:
    # Together: 0, 1, 2, 0.
    pool = [one_hot(0, 1, 2, 0), one_hot(0, 1, 2, 1), one_hot(0, 2, 1, 0)]
    assert ensemble_agreement(pool) == [1.0, 0.75, 0.5]


def test_the_mean_is_of_probabilities_not_of_votes() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    assert ensemble_agreement([sure, unsure, unsure]) == [1.0, 0.0, 0.0]
    assert ensemble_agreement([1e4 * unsure, 10 * sure, 1e4 * unsure]) == [1.0, 0.0, 1.0]


def test_against_loop() -> None:
    pool = np.random.default_rng(0).normal(0, 2, (5, 30, 4))
    assert ensemble_agreement(list(torch.from_numpy(pool))) == pytest.approx(naive(pool.tolist()), rel=1e-12)


def test_a_candidate_alone_agrees_with_itself() -> None:
    assert ensemble_agreement([one_hot(0, 1)]) == [1.0]


def test_collapses() -> None:
    # One in three: its class's share of what the others say. All the same: perfect.
    pool = [one_hot(0, 1, 2, 0), one_hot(0, 1, 2, 0), one_hot(0, 0, 0, 0)]
    assert ensemble_agreement(pool) == [1.0, 1.0, 0.5]
    assert ensemble_agreement([one_hot(1, 1)] * 3) == [1.0] * 3


def test_order_of_candidates_does_not_matter() -> None:
    pool = list(torch.from_numpy(np.random.default_rng(0).normal(0, 2, (5, 30, 4))))
    assert ensemble_agreement(pool[::-1]) == ensemble_agreement(pool)[::-1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_candidate_has_no_say(bad: float) -> None:
    sound = [one_hot(0, 1, 2, 0), one_hot(0, 1, 2, 1), one_hot(0, 1, 1, 0)]
    broken = one_hot(2, 2, 2, 2)
    broken[0, 0] = bad
    scores = ensemble_agreement([sound[0], broken, *sound[1:]])
    assert math.isnan(scores.pop(1))
    assert scores == ensemble_agreement(sound)


def test_nobody_to_ask() -> None:
    assert ensemble_agreement([]) == []
    assert [math.isnan(x) for x in ensemble_agreement([torch.full((2, 3), math.nan)] * 2)] == [True, True]
    assert [math.isnan(x) for x in ensemble_agreement([torch.zeros(0, 3)])] == [True]


def test_ties_share_their_vote() -> None:
    tied = torch.tensor([[1.0, 1.0, 0.0]])
    assert ensemble_agreement([tied]) == [1.0]
    assert ensemble_agreement([one_hot(0), one_hot(1)]) == [0.5, 0.5]
    assert ensemble_agreement([torch.zeros(1, 3), one_hot(2)]) == pytest.approx([1 / 3, 1.0])


def test_score_pool() -> None:
    pool = [one_hot(0, 1, 2, 0), one_hot(0, 1, 2, 1), one_hot(0, 2, 1, 0)]
    assert score_pool(pool) == [1.0, 0.75, 0.5]
