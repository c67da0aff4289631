from dataclasses import replace

import numpy as np
import pytest
import torch

from iimt_search.data.assemble import load_task
from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training.reverse import reverse_logits, reverse_task
from iimt_search.training.task_training import TaskTraining

SOURCE_ONLY = {"w_source": 1.0, "w_q": 0.0, "w_d": 0.0, "w_z": 0.0, "w_s": 0.0, "lambda_max": 0.0}
SETTINGS = TrainSettings(steps=20, batch_size=16, image_size=8, width=4, evaluation_samples=100)


def digits() -> DomainTask:
    return load_task(TaskSpec.model_validate("digits->digits-m"), 8)


def vectors(centre: float = 0.0, count: int = 60) -> DomainTask:
    x = np.random.default_rng(0).normal(centre, 1, (count, 4)).astype(np.float32)
    y = (x[:, 0] > centre).astype(np.int64)
    source, held = Labelled(x[:40], y[:40]), Labelled(x[40:], y[40:])
    return DomainTask("a->b", ("n", "p"), "vector", "none", source, held, Unlabelled(x + 0.5), "mark")


def trained(settings: TrainSettings = SETTINGS, seed: int = 3) -> TaskTraining:
    training = TaskTraining(digits(), settings, seed)
    training.advance(settings.steps)
    return training


@pytest.mark.parametrize(("steps", "short"), [(200, 20), (64, 6), (10, 1), (4, 1), (1, 1)])
def test_takes_a_tenth_of_the_steps_and_at_least_one(
    steps: int, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TaskTraining(vectors(), SETTINGS.model_copy(update={"steps": steps}), 3)
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(TaskTraining, "advance", lambda self, to: taken.append((to, self.settings.steps)))
    reverse_logits(forward, short=True)
    reverse_logits(forward)
    assert taken == [(short, short), (steps, steps)]


@pytest.mark.parametrize("decay", [0.0, 0.95], ids=["no average", "average"])
def test_begins_with_the_forward_models_weights(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = trained(SETTINGS.model_copy(update={"ema_decay": decay}))
    monkeypatch.setattr(TaskTraining, "advance", lambda self, to: None)
    expected = forward.predict_validation()
    assert torch.equal(reverse_logits(forward, short=True), expected)
    assert not torch.allclose(reverse_logits(forward), expected, atol=0.1)


def test_steps_that_learn_nothing_leave_the_forward_models_predictions() -> None:
    forward = trained(SETTINGS.model_copy(update={"steps": 60, "ema_decay": 0.5}))
    expected = forward.predict_validation()
    forward.settings = forward.settings.model_copy(update={"learning_rate": 1e-30})
    near, far = reverse_logits(forward, short=True), reverse_logits(forward)
    # Only the running statistics of BatchNorm move, towards those of the other domain.
    assert (near.argmax(dim=1) == expected.argmax(dim=1)).double().mean() > 0.6
    assert (near - expected).abs().mean() < 0.5 * (far - expected).abs().mean()


def test_it_forgets_the_source_where_the_pseudo_labels_are_wrong() -> None:
    settings = TrainSettings(batch_size=16, steps=300, ema_decay=0.0).model_copy(update=SOURCE_ONLY)
    forward = TaskTraining(vectors(), settings, 3)
    forward.advance(60)
    knew = forward.predict_validation().argmax(dim=1)
    assert len(knew.unique()) == 2
    forward.predict_target = lambda: torch.tensor([[0.0, 1.0]]).repeat(60, 1)  # type: ignore[method-assign]
    assert (reverse_logits(forward, short=True).argmax(dim=1) == 1).all()


def test_the_forward_training_is_left_alone_and_the_result_is_the_same_every_time() -> None:
    forward = trained()
    before = forward.predict_target()
    once = reverse_logits(forward, short=True)
    assert torch.equal(reverse_logits(forward, short=True), once)
    assert torch.equal(forward.predict_target(), before) and forward.step == 20
    assert once.shape == (100, 10)


def test_turned_around() -> None:
    task = vectors()
    labels = torch.arange(60) % 2
    turned = reverse_task(task, labels)
    assert np.array_equal(turned.source_train.x, task.target.x)
    assert turned.source_train.y.tolist() == labels.tolist()
    assert np.array_equal(turned.target.x, task.source_train.x)
    assert turned.source_val is task.source_val


@pytest.mark.parametrize("decay", [0.0, 0.95], ids=["no average", "average"])
def test_a_warm_start_takes_every_weight_and_shares_none(decay: float) -> None:
    settings = SETTINGS.model_copy(update={"ema_decay": decay})
    given = TaskTraining(vectors(), settings, 1)
    given.advance(5)
    model = given.evaluated_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # Another task's channels were measured in other units: the model's own go with its weights.
    training = TaskTraining(replace(vectors(centre=50.0), name="other"), settings, 2)
    assert not torch.equal(training.model.shift, model.shift)
    training.warm_start(model)
    for name, value in training.evaluated_model().state_dict().items():
        assert torch.equal(value, before[name]), name
    training.advance(3)
    assert not torch.equal(training.model.classifier.weight, before["classifier.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_warm_start_with_a_model_of_other_classes_is_refused() -> None:
    other = TaskTraining(replace(vectors(), classes=("a", "b", "c")), SETTINGS, 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        TaskTraining(vectors(), SETTINGS, 1).warm_start(other.model)
