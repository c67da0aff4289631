"""What the fast step costs in accuracy: default trainings, fast and plain, of the same seeds.

Each of the embedded tasks is trained with the default settings and several seeds, by the product one by one,
by the product as one population of all seeds, and by :mod:`benchmarks.plain`, which is float32, computes each
group of samples and each augmentation in a pass of its own, and so gives BatchNorm other batches. Accuracy is
that on the target's sealed test samples.
"""

from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any, cast

import torch

from benchmarks.plain import PlainTraining
from benchmarks.pool import accuracy
from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import open_sealed_target
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.models.network import Model
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training.batches import Samples
from iimt_search.training.population import advance_together
from iimt_search.training.predict import predict
from iimt_search.training.task_training import TaskTraining

TASKS = ("digits->digits-m", "syn-digits->digits", "syn-digits->digits-m")


def _accuracy(model: Model, test: Labelled) -> float:
    logits, _ = predict(model, Samples(test.unlabelled, torch.device("cpu")))
    return accuracy(logits, torch.from_numpy(test.y))


def _one_by_one(task: DomainTask, settings: TrainSettings, seeds: int) -> list[Model]:
    trainings = [TaskTraining(task, settings, seed) for seed in range(seeds)]
    for training in trainings:
        training.advance(settings.steps)
    return [training.evaluated_model() for training in trainings]


def _population(task: DomainTask, settings: TrainSettings, seeds: int) -> list[Model]:
    trainings = [TaskTraining(task, settings, seed) for seed in range(seeds)]
    advance_together(trainings, [settings.steps] * seeds)
    return [training.evaluated_model() for training in trainings]


def _plain(task: DomainTask, settings: TrainSettings, seeds: int) -> list[Model]:
    models = []
    for seed in range(seeds):
        training = PlainTraining(task, settings, seed)
        for _ in range(settings.steps):
            training.train_step()
        models.append(cast(Model, training.average.module))
    return models


WAYS: dict[str, Callable[[DomainTask, TrainSettings, int], list[Model]]] = {
    "one by one": _one_by_one,
    "population": _population,
    "plain": _plain,
}


def measure_accuracy(ways: tuple[str, ...], seeds: int, steps: int, size: int) -> dict[str, Any]:
    """Return task → way → mean, standard deviation and each seed's test accuracy in percent."""
    settings = TrainSettings(steps=steps, image_size=size)
    found: dict[str, Any] = {}
    for name in TASKS:
        spec = TaskSpec.model_validate(name)
        task = load_task(spec, size)
        test = open_sealed_target(spec, task.classes, size).test
        if not isinstance(test, Labelled):
            raise RuntimeError(f"{name} has no labelled test samples")
        found[name] = {}
        for way in ways:
            each = [_accuracy(model, test) for model in WAYS[way](task, settings, seeds)]
            found[name][way] = {"mean": fmean(each), "deviation": stdev(each), "accuracies": each}
    return found
