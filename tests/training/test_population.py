"""A population ends where its members would have ended alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from iimt_search.data.assemble import load_task
from iimt_search.errors import NonFiniteLossError
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training import population
from iimt_search.training.population import Population, advance_together, shape_of
from iimt_search.training.task_training import TaskTraining

TASKS = ("digits->digits-m", "syn-digits->digits")
# What a search varies, and what it might.
MEMBERS: list[dict[str, Any]] = [
    {},
    {"lambda_max": 30.0, "k": 1, "alpha": 0.3},
    {"temperature": 0.2, "k": 3, "learning_rate": 3e-3, "weight_decay": 0.02, "beta1": 0.5},
    {"ema_decay": 0.8, "reversal": 1.0, "ramp": False, "w_z": 3.0, "steps": 50, "warmup": 0.3},
]


def training(task: str = TASKS[0], seed: int = 0, **changes: Any) -> TaskTraining:
    settings = TrainSettings.model_validate(
        {"steps": 30, "batch_size": 8, "image_size": 8, "width": 4, "evaluation_samples": 50}
        | {"precision": "float32", **changes}
    )
    return TaskTraining(load_task(TaskSpec.model_validate(task), 8, 0.2), settings, seed)


def in_double(trainings: list[TaskTraining]) -> list[TaskTraining]:
    """Compute in float64: what rounding there is grows to nothing that could hide a mistake."""
    for each in trainings:
        each.model.double()
        each.discriminator.double()
        if each.average is not None:
            each.average.module.double()
    return trainings


def assert_alike(one: TaskTraining, other: TaskTraining, tolerance: float) -> None:
    def tensors(found: TaskTraining) -> dict[str, torch.Tensor]:
        state = {f"model {k}": v for k, v in found.model.state_dict().items()}
        state |= {f"discriminator {k}": v for k, v in found.discriminator.state_dict().items()}
        if found.average is not None:
            state |= {f"average {k}": v for k, v in found.average.state_dict().items()}
        for number, moments in found.optimizer.state_dict()["state"].items():
            state |= {f"{number} {k}": v for k, v in moments.items()}
        return state

    assert one.step == other.step
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name], rtol=tolerance, atol=tolerance, msg=name)
    assert torch.equal(one._generator.get_state(), other._generator.get_state())
    assert one._rng.bit_generator.state == other._rng.bit_generator.state


@pytest.mark.parametrize(
    "shared",
    [
        {},
        {"joint_batch_norm": False, "augment_inputs": False},
        {"ema_decay": 0.0},
        {"augmentation": 0.0},
        {"w_q": 0.0, "w_d": 0.0, "w_z": 0.0, "w_s": 0.0, "w_source": 1.0, "lambda_max": 0.0},
    ],
    ids=["default", "apart", "no average", "no augmentation", "source only"],
)
def test_members_end_where_they_would_alone(shared: dict[str, Any]) -> None:
    def make() -> list[TaskTraining]:
        return in_double(
            [training(task, seed, **{**own, **shared}) for task in TASKS for seed, own in enumerate(MEMBERS)]
        )

    alone, together = make(), make()
    for steps in (1, 5, 4):
        for each in alone:
            each.advance(each.step + steps)
        advance_together(together, [each.step + steps for each in together])
        for pair in zip(alone, together, strict=True):
            assert_alike(*pair, tolerance=1e-9)


@pytest.mark.parametrize("task", ["series", "vector"])
def test_other_kinds_of_samples(task: str, kind_task: Callable[[str], Any]) -> None:
    def make() -> list[TaskTraining]:
        settings = [TrainSettings(steps=10, batch_size=8, width=4, k=k) for k in (1, 2)]
        return in_double([TaskTraining(kind_task(task), each, 3) for each in settings])

    alone, together = make(), make()
    for each in alone:
        each.advance(6)
    advance_together(together, [6, 6])
    for pair in zip(alone, together, strict=True):
        assert_alike(*pair, tolerance=1e-9)


def test_in_float32_one_step_differs_by_rounding_only() -> None:
    alone, together = ([training(seed=seed, **own) for seed, own in enumerate(MEMBERS)] for _ in range(2))
    for each in alone:
        each.advance(1)
    advance_together(together, [1] * len(together))
    for pair in zip(alone, together, strict=True):
        assert_alike(*pair, tolerance=1e-5)


def test_members_may_join_and_leave() -> None:
    alone, together = (in_double([training(seed=seed) for seed in range(3)]) for _ in range(2))
    for each, steps in zip(alone, (12, 4, 8), strict=True):
        each.advance(steps)
    first, leaving, joining = together
    advance_together([first, leaving], [4, 4])
    advance_together([first, joining], [12, 8])
    for pair in zip(alone, together, strict=True):
        assert_alike(*pair, tolerance=1e-9)


def test_members_at_different_distances_each_come_to_their_own_step() -> None:
    trainings = [training(seed=seed) for seed in range(3)]
    advance_together(trainings, [5, 2, 0])
    assert [each.step for each in trainings] == [5, 2, 0]


def test_a_restored_member_goes_on_in_a_population() -> None:
    alone, before = in_double([training(seed=1), training(seed=1)])
    alone.advance(6)
    before.advance(3)
    (after,) = in_double([training(seed=1)])
    after.restore(before.state())
    advance_together([after, *in_double([training(seed=2)])], [6, 3])
    assert_alike(alone, after, tolerance=1e-9)


def test_a_member_that_is_not_finite_disturbs_no_other() -> None:
    alone, together = (in_double([training(seed=seed) for seed in range(2)]) for _ in range(2))
    bad = in_double([training(seed=5, lambda_max=1e308, w_q=1e308)])[0]
    for each in alone:
        each.advance(5)
    advance_together([together[0], bad, together[1]], [5, 5, 5])
    for pair in zip(alone, together, strict=True):
        assert_alike(*pair, tolerance=1e-9)
    together[0].check_finite()
    with pytest.raises(NonFiniteLossError, match="inter_domain"):
        bad.check_finite()


def test_other_shapes_are_other_populations() -> None:
    wide, narrow = training(width=8), training()
    assert shape_of(wide) != shape_of(narrow)
    assert shape_of(narrow) == shape_of(training(TASKS[1], 3, k=4, lambda_max=0.1))
    with pytest.raises(ValueError, match="one shape"):
        Population([wide, narrow])
    advance_together([wide, narrow], [2, 2])
    assert wide.step == narrow.step == 2


def test_without_memory_for_all_it_trains_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = (in_double([training(seed=seed) for seed in range(3)]) for _ in range(2))
    sizes = []
    step = Population._step

    def scarce(self: Population, done: int) -> None:
        step(self, done)
        sizes.append(len(self._members))
        if len(self._members) > 2 and done == 1:
            raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(population.Population, "_step", scarce)
    for each in alone:
        each.advance(4)
    advance_together(together, [4, 4, 4])
    assert sizes == [3, 3, 2, 2, 2, 2]
    for pair in zip(alone, together, strict=True):
        assert_alike(*pair, tolerance=1e-9)
