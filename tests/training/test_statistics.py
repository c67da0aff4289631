import numpy as np
import pytest
import torch

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.settings import TrainSettings
from iimt_search.training.batches import channel_statistics, source_to_target
from iimt_search.training.reverse import reverse_logits
from iimt_search.training.task_training import TaskTraining

BY_DOMAIN = TrainSettings(steps=60, batch_size=16, statistics="by_domain", precision="float32")


def in_other_units(length: int = 0) -> DomainTask:
    """Two classes that the first channel tells, and a target measured in other units, about another zero."""
    rng = np.random.default_rng(0)
    y = np.arange(120, dtype=np.int64) % 2
    shape = (120, 4, *([length] if length else []))
    centre = np.where(y, 1.0, -1.0).reshape(-1, *[1] * (len(shape) - 2))
    x = rng.normal(size=shape).astype(np.float32) * 0.3
    x[:, 0] += centre
    return DomainTask(
        name="units",
        classes=("a", "b"),
        kind="series" if length else "vector",
        augmentation="noise",
        source_train=Labelled(x[:80], y[:80]),
        source_val=Labelled(x[80:], y[80:]),
        target=Unlabelled((x * 1000 + 5000).astype(np.float32)),
        fingerprint="units",
    )


@pytest.mark.parametrize("length", [0, 32])
def test_the_source_gets_the_means_and_deviations_of_the_target(length: int) -> None:
    task = in_other_units(length)
    mapped, statistics = source_to_target(task), channel_statistics(task, by_domain=True)
    assert mapped is not None
    assert statistics is not None
    x = mapped(torch.from_numpy(task.source_train.x))
    over = (0, 2) if length else (0,)
    assert torch.allclose(x.mean(over), statistics[0], rtol=1e-3)
    assert torch.allclose(x.std(over, correction=0), statistics[1], rtol=1e-3)


@pytest.mark.parametrize("length", [0, 32])
def test_by_domain_an_affine_shift_is_no_shift(length: int) -> None:
    task = in_other_units(length)
    training = TaskTraining(task, BY_DOMAIN, 0)
    training.advance(60)
    truth = np.arange(120) % 2
    assert (training.predict_target().argmax(dim=1).numpy() == truth).mean() > 0.95
    assert (training.predict_validation().argmax(dim=1).numpy() == task.source_val.y).mean() > 0.95
    # The exported model takes the target's own units.
    x = torch.from_numpy(np.asarray(task.target.x))
    assert (training.evaluated_model()(x).argmax(dim=1).numpy() == truth).mean() > 0.95


@pytest.mark.parametrize("short", [False, True])
def test_a_reverse_training_scores_the_source_in_its_own_units(short: bool) -> None:
    task = in_other_units()
    training = TaskTraining(task, BY_DOMAIN, 0)
    training.advance(60)
    reverse = reverse_logits(training, short=short)
    assert (reverse.argmax(dim=1).numpy() == task.source_val.y).mean() > 0.9


def test_images_have_values_of_their_own() -> None:
    task = in_other_units()
    images = Unlabelled(np.zeros((2, 3, 8, 8), np.uint8))
    of_images = DomainTask(**{**task.__dict__, "kind": "image", "target": images})
    assert source_to_target(of_images) is None
    assert channel_statistics(of_images, by_domain=True) is None
