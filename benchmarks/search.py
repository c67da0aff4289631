"""Trials an hour for each number of workers, and the tool's own time beside the training.

A search of one embedded task by `iimt-search run`'s own code, without pruning, so that every trial takes
all its steps. The cores are shared out evenly between 1 … N workers. The tool's own time is measured within
one process: what the search takes beyond its training steps, which are ask, tell, reports, notes,
evaluation, validators, checkpoints and kept files.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.executor import Executor
from iimt_search.study.inline_executor import InlineExecutor
from iimt_search.study.listener import Silent
from iimt_search.study.local_executor import LocalExecutor
from iimt_search.study.proposals import quiet_optuna
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage import StudyFolder, sqlite_url
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


def _own_share(space: Space, threads: int) -> float:
    """Return the share of a search within this process that is not training steps."""
    torch.set_num_threads(threads)
    training, searched, plain = 0.0, {"on": True}, TaskTraining.advance

    def timed(self: TaskTraining, step: int) -> None:
        nonlocal training
        began = time.perf_counter()
        plain(self, step)
        training += (time.perf_counter() - began) * searched["on"]

    class _Ending(_Clock):
        def line(self, text: str) -> None:
            super().line(text)
            if text.startswith("confirm:"):
                searched["on"] = False

    clock = _Ending()
    TaskTraining.advance = timed  # type: ignore[method-assign]
    try:
        with TemporaryDirectory() as root:
            folder = StudyFolder(Path(root) / space.study)
            options = RunOptions(sqlite_url(folder.database))
            run_study(space, folder, options, InlineExecutor, clock, threading.Event())
    finally:
        TaskTraining.advance = plain  # type: ignore[method-assign]
    return 1 - training / clock.seconds


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
    text = _SPACE.format(size=size, steps=steps, trials=trials)
    space = space_from_text(text, KnownNames(("syn-digits", "digits"), VALIDATORS))
    found: dict[str, Any] = {"trials": trials, "steps": steps, "image_size": size, "cores": cores}
    found["own_share"] = _own_share(space, 1)
    found["trials_an_hour"] = {}
    for count in workers:
        threads = max(1, cores // count)
        seconds = _search(space, partial(LocalExecutor, count, threads))
        found["trials_an_hour"][f"{count} × {threads} threads"] = 3600 * trials / seconds
    return found
