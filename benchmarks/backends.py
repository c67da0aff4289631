"""The same study with the local backend and with Ray Tune, by turns.

Two workers of one thread each, no pruning: both backends run the very same trainings. The start is apart:
from the executor's making to the first report, which takes processes, Ray, imports and data. What is
compared is the time from there to the search's end.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.search import search_space
from iimt_search.errors import StudyInterruptedError
from iimt_search.space import Space
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna


class _Clock(Silent):
    """Notes the first report and the end of the search, and stops the run there."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.began = time.perf_counter()
        self.first = self.ended = 0.0

    def snapshot(self, snapshot: Snapshot) -> None:
        """Look for the first report."""
        if not self.first and any(snapshot.running.values()):
            self.first = time.perf_counter()

    def line(self, text: str) -> None:
        """Look for the line that ends the search."""
        if text.startswith("confirm:"):
            self.ended = time.perf_counter()
            self.stop.set()


def _run(space: Space, make: Callable[[Path], Executor]) -> tuple[float, float]:
    """Run a study's search; returns the seconds of the start, and from the first report to the end."""
    clock = _Clock()

    def start(path: Path) -> Executor:
        clock.began = time.perf_counter()
        return make(path)

    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / space.study)
        options = RunOptions(f"sqlite:///{folder.database}")
        try:
            run_study(space, folder, options, lambda: start(folder.path), clock, clock.stop)
        except StudyInterruptedError:
            pass  # after the search nothing is measured
    return clock.first - clock.began, clock.ended - clock.first


def measure_backends(trials: int, steps: int, size: int, rounds: int) -> dict[str, Any]:
    """Measure searches of so many trials with each backend, by turns.

    Args:
        trials: of each search.
        steps: of each trial.
        size: of the images, in pixels.
        rounds: how often each is run.

    Returns:
        Backend → medians of ``start`` (seconds), ``search`` (seconds) and ``trials_an_hour``; and
        ``ratio``: Ray's search over the local one's, the median over the rounds.
    """
    quiet_optuna()
    space = search_space(size, steps, trials)
    makers: dict[str, Callable[[Path], Executor]] = {
        "local": lambda _: LocalExecutor(2, 1),
        "ray": lambda folder: RayExecutor(RayOptions(folder, workers=2, cores=2)),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for round_ in range(rounds):
        # The other one first each time: a machine that slows down hits both.
        for name in sorted(makers, reverse=bool(round_ % 2)):
            seconds[name].append(_run(space, makers[name]))
    found: dict[str, Any] = {"trials": trials, "steps": steps, "image_size": size, "rounds": rounds}
    for name, times in seconds.items():
        search = median(t for _, t in times)
        found[name] = {
            "start": median(t for t, _ in times),
            "search": search,
            "trials_an_hour": 3600 * trials / search,
        }
    pairs = zip(seconds["ray"], seconds["local"], strict=True)
    found["ratios"] = [ray / local for (_, ray), (_, local) in pairs]
    found["ratio"] = median(found["ratios"])
    return found
