"""How many workers one driver keeps busy: recorded learning curves, replayed in simulated time.

The driver is the product's own: its source of trials, its job runner, its storage. The workers are simulated:
each trial replays the learning curve of a real one and takes about a minute of simulated time, which
passes at once. What the driver itself takes is measured and passes for the workers too: while it works, those
that have reported wait for their answer, and those that have finished for their next trial.
"""

import heapq
import itertools
import multiprocessing
import os
import random
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna

from benchmarks.cluster_curves import SPACE, read_curves
from benchmarks.postgresql import PASSWORD, NoServerError, postgresql
from iimt_search.errors import StudyInterruptedError
from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.executors.runner import JobRunner, UnderWay
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import KeptLimit, kept_limit
from iimt_search.study.progress import RunProgress, ScopeProgress, Silent
from iimt_search.study.scope import Scope
from iimt_search.study.search.budget import SearchTime
from iimt_search.study.search.sampling import make_pruner, quiet_optuna
from iimt_search.study.search.trials import TrialSource
from iimt_search.study.storage.database import PASSWORD_VARIABLE, opened_storage, sqlite_url
from iimt_search.study.storage.driver import DriverStorage, flush
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import driver_session
from iimt_search.validators.registry import VALIDATORS

SECONDS = 60.0  # of a trial
_TAIL = 200  # trials over which the driver's time at the end is averaged
_JITTER = 0.25  # trainings never take exactly as long; without it all workers would report at once


@dataclass
class _Training:
    """A job under way: what it will still report, and since when it waits for an answer."""

    job: Job
    curve: Iterator[Evaluation]
    evaluations: int


class SimulatedExecutor:
    """An executor whose workers train in simulated time.

    The pruner is asked, but every trial goes on to its end, so that all take the same time.

    Args:
        workers: how many.
        curves: one trial's evaluations each, replayed in turn.
        limit: seconds of real time after which ``stop`` is set.
        stop: ends the run.

    Attributes:
        begun: when each trial was begun, seconds that the driver had worked: by the clock, and of processor.
        ended: trials that have ended.
        changes: (simulated second, +1 or -1) where a worker begins or ends to train.
        last_begun: simulated second at which the last trial was begun.
    """

    def __init__(
        self, workers: int, curves: Sequence[Sequence[Evaluation]], limit: float, stop: threading.Event
    ) -> None:
        self.capacity = workers
        self._curves, self._limit, self._stop = curves, limit, stop
        self._random = random.Random(0)
        self._events: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._training: dict[str, _Training] = {}
        self._now = 0.0
        self._returned = self._began = time.perf_counter()
        self.begun: list[tuple[float, float]] = []
        self.ended = 0
        self._worked = self._processor = 0.0
        self._processor_returned = time.process_time()
        self.changes: list[tuple[float, int]] = []
        self.last_begun = 0.0

    def _simulated(self) -> float:
        return self._now + time.perf_counter() - self._returned

    def _train(self, training: _Training) -> None:
        """Begin the training up to the next evaluation, or end the job after the last."""
        now, evaluation = self._simulated(), next(training.curve, None)
        if evaluation is None:
            event: Event = Finished(training.job.key, "complete")
            heapq.heappush(self._events, (now, next(self._order), event))
            return
        takes = SECONDS / training.evaluations * self._random.uniform(1 - _JITTER, 1 + _JITTER)
        self.changes += [(now, 1), (now + takes, -1)]
        event = Report(training.job.key, evaluation)
        heapq.heappush(self._events, (now + takes, next(self._order), event))

    def submit(self, job: Job) -> None:
        """Start a job on a free worker."""
        curve = self._curves[len(self.begun) % len(self._curves)]
        self._training[job.key] = _Training(job, iter(curve), len(curve))
        self.last_begun = self._simulated()
        processor = time.process_time() - self._processor_returned
        self.begun.append((self._worked + time.perf_counter() - self._returned, self._processor + processor))
        self._train(self._training[job.key])

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return what has happened; where nothing has, let the time pass until something does."""
        worked = time.perf_counter() - self._returned
        self._worked += worked
        self._processor += time.process_time() - self._processor_returned
        self._now += worked
        if time.perf_counter() - self._began > self._limit:
            self._stop.set()
        found: list[Event] = []
        if self._events:
            self._now = max(self._now, self._events[0][0])
        while self._events and self._events[0][0] <= self._now:
            found.append(heapq.heappop(self._events)[2])
        for event in found:
            self._leave_files(event)
        self._returned, self._processor_returned = time.perf_counter(), time.process_time()
        return found

    def _leave_files(self, event: Event) -> None:
        """Write what a worker would: the driver deletes it, and watches how much there is."""
        job = self._training[event.key].job
        if isinstance(event, Finished):
            del self._training[event.key]
            self.ended += 1
            return
        if event.evaluation.step < job.settings.steps:
            return  # one of each trial is enough to see what the driver makes of them
        kept = job.kept_file(job.tasks[0].name, event.evaluation.step)
        for path in (Path(job.folder) / "checkpoint", kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(100))

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Let a job go on."""
        self._train(self._training[key])

    def close(self) -> None:
        """Nothing runs."""

    def busy_share(self) -> float:
        """Return the share of all workers' time that was spent training, until the last trial was begun."""
        busy = before = 0.0
        count = 0
        for at, change in sorted(self.changes):
            at = min(at, self.last_begun)
            busy += count * (at - before)
            count, before = count + change, at
        return busy / (self.capacity * self.last_begun)


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        sampler: its name in a space file.
        storage: ``sqlite`` or ``postgresql``.
        workers: how many are fed.
        trials: the budget.
        limit: seconds of real time after which it is cut.
        url: of the PostgreSQL server, "" for SQLite.
    """

    sampler: str
    storage: str
    workers: int
    trials: int
    limit: float
    url: str = field(default="", compare=False)


def _space(cell: Cell) -> Space:
    text = f"{SPACE}sampler: {{name: {cell.sampler}}}\nbudget: {{trials: {cell.trials}}}\n"
    return space_from_text(text, KnownNames(("digits", "digits-m"), VALIDATORS))


def _resident() -> float:
    """Return this process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@contextmanager
def _scope(cell: Cell, root: Path, curves: Sequence[Sequence[Evaluation]]) -> Iterator[Scope]:
    space, folder = _space(cell), StudyFolder(root / "cluster")
    folder.path.mkdir()
    with (
        opened_storage(cell.url or sqlite_url(folder.database)) as storage,
        driver_session(storage.engine, f"cluster {root.name}", folder.path) as session,
    ):
        writes = GuardedWrites(session, print, lambda _: False)
        study = optuna.create_study(
            study_name=root.name,
            storage=DriverStorage(storage, writes),
            direction="maximize",
            pruner=make_pruner(space),
        )
        study.set_user_attr("space", space.canonical())
        scope = Scope(space, space.tasks, study, folder, "cpu")
        scope.store(scope.source_only_job(), curves[0][-1])
        yield scope


def measure(cell: Cell) -> dict[str, Any]:
    """Run one cell; returns its row."""
    quiet_optuna()
    curves, stop = read_curves(), threading.Event()
    with TemporaryDirectory() as root, _scope(cell, Path(root), curves) as scope:
        limit = KeptLimit(scope.folder, scope.task_names, scope.space.keep.megabytes * 1_000_000)
        source = TrialSource(scope, lambda _: None, lambda: False, kept_limit(scope, limit, lambda _: None))
        executor = SimulatedExecutor(cell.workers, curves, cell.limit, stop)
        progress = RunProgress([ScopeProgress(scope, source.budget, SearchTime(None))], executor, Silent())
        memory = _Memory(executor)

        def watch(running: Mapping[str, UnderWay]) -> None:
            flush(scope.study)
            progress.watch(running)

        runner = JobRunner(executor, stop, watch)
        cut = False
        try:
            runner.run(memory.around(source))
        except StudyInterruptedError:
            cut = True
    return {**_row(cell, executor), "cut": cut, "kilobytes_a_trial": memory.kilobytes_a_trial()}


class _Memory:
    """Notes the process's memory as trials end."""

    def __init__(self, executor: SimulatedExecutor) -> None:
        self._executor = executor
        self._seen: list[tuple[int, float]] = []

    def around(self, source: TrialSource) -> TrialSource:
        """Return the source, watched."""
        ended = source.finished

        def finished(job: Job, outcome: Finished) -> None:
            ended(job, outcome)
            if source.budget.over % 100 == 0:
                self._seen.append((source.budget.over, _resident()))

        source.finished = finished  # type: ignore[method-assign]
        return source

    def kilobytes_a_trial(self) -> float | None:
        """Return the growth over the second half, None where too few trials were seen."""
        if len(self._seen) < 4:
            return None
        (first, low), (last, high) = self._seen[len(self._seen) // 2], self._seen[-1]
        return 1000 * (high - low) / (last - first)


def _row(cell: Cell, executor: SimulatedExecutor) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sampler": cell.sampler,
        "storage": cell.storage,
        "workers": cell.workers,
        "trials": executor.ended,
        "busy": executor.busy_share(),
    }
    begun = executor.begun
    # At first workers only begin trials; how it goes on is seen once they end as many.
    if len(begun) > cell.workers + _TAIL:
        (clock_before, processor_before), (clock, processor) = begun[-1 - _TAIL], begun[-1]
        row["milliseconds"] = 1000 * (clock - clock_before) / _TAIL
        row["processor_milliseconds"] = 1000 * (processor - processor_before) / _TAIL
        row["feeds"] = int(1000 * SECONDS / row["milliseconds"])
    return row


def measure_cluster(cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Measure each cell in a process of its own; yields its row, or says why there is none."""
    try:
        with postgresql() as server:
            os.environ[PASSWORD_VARIABLE] = PASSWORD
            yield from _in_processes(cells, server.url)
    except NoServerError as error:
        yield {"storage": "postgresql", "missing": str(error)}
        yield from _in_processes([cell for cell in cells if cell.storage != "postgresql"], "")


def _in_processes(cells: Sequence[Cell], url: str) -> Iterator[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    for cell in cells:
        content = {**vars(cell), "url": url if cell.storage == "postgresql" else ""}
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield pool.submit(measure, Cell(**content)).result()


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    if "missing" in row:
        return f"{row['storage']}: left out, {row['missing']}"
    text = (
        f"{row['sampler']:6s} {row['storage']:10s} {row['workers']:4d} workers {row['busy']:6.1%} busy, "
        f"{row['trials']} trials"
    )
    if "feeds" in row:
        text += (
            f", driver {row['milliseconds']:.1f} ms a trial ({row['processor_milliseconds']:.1f} ms of "
            f"processor) at the end: could feed {row['feeds']}"
        )
    if row["kilobytes_a_trial"] is not None:
        text += f", {row['kilobytes_a_trial']:.1f} kB a trial"
    return text + ("; CUT: out of time" if row["cut"] else "")
