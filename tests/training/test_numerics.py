"""Extreme settings and data: a training ends with finite scores, or says which term or weight is not."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.errors import NonFiniteLossError, TrainingError
from iimt_search.settings import TrainSettings
from iimt_search.training import task_training
from iimt_search.training.kept import rounded
from iimt_search.training.population import advance_together
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import VALIDATORS

SHAPES: dict[str, tuple[int, ...]] = {"image": (3, 8, 8), "series": (2, 16), "vector": (5,)}
AUGMENTATIONS = {"image": "image", "series": "series", "vector": "noise"}
SCORES = [
    name
    for name, validator in VALIDATORS.items()
    if validator.cost in ("free", "probe") and "few-shot labels" not in validator.needs
]
EXTREMES: dict[str, dict[str, Any]] = {
    "lambda_max": {"lambda_max": 1e6},
    "alpha": {"alpha": 1e-3},
    "temperature": {"temperature": 0.01},
    "k": {"k": 32},
    "all": {"lambda_max": 1e6, "alpha": 1e-3, "temperature": 0.01, "k": 32},
    "bfloat16": {"precision": "bfloat16"},
    "learning rate": {"learning_rate": 1.0},
}
STEPS = 4


def make_task(
    kind: str, change: Callable[[np.ndarray], np.ndarray] = lambda x: x, classes: int = 3
) -> DomainTask:
    rng = np.random.default_rng(0)

    def samples(count: int) -> np.ndarray:
        x = (
            rng.integers(0, 255, (count, *SHAPES[kind]))
            if kind == "image"
            else rng.normal(size=(count, *SHAPES[kind]))
        )
        return change(x.astype(np.uint8 if kind == "image" else np.float32))

    y = np.arange(24) % classes
    source, val, target = Labelled(samples(24), y), Labelled(samples(12), y[:12]), Unlabelled(samples(20))
    return DomainTask("a->b", ("a", "b", "c"), kind, AUGMENTATIONS[kind], source, val, target, "f")  # type: ignore[arg-type]


def trained(task: DomainTask, together: bool, **changes: Any) -> list[TaskTraining]:
    settings = TrainSettings(
        **{
            "steps": STEPS,
            "batch_size": 8,
            "width": 4,
            "precision": "float32",
            "learning_rate": 1e-2,
            **changes,
        }
    )
    trainings = [TaskTraining(task, settings, seed) for seed in range(1 + together)]
    if together:
        advance_together(trainings, [STEPS] * 2)
    else:
        trainings[0].advance(STEPS)
    return trainings


def check(trainings: list[TaskTraining]) -> None:
    for training in trainings:
        training.check_finite()
        scores = score_all(SCORES, rounded(training.predictions()))
        assert all(math.isfinite(value) for value in scores.values()), scores


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_settings_stay_finite(extreme: str, kind: str, together: bool) -> None:
    check(trained(make_task(kind), together, **EXTREMES[extreme]))


def equal(x: np.ndarray) -> np.ndarray:
    return np.full_like(x, 7)


def large(x: np.ndarray) -> np.ndarray:
    return x * np.float32(1e37)


def small(x: np.ndarray) -> np.ndarray:
    return x * np.float32(1e-38)


@pytest.mark.parametrize(
    ("change", "kind"),
    [(equal, "image"), *((c, kind) for c in (equal, large, small) for kind in ("series", "vector"))],
)
def test_extreme_samples_stay_finite(change: Callable[[np.ndarray], np.ndarray], kind: str) -> None:
    check(trained(make_task(kind, change), False, **EXTREMES["all"]))


@pytest.mark.parametrize("kind", SHAPES)
def test_batches_of_one_class_stay_finite(kind: str) -> None:
    check(trained(make_task(kind, classes=1), True, **EXTREMES["all"]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_term(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    loss_terms = task_training.loss_terms

    def broken(*args: Any) -> dict[str, Tensor]:
        return {
            name: term * value if name == "consistency" else term for name, term in loss_terms(*args).items()
        }

    monkeypatch.setattr(task_training, "loss_terms", broken)
    with pytest.raises(NonFiniteLossError, match="loss term 'consistency' of a->b was not finite at step 0"):
        trained(make_task("vector"), False, ramp=False)


@pytest.mark.parametrize("at", [0, STEPS - 1])
def test_a_gradient_that_is_not_finite_is_told_although_its_loss_was(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_terms, steps = task_training.loss_terms, []

    def broken(*args: Any) -> dict[str, Tensor]:
        terms = loss_terms(*args)
        steps.append(None)
        if len(steps) == at + 1:
            name, term = next(iter(terms.items()))
            zero = term - term.detach()  # the root's gradient at 0 is infinite, its value 0
            terms[name] = term + torch.sqrt(zero)
        return terms

    monkeypatch.setattr(task_training, "loss_terms", broken)
    told = "loss term .* was not finite at step 1" if at == 0 else f"weight .* not finite after step {STEPS}"
    with pytest.raises(TrainingError, match=told):
        trained(make_task("vector"), False)
