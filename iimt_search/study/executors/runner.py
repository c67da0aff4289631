"""Keeps an executor busy with jobs from sources, and carries reports and answers between them."""

import math
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from iimt_search.errors import MachineError, StudyInterruptedError
from iimt_search.records import Evaluation, Finished, Job
from iimt_search.study.executors.base import Executor
from iimt_search.study.scope import SOURCE_ONLY_KEY

# Seconds before each time that a job which the machine failed is tried again.
PAUSES = (0.0, 5.0, 20.0)
# After so many failures of the machine with no evaluation in between, it is not the jobs' fault; after more
# where more jobs run at once.
MOST_IN_A_ROW = 12
_POLL_SECONDS = 0.5

T = TypeVar("T")


@dataclass
class UnderWay:
    """A job that runs, and its evaluations so far.

    Attributes:
        job: what runs.
        source: where it comes from.
        plan: whose source that is.
        tries: how often it was started.
        curve: every evaluation that was reported since it was started, in order.
        began: when it began to train, as :func:`time.monotonic`.
        resumed: the step that it had come to by then, of an earlier start.
        times: when each of the evaluations that came after was reported.
    """

    job: Job
    source: "JobSource"
    plan: "_Plan[Any]"
    tries: int = 1
    curve: list[Evaluation] = field(default_factory=list)
    began: float = 0.0
    resumed: int = 0
    times: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of its training steps that is done, in [0, 1]."""
        return self.curve[-1].step / self.job.settings.steps if self.curve else 0.0


class JobSource(Protocol):
    """Where jobs come from and where what became of them goes."""

    def next_job(self) -> Job | None:
        """Return a job to start now, or None where there is none (now or ever)."""

    def evaluated(self, job: Job, evaluation: Evaluation) -> bool:
        """Take an evaluation; returns whether the job shall go on."""

    def finished(self, job: Job, outcome: Finished) -> None:
        """Take a job's end; ``lost`` where the machine failed it each time that it was tried."""


# Sources whose jobs may run at once, those of the first before those of the next; asked for more when all of
# these have ended.
Steps = Generator[Sequence[JobSource], None, T]


@dataclass(eq=False)
class _Plan(Generic[T]):
    """Steps that are carried out.

    Attributes:
        steps: what is left of them.
        sources: of the present step.
        at_work: how many of its jobs are under way, or wait to be tried again.
        over: whether it has ended.
        results: what the steps came to, when they have ended.
    """

    steps: Steps[T]
    sources: Sequence[JobSource] = ()
    at_work: int = 0
    over: bool = False
    results: list[T] = field(default_factory=list)

    def next_job(self) -> tuple[Job, JobSource] | None:
        """Return its next job and where that comes from, None where it has none now or ever."""
        while not self.over:
            for source in self.sources:
                if (job := source.next_job()) is not None:
                    return job, source
            if self.at_work:
                return None
            try:
                self.sources = next(self.steps)
            except StopIteration as end:
                self.over = True
                self.results.append(end.value)
        return None


def _only(sources: Sequence[JobSource]) -> Steps[None]:
    yield sources


CONTINUE = "what is finished is kept; run again to continue"


# How often a training of source-only that fails is tried again: without it nothing can be compared.
BASELINE_RETRIES = 2


class FixedJobs:
    """A source of jobs known beforehand, none of which is stopped early.

    One of source-only's that fails is tried again.

    Args:
        jobs: what to run, in order.
        objective: a job whose last evaluation has a value of this validator that is not finite has failed.
        store: takes each job that completed with its last evaluation.
        line: takes a line of text for each finished job.

    Attributes:
        errors: key → what went wrong, of the jobs that failed.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        objective: str,
        store: Callable[[Job, Evaluation], None],
        line: Callable[[str], None],
    ) -> None:
        self._jobs = list(jobs)
        self._objective, self._store, self._line = objective, store, line
        self._last: dict[str, Evaluation] = {}
        self._under_way = 0
        self._failures: Counter[str] = Counter()
        self.errors: dict[str, str] = {}

    def next_job(self) -> Job | None:
        """Return the next job in order."""
        if not self._jobs:
            return None
        self._under_way += 1
        return self._jobs.pop(0)

    def over(self) -> bool:
        """Return whether all have ended."""
        return not self._jobs and not self._under_way

    def evaluated(self, job: Job, evaluation: Evaluation) -> bool:
        """Note the evaluation; always go on."""
        self._last[job.key] = evaluation
        return True

    def finished(self, job: Job, outcome: Finished) -> None:
        """Store the last evaluation, or note the failure.

        Raises:
            MachineError: the machine failed it each time: that says nothing of its configuration.
        """
        if outcome.status == "lost":
            raise MachineError(f"{job.key} could not be trained, {outcome.error}; {CONTINUE}")
        self._under_way -= 1
        error, evaluation = outcome.error, self._last.get(job.key)
        if outcome.status == "complete" and evaluation is not None:
            known = self._objective in evaluation.validators  # a reference may come later
            value = evaluation.mean(self._objective) if known else math.nan
            if math.isfinite(value) or not known:
                self._store(job, evaluation)
                self._line(f"{job.key:<18s} {f'{self._objective} {value:.4f}' if known else 'trained'}")
                return
            error = f"{self._objective} was {value} at its end"
        self._failures[job.key] += 1
        if job.candidate == SOURCE_ONLY_KEY and self._failures[job.key] <= BASELINE_RETRIES:
            self._line(f"{job.key} failed, tried again: {error}")
            self._jobs.insert(0, job)
            return
        self.errors[job.key] = error
        self._line(f"{job.key} failed: {error}")


class JobRunner:
    """Runs jobs on an executor.

    Args:
        executor: runs the jobs.
        stop: when set, what runs ends at once; jobs under way keep their checkpoints.
        watch: called after every event with the jobs under way by key.
        score: takes a job and an evaluation that it reports, and returns the evaluation with what only the
            driver can score.
        line: takes a line of text for what a job says of itself, and for each failure of the machine.
    """

    def __init__(
        self,
        executor: Executor,
        stop: threading.Event,
        watch: Callable[[Mapping[str, UnderWay]], None],
        score: Callable[[Job, Evaluation], Evaluation] = lambda _, evaluation: evaluation,
        line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._executor, self._stop, self._watch, self._score = executor, stop, watch, score
        self._line = line
        self._running: dict[str, UnderWay] = {}
        self._again: list[tuple[float, UnderWay]] = []
        self._in_a_row = 0

    def run(self, *sources: JobSource) -> None:
        """Run all jobs of all sources, those of earlier sources first; raises as :meth:`carry_out`."""
        self.carry_out([_only(sources)])

    def carry_out(self, plans: Iterable[Steps[T]]) -> list[T]:
        """Run the jobs of several plans side by side; returns what each came to.

        A worker that is free takes the next job of the plan that has the fewest under way, of equal ones the
        first. So one worker carries them out one after the other, and several leave none idle while a plan
        waits for the last jobs of a step. A plan is begun when a worker is free for it.

        Raises:
            StudyInterruptedError: ``stop`` was set.
            MachineError: the machine fails again and again.
        """
        carried_out = [_Plan(steps) for steps in plans]
        while True:
            if self._stop.is_set():
                raise StudyInterruptedError("stopped")
            self._fill(carried_out)
            if not self._running:
                if not self._again:
                    return [result for plan in carried_out for result in plan.results]
                self._stop.wait(_POLL_SECONDS)
                continue
            for event in self._executor.wait(_POLL_SECONDS):
                if isinstance(event, Finished):
                    self._end(event)
                else:
                    running, self._in_a_row = self._running[event.key], 0
                    if event.note:
                        self._line(f"{event.key}: {event.note}")
                    evaluation = self._score(running.job, event.evaluation)
                    running.curve.append(evaluation)
                    if event.again:
                        running.began, running.resumed = time.monotonic(), evaluation.step
                    else:
                        running.times.append(time.monotonic())
                    go_on = running.source.evaluated(running.job, evaluation)
                    self._executor.answer(event.key, go_on, evaluation)
            self._watch(self._running)

    def _fill(self, plans: Sequence["_Plan[T]"]) -> None:
        now = time.monotonic()
        due, self._again = (
            [each for each in self._again if (each[0] <= now) is wanted] for wanted in (True, False)
        )
        for _, running in due:
            self._start(running)
        while len(self._running) + len(self._again) < self._executor.capacity:
            for plan in sorted(plans, key=lambda plan: plan.at_work):
                if (found := plan.next_job()) is not None:
                    plan.at_work += 1
                    self._start(UnderWay(*found, plan))
                    break
            else:
                return

    def _start(self, running: UnderWay) -> None:
        running.began = time.monotonic()
        self._executor.submit(running.job)
        self._running[running.job.key] = running

    def _end(self, outcome: Finished) -> None:
        running = self._running.pop(outcome.key)
        job, tries = running.job, running.tries
        if outcome.status == "lost":
            self._in_a_row += 1
            if self._in_a_row >= max(MOST_IN_A_ROW, self._executor.capacity * (len(PAUSES) + 1)):
                raise MachineError(
                    f"the machine failed {self._in_a_row} times in a row, last {job.key}: {outcome.error}; "
                    f"{CONTINUE}"
                )
            if tries <= len(PAUSES):
                pause = PAUSES[tries - 1]
                when = f"in {pause:g} s" if pause else "at once"
                self._line(f"{job.key}: the machine failed, tried again {when}: {outcome.error}")
                again = UnderWay(job, running.source, running.plan, tries + 1)
                self._again.append((time.monotonic() + pause, again))
                return
            outcome = replace(outcome, error=f"the machine failed {tries} times: {outcome.error}")
        running.plan.at_work -= 1
        running.source.finished(job, outcome)
        # Its scores are in the study by now; the checkpoint has served.
        shutil.rmtree(Path(job.folder), ignore_errors=True)
