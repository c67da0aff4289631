"""Trials an hour of populations of several sizes, against the same trainings one by one, on one device.

Every member has another λ_max, α, T and seed, and K from 1 to 4 in turn. What is timed is training alone; one
by one are four trainings with K from 1 to 4, each by itself. All take turns.
"""

from functools import partial
from typing import Any

import torch

from benchmarks.step import random_task
from benchmarks.timing import interleaved
from iimt_search.settings import TrainSettings
from iimt_search.training.population import advance_together
from iimt_search.training.task_training import TaskTraining


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _advance(trainings: list[TaskTraining], steps: int, device: str) -> None:
    advance_together(trainings, [each.step + steps for each in trainings])
    _synchronise(device)


def measure_population(
    sizes: tuple[int, ...], image_size: int, device: str, rounds: int, steps: int = 10
) -> dict[str, Any]:
    """Measure training steps a second, over all members.

    Args:
        sizes: numbers of members.
        image_size: in pixels.
        device: where to train.
        rounds: how often each is timed.
        steps: in each timed round.
    """
    task = random_task(image_size)

    def member(index: int) -> TaskTraining:
        settings = TrainSettings(
            image_size=image_size,
            steps=10**6,
            lambda_max=10 ** (index % 5 - 2),
            alpha=0.2 + 0.1 * (index % 9),
            temperature=0.1 + 0.1 * (index % 9),
            k=1 + index % 4,
        )
        return TaskTraining(task, settings, index, device)

    # One by one, with the same mixture of K: four trainings in turn.
    alone = [member(index) for index in range(4)]

    def one_by_one() -> None:
        for training in alone:
            training.advance(training.step + steps)
        _synchronise(device)

    work = {"one by one": one_by_one}
    for size in sizes:
        work[str(size)] = partial(_advance, [member(index) for index in range(size)], steps, device)
    seconds = interleaved(work, rounds)
    rates = {name: (4 if name == "one by one" else int(name)) * steps / s for name, s in seconds.items()}
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "processor",
        "image_size": image_size,
        "steps_a_second": rates,
        "of_one_by_one": {name: rate / rates["one by one"] for name, rate in rates.items()},
    }
