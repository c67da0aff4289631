"""The time left, of runs whose trainings take simulated time."""

import heapq
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.space import Space
from iimt_search.study.executors.pace import is_plain
from iimt_search.study.executors.runner import FixedJobs, JobRunner, Steps, UnderWay
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import RunProgress, ScopeProgress, Silent, Snapshot
from iimt_search.study.scope import Scope
from iimt_search.study.search.budget import SearchTime
from iimt_search.study.search.sampling import make_pruner, source_only_settings
from iimt_search.study.search.trials import TrialSource
from iimt_search.study.selection.confirm import candidate_settings, select_candidates
from iimt_search.study.storage.driver import flush

SPACE = {
    "schema": 1,
    "study": "s",
    "tasks": ["digits->digits-m", "syn-digits->digits", "syn-digits->digits-m"],
    "search": {"alpha": {"low": 0.1, "high": 2.0}},
    "sampler": "random",
    "train": {"steps": 100, "evaluations": 5},
    "objective": "composite",
    "retrain": {"steps": 300},
}
START, LAST = 8.0, 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Simulated:
    """Trains in simulated time: a second a step; the first jobs start slowly, last evaluations take long."""

    def __init__(self, capacity: int, clock: Clock) -> None:
        self.capacity, self._clock, self._random = capacity, clock, random.Random(1)
        self._jobs: dict[str, Job] = {}
        self._ends: list[tuple[float, str, int]] = []
        self._finished: list[Event] = []
        self._idle, self.idle, self._seen = capacity, 0.0, 0.0

    def submit(self, job: Job) -> None:
        cold, self._idle = self._idle > 0, self._idle - 1
        self._jobs[job.key] = job
        self._train(job, 0, START if cold else 0.0)

    def _train(self, job: Job, step: int, more: float) -> None:
        steps = job.settings.steps // job.settings.evaluations
        seconds = steps * len(job.tasks) * (0.3 if is_plain(job) else 1.0) * self._random.uniform(0.8, 1.2)
        last = LAST if step + steps == job.settings.steps else 0.0
        heapq.heappush(self._ends, (self._clock.now + more + seconds + last, job.key, step + steps))

    def wait(self, timeout: float) -> Sequence[Event]:
        self.idle += (self.capacity - len(self._jobs)) * (self._clock.now - self._seen)
        self._seen = self._clock.now
        if self._finished:
            events, self._finished = self._finished, []
            for event in events:
                del self._jobs[event.key]
            return events
        before = self._clock.now
        self._clock.now, key, step = heapq.heappop(self._ends)
        self.idle += (self.capacity - len(self._jobs)) * (self._clock.now - before)
        self._seen = self._clock.now
        value = self._random.random()
        scores = {task.name: {"composite": value} for task in self._jobs[key].tasks}
        return [Report(key, Evaluation(step, scores))]

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        assert scored is not None
        job = self._jobs[key]
        if go_on and scored.step < job.settings.steps:
            self._train(job, scored.step, 0.0)
        else:
            self._finished.append(Finished(key, "complete" if go_on else "stopped"))

    def close(self) -> None: ...


class Watching(Silent):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen: list[tuple[float, Snapshot]] = []

    def snapshot(self, snapshot: Snapshot) -> None:
        self.seen.append((self.clock.now, snapshot))


def way(scope: Scope, progress: ScopeProgress, clock: SearchTime) -> Steps[int]:
    """The jobs of a scope, without models."""

    def fixed(jobs: list[Job]) -> FixedJobs:
        return FixedJobs(jobs, scope.objective, scope.store, lambda _: None)

    clock.begin()
    source = TrialSource(scope, lambda _: None, clock.over, lambda _: None)
    progress.budget = source.budget
    progress.enter("search")
    yield fixed(scope.source_only_jobs()), source
    trials, _ = select_candidates(scope)
    named = candidate_settings(scope, trials)
    seeds = range(scope.space.confirm.seeds)
    jobs = [scope.confirm_job(name, named[name], index) for name in trials for index in seeds]
    progress.enter("confirm", jobs)
    yield [fixed(jobs)]
    winner = next(iter(named))
    wanted = {winner: named[winner], "source-only": source_only_settings(scope.space)}
    jobs = [j for n, s in wanted.items() for task in scope.tasks for j in scope.retrain_jobs(n, s, task)]
    progress.enter("retrain", jobs)
    yield [fixed(jobs)]
    progress.enter("")
    return source.budget.over


def simulate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, **changes: Any
) -> tuple[list[tuple[float, Snapshot]], float, Simulated, list[int]]:
    """Return what was seen and when, the seconds of the whole run, its executor, and each task's trials."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr(Scope, "have", lambda self, job: self.stored(job.key) is not None)
    space = Space.model_validate(SPACE | changes)
    groups = [space.tasks] if space.scope == "joint" else [(task,) for task in space.tasks]
    studies = [optuna.create_study(direction="maximize", pruner=make_pruner(space)) for _ in groups]
    scopes = [
        Scope(space, tasks, study, StudyFolder(folder), "cpu")
        for tasks, study in zip(groups, studies, strict=True)
    ]
    clocks = [SearchTime(space.budget.timeout) for _ in scopes]
    parts = [
        ScopeProgress(scope, TrialSource(scope, print, bool, print).budget, clock)
        for scope, clock in zip(scopes, clocks, strict=True)
    ]
    executor, listener = Simulated(workers, clock), Watching(clock)
    progress = RunProgress(parts, executor, listener)

    def watch(running: dict[str, UnderWay]) -> None:
        for scope, clock in zip(scopes, clocks, strict=True):
            own = sum(each.job.prefix == scope.prefix for each in running.values())
            clock.charge(own, len(running))
            flush(scope.study)
        progress.watch(running)

    runner = JobRunner(executor, threading.Event(), watch)  # type: ignore[arg-type]
    counts = runner.carry_out([way(*each) for each in zip(scopes, parts, clocks, strict=True)])
    return listener.seen, clock.now, executor, counts


@pytest.mark.parametrize(
    ("workers", "changes"),
    [
        (1, {"scope": "per_task"}),
        (2, {"scope": "per_task"}),
        (8, {"scope": "per_task"}),
        (2, {"scope": "joint"}),
        (2, {"scope": "per_task", "pruner": "successive_halving", "budget": {"trials": 24}}),
        (2, {"scope": "per_task", "budget": {"trials": None, "steps": 2000}}),
        (2, {"scope": "per_task", "budget": {"trials": None, "timeout": 900}}),
    ],
    ids=["one worker", "two", "eight", "joint", "halving", "steps", "timeout"],
)
def test_the_time_left_is_within_a_third_after_a_tenth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, changes: dict[str, Any]
) -> None:
    seen, whole, _, _ = simulate(tmp_path, monkeypatch, workers, **changes)
    told = [(at / whole, snapshot.left) for at, snapshot in seen if 0.1 * whole <= at <= 0.9 * whole]
    assert len(told) > 50
    wrong = [
        (share, left, (1 - share) * whole)
        for share, left in told
        if left is None or abs(left - (1 - share) * whole) > (1 - share) * whole / 3
    ]
    assert wrong == []


def test_workers_are_busy_and_done_only_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, whole, executor, counts = simulate(tmp_path, monkeypatch, 3, scope="per_task")
    assert counts == [16, 16, 16]
    assert executor.idle < 0.1 * whole * 3
    shares = [snapshot.done for _, snapshot in seen]
    assert shares == sorted(shares) and shares[0] < 0.05 and shares[-1] == pytest.approx(1, abs=0.01)
    assert {snapshot.phase for _, snapshot in seen} == {"search", "confirm", "retrain"}
    assert any("->" in snapshot.best for _, snapshot in seen)
    prefixes = [{key.rpartition("-trial")[0] for key in snapshot.running} for _, snapshot in seen[:100]]
    assert max(map(len, prefixes)) == 3  # all tasks at once


def test_a_timeout_is_each_tasks_share_of_the_wall_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"budget": {"trials": None, "timeout": 900}, "pruner": "none"}
    alone = simulate(tmp_path, monkeypatch, 1, scope="per_task", **changes)[3]
    together = simulate(tmp_path, monkeypatch, 3, scope="per_task", **changes)[3]
    assert all(8 <= count <= 11 for count in alone)
    assert all(24 <= count <= 32 for count in together)
