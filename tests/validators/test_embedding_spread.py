import math

import numpy as np
import pytest
import torch

from iimt_search.validators.embedding_spread import embedding_spread


def test_without_zeros_it_is_one_minus_the_squared_length_of_the_mean_direction() -> None:
    f = np.random.default_rng(0).normal(0.5, 1, (30, 4))
    mean = (f / np.linalg.norm(f, axis=1, keepdims=True)).mean(axis=0)
    assert embedding_spread(torch.from_numpy(f)) == pytest.approx(1 - float(mean @ mean), rel=1e-12)


def test_collapses_have_none() -> None:
    assert embedding_spread(torch.zeros(10, 4)) == 0.0
    assert embedding_spread(torch.full((10, 4), 0.7)) == pytest.approx(0.0, abs=1e-12)
    assert embedding_spread(torch.ones(1, 4)) == 0.0


def test_dead_samples_lower_it() -> None:
    # d = ±1 and 0 twice: variance 1/2.
    assert embedding_spread(torch.tensor([[3.0], [-1.0], [0.0], [0.0]])) == pytest.approx(0.5)
    assert embedding_spread(torch.tensor([[3.0], [1.0], [0.0], [0.0]])) == pytest.approx(0.25)


def test_no_samples() -> None:
    assert math.isnan(embedding_spread(torch.zeros(0, 4)))
