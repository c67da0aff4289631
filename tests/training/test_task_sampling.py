"""How often a training draws the source's classes."""

from collections.abc import Sequence

import numpy as np
import pytest

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.settings import TrainSettings
from iimt_search.training.batches import cumulative_shares
from iimt_search.training.task_training import TaskTraining

COUNTS = (300, 90, 10)


def drawn(shares: Sequence[float] | None, class_balance: bool = False) -> list[float]:
    """Return the share of each class among 4 000 drawn source samples."""
    y = np.repeat(np.arange(3), COUNTS)
    source = Labelled(np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32), y)
    task = DomainTask("a->b", ("x", "y", "z"), "vector", "none", source, source, Unlabelled(source.x), "mark")
    settings = TrainSettings(batch_size=100, class_balance=class_balance)
    training = TaskTraining(task, settings, 0, shares=shares)
    found = np.concatenate([y[training.sample().source] for _ in range(40)])
    return [float(share) for share in np.bincount(found, minlength=3) / len(found)]


def test_the_sources_classes_are_drawn_in_the_shares_that_were_asked_for() -> None:
    assert drawn(None) == pytest.approx([0.75, 0.225, 0.025], abs=0.03)
    assert drawn([0.1, 0.2, 0.7]) == pytest.approx([0.1, 0.2, 0.7], abs=0.03)
    assert drawn([0.0, 0.5, 0.5], class_balance=True) == pytest.approx([0, 0.5, 0.5], abs=0.03)
    assert drawn([]) == drawn(None, class_balance=True) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_the_share_of_a_class_without_samples_goes_to_the_others() -> None:
    cumulated = cumulative_shares(np.array([0, 2, 2, 2]), [0.2, 0.5, 0.3])
    assert np.diff(cumulated, prepend=0).tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])
    with pytest.raises(ValueError, match="no sample has a class that is to be drawn"):
        cumulative_shares(np.array([0, 2]), [0.0, 1.0, 0.0])
