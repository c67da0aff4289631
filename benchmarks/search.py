"""Trials an hour for each number of workers, and the tool's own time beside the training.

A search of one embedded task by `iimt-search run`'s own code, without pruning, so that every trial takes
all its steps. The cores are shared out evenly between 1 … N workers. Where the time goes is measured within
one process: training steps, predictions of validation and target samples, and the tool's own time: ask,
tell, reports, notes, validators, checkpoints and kept files.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.registry import VALIDATORS

_SPACE = """
schema: 1
study: search
tasks: [syn-digits->digits]
train: {{image_size: {size}, steps: {steps}}}
budget: {{trials: {trials}}}
sampler: {{name: tpe, startup_trials: 2}}
pruner: none
confirm: {{top: 1, seeds: 1}}
"""


def search_space(size: int, steps: int, trials: int) -> Space:
    """Return a space of one embedded task whose trials all take as many steps."""
    known = KnownNames(("syn-digits", "digits"), VALIDATORS)
    return space_from_text(_SPACE.format(size=size, steps=steps, trials=trials), known)


class _Clock(Silent):
    """Notes when the search has ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def line(self, text: str) -> None:
        """Look for the lines that begin and end the search."""
        if text.startswith("search:"):
            self.began = time.perf_counter()
        elif text.startswith("confirm:"):
            self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the search took."""
        return self.ended - self.began


def _search(space: Space, start: Callable[[], Executor]) -> float:
    """Run a study from its beginning; returns the seconds of its search."""
    clock = _Clock()
    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / space.study)
        run_study(space, folder, RunOptions(sqlite_url(folder.database)), start, clock, threading.Event())
    return clock.seconds


class _Stopwatch:
    """Adds up what a method takes while it is on."""

    def __init__(self) -> None:
        self.seconds, self.on = 0.0, True

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method, timed."""

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += (time.perf_counter() - began) * self.on

        return timed


class _Ending(_Clock):
    """Switches stopwatches off when the search has ended."""

    def __init__(self, *watches: _Stopwatch) -> None:
        super().__init__()
        self._watches = watches

    def line(self, text: str) -> None:
        """Look for the line that ends the search."""
        super().line(text)
        if text.startswith("confirm:"):
            for watch in self._watches:
                watch.on = False


def _shares(space: Space, threads: int) -> dict[str, float]:
    """Return the shares of a search within this process: training steps, predictions, everything else."""
    torch.set_num_threads(threads)
    training, predicting = _Stopwatch(), _Stopwatch()
    clock = _Ending(training, predicting)
    with TemporaryDirectory() as root, ExitStack() as patches:
        for name, watch in (("advance", training), ("predictions", predicting)):
            method = getattr(TaskTraining, name)
            patches.callback(setattr, TaskTraining, name, method)
            setattr(TaskTraining, name, watch.around(method))
        folder = StudyFolder(Path(root) / space.study)
        options = RunOptions(sqlite_url(folder.database))
        run_study(space, folder, options, InlineExecutor, clock, threading.Event())
    shares = {"training": training.seconds / clock.seconds, "predictions": predicting.seconds / clock.seconds}
    return {**shares, "own": 1 - sum(shares.values())}


def measure_search(workers: tuple[int, ...], trials: int, steps: int, size: int) -> dict[str, Any]:
    """Measure searches of so many trials.

    Args:
        workers: numbers of worker processes to compare.
        trials: of each search.
        steps: of each trial.
        size: of the images, in pixels.
    """
    quiet_optuna()
    cores = os.cpu_count() or 1
    space, short = (search_space(size, count, trials) for count in (steps, 5))
    _shares(short, 1)  # what a process imports once is no share of a long search
    found: dict[str, Any] = {"trials": trials, "steps": steps, "image_size": size, "cores": cores}
    found["shares"] = _shares(space, 1)
    found["trials_an_hour"] = {}
    for count in workers:
        threads = max(1, cores // count)
        seconds = _search(space, partial(LocalExecutor, count, threads))
        found["trials_an_hour"][f"{count} × {threads} threads"] = 3600 * trials / seconds
    return found
