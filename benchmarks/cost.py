"""What a step and a search cost against batch size, K, image size, steps, tasks and trials.

One quantity is changed at a time, all settings take turns in one process, and each is given as a ratio to the
first of its row.
"""

import threading
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.step import random_task
from benchmarks.timing import interleaved
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames
from iimt_search.space.load import space_from_text
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.registry import VALIDATORS

STEP_ROWS: dict[str, tuple[int, ...]] = {
    "k": (1, 2, 4, 8),
    "batch_size": (32, 64, 128, 256),
    "image_size": (16, 24, 32, 48),
}
RUN_ROWS: dict[str, tuple[int, ...]] = {"steps": (20, 40, 80), "tasks": (1, 2, 3), "trials": (2, 4, 8)}

_TASKS = ("syn-digits->digits", "digits->digits-m", "syn-digits->digits-m")
_SPACE = """
schema: 1
study: cost
tasks: [{tasks}]
search: {{lambda_max: {{low: 0.1, high: 10, log: true}}}}
train: {{image_size: 16, steps: {steps}}}
budget: {{trials: {trials}}}
pruner: none
confirm: {{top: 1, seeds: 1}}
retrain: {{steps: 1}}
"""


def _step(name: str, value: int) -> partial[None]:
    settings = TrainSettings.model_validate({"image_size": 16, "steps": 10**6, name: value})
    training = TaskTraining(random_task(settings.image_size), settings, 0)
    return partial(_advance, training)


def _advance(training: TaskTraining) -> None:
    training.advance(training.step + 3)


def _run(steps: int = 20, tasks: int = 1, trials: int = 2) -> None:
    text = _SPACE.format(tasks=", ".join(_TASKS[:tasks]), steps=steps, trials=trials)
    domains = {name for task in _TASKS for name in task.split("->")}
    space = space_from_text(text, KnownNames(tuple(domains), VALIDATORS))
    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / space.study)
        options = RunOptions(sqlite_url(folder.database))
        run_study(space, folder, options, InlineExecutor, Silent(), threading.Event())


def measure_cost(rounds: int, threads: int) -> dict[str, Any]:
    """Return row → value → milliseconds (of a step, or of a whole run) and ratio to the row's first."""
    quiet_optuna()
    torch.set_num_threads(threads)
    found: dict[str, Any] = {}
    for name, values in STEP_ROWS.items():
        seconds = interleaved({str(value): _step(name, value) for value in values}, rounds)
        found[f"step, {name}"] = _row({value: time / 3 for value, time in seconds.items()})
    for name, values in RUN_ROWS.items():
        work = {str(value): partial(_run, **{name: value}) for value in values}
        found[f"run, {name}"] = _row(interleaved(work, max(1, rounds // 5)))
    return found


def _row(seconds: dict[str, float]) -> dict[str, dict[str, float]]:
    first = next(iter(seconds.values()))
    return {
        name: {"milliseconds": 1000 * value, "of_first": value / first} for name, value in seconds.items()
    }
