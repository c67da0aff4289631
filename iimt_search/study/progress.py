"""What a run shows to whoever watches it, how far it has come, and how long it will still take."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from iimt_search.records import Job
from iimt_search.study.executors.pace import PLAIN_STEP, Pace, is_plain, makespan, steps_of

if TYPE_CHECKING:
    from iimt_search.study.executors.base import Executor
    from iimt_search.study.executors.runner import UnderWay
    from iimt_search.study.scope import Scope
    from iimt_search.study.search.budget import BudgetTracker, SearchTime


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands.

    Attributes:
        phase: ``search``, ``confirm`` or ``retrain``; of several tasks that stand at several, the earliest.
        done: share of the whole run's training steps that are done or will not be needed, in [0, 1].
        running: key of each job under way → share of its steps done.
        best: the best trial so far and its objective, as text, or ""; of several tasks the first's.
        curves: key of each job under way → its objective at each evaluation.
        states: state of ended trials, such as ``pruned`` → how many.
        left: seconds to the end of the run, with all tasks and all that follows their searches, told by
            the pace of this run; None before that can be told. The fine-tuning of a network is not in it:
            its steps are others than those that were measured.
    """

    phase: str
    done: float
    running: dict[str, float]
    best: str
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    left: float | None = None


class Listener(Protocol):
    """Receives a run's progress. Only the command line prints."""

    def line(self, text: str) -> None:
        """Something happened that is worth a line."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """The run has moved on."""


class Silent:
    """A listener that ignores everything."""

    def line(self, text: str) -> None:
        """Ignore the line."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """Ignore the snapshot."""


_MANY, _PAUSE = 32, 0.2
# Seconds between two estimates of the time left, and between them as a multiple of what the first took.
_ESTIMATE_EVERY, _ESTIMATE_SHARE = 1.0, 20
_PHASES = ("search", "confirm", "retrain")
# Pruner → the share of its steps that a trial takes, as benchmarks.pruning has measured it for the defaults;
# it counts as much as so many trials of the run's own.
_SHARES = {"median": 0.8, "percentile": 0.85, "successive_halving": 0.45, "asha": 0.45, "hyperband": 0.7}
_TRIALS = 8


def _work(job: Job) -> float:
    """Return what a job costs, in full training steps."""
    return steps_of(job) * (PLAIN_STEP if is_plain(job) else 1.0)


@dataclass(frozen=True)
class _Cost:
    """What jobs cost that have not begun.

    Attributes:
        full: seconds of a full step on one task.
        plain: those of a step of source-only.
        share: of its steps that a trial takes on average: some are pruned.
        complete: share of the trials that are not.
    """

    full: float
    plain: float
    share: float
    complete: float


class ScopeProgress:
    """How far one scope has come, and what is to come of it.

    Args:
        scope: what is run.
        tracker: where its search stands.
        clock: how long that has had the workers.

    Attributes:
        scope: the scope.
        budget: the tracker.
        begun: whether it has begun in this run.
        phase: ``search``, ``confirm``, ``retrain``, or "" at its end.
        total: the work of all of it, in full training steps.
    """

    def __init__(self, scope: "Scope", tracker: "BudgetTracker", clock: "SearchTime") -> None:
        self.scope, self.budget, self._clock = scope, tracker, clock
        self.begun, self.phase = False, "search"
        self._pending: list[Job] = []
        space, tasks = scope.space, len(scope.tasks)
        self._trial = space.train.steps * tasks
        self._search = (space.budget.trials or 1) * self._trial
        self._confirm = (space.confirm.top + 1) * space.confirm.seeds * self._trial
        steps = space.retrain.steps or space.train.steps
        self._retrain = (1 + PLAIN_STEP) * space.retrain.seeds * steps * tasks
        self.total = self._search + self._confirm + self._retrain

    def enter(self, phase: str, jobs: Sequence[Job] = ()) -> None:
        """Begin a phase whose jobs are known."""
        self.begun, self.phase, self._pending = True, phase, list(jobs)

    def _missing(self) -> list[Job]:
        return [job for job in self._pending if not self.scope.have(job)]

    def _search_share(self, running: "Sequence[UnderWay]") -> float:
        budget, tracker = self.scope.space.budget, self.budget
        part = sum(each.share for each in running if each.job.purpose == "trial")
        shares = [0.0]
        if budget.trials:
            shares.append((tracker.over + tracker.held + part) / budget.trials)
        if budget.steps:
            shares.append(tracker.steps * len(self.scope.tasks) / budget.steps)
        return min(max(shares), 1.0)

    def done(self, running: "Sequence[UnderWay]") -> float:
        """Return the work that is done or will not be needed; ``running`` are its jobs under way."""
        if self.phase == "search":
            return self._search * self._search_share(running)
        shares = {each.job.key: each.share for each in running}
        left = self._retrain if self.phase == "confirm" else 0.0
        left += sum(_work(job) * (1 - shares.get(job.key, 0.0)) for job in self._missing())
        return max(0.0, self.total - left)

    def to_come(self, cost: _Cost, left: Mapping[str, float], capacity: int) -> list[list[float]]:
        """Return the seconds of each job that has not begun, of the present phase and of each later one.

        Args:
            cost: what jobs cost.
            left: key of each of its jobs under way → the seconds that it still takes.
            capacity: how many jobs of all scopes run at once.
        """
        if self.phase == "search":
            return [self._trials(cost, left, capacity), self._confirmation(cost), self._retraining(cost)]
        jobs = [job for job in self._missing() if job.key not in left]
        present = [steps_of(job) * (cost.plain if is_plain(job) else cost.full) for job in jobs]
        return [present, self._retraining(cost)] if self.phase == "confirm" else [present]

    def _trials(self, cost: _Cost, left: Mapping[str, float], capacity: int) -> list[float]:
        scope, budget, tracker = self.scope, self.scope.space.budget, self.budget
        alone = [job.key for job in scope.source_only_jobs()]
        under_way = [seconds for key, seconds in left.items() if key not in alone]
        steps, counts = cost.share * self._trial, list[float]()
        if budget.trials is not None:
            counts.append(budget.trials - tracker.over - tracker.held - len(under_way))
        if budget.steps is not None:
            used = tracker.steps * len(scope.tasks) + sum(under_way) / cost.full
            counts.append((budget.steps - used) / steps)
        if self._clock.left is not None:
            counts.append((self._clock.left * capacity - sum(under_way)) / (steps * cost.full))
        missing = [key for key in alone if key not in left and scope.stored(key) is None]
        return [self._trial * cost.plain] * len(missing) + [steps * cost.full] * max(
            0, math.ceil(min(counts))
        )

    def _confirmation(self, cost: _Cost) -> list[float]:
        """Return the seconds of the confirmations of the best complete trials and the default."""
        confirm, trials = self.scope.space.confirm, self.scope.space.budget.trials or math.inf
        # The default may be one of the best.
        candidates = round(min(confirm.top + 1 - confirm.top / trials, max(1.0, trials * cost.complete)))
        alone = [job for job in self.scope.source_only_jobs() if job.purpose == "confirmation"]
        stored = self._stored("confirm") - sum(self.scope.stored(job.key) is not None for job in alone)
        return [self._trial * cost.full] * (candidates * confirm.seeds - stored)

    def _retraining(self, cost: _Cost) -> list[float]:
        space = self.scope.space
        steps = space.retrain.steps or space.train.steps
        each = [steps * cost.full, steps * cost.plain]
        return (each * len(self.scope.tasks) * space.retrain.seeds)[self._stored("retrain") :]

    def _stored(self, word: str) -> int:
        """Return how many jobs of a later phase an earlier run has done."""
        begin = f"job {self.scope.prefix}{word}-"
        return sum(key.startswith(begin) for key in self.scope.study.user_attrs)


class RunProgress:
    """Turns what is under way into snapshots for the listener.

    Args:
        scopes: what is run.
        executor: runs it.
        listener: receives them.
    """

    def __init__(self, scopes: Sequence[ScopeProgress], executor: "Executor", listener: Listener) -> None:
        self._scopes, self._executor, self._listener = scopes, executor, listener
        self._pace = Pace()
        self._shown_at = 0.0
        self._estimated, self._estimate, self._again = 0.0, 0.0, 0.0

    def _average(self, expected: float, found: float) -> float:
        """Return a share among the trials, of which so many are expected and found to have it."""
        over = sum(each.budget.over for each in self._scopes)
        return min(1.0, (found + _TRIALS * expected) / (over + _TRIALS))

    def _cost(self, prefix: str) -> _Cost | None:
        """Return what jobs of a scope cost; None where it cannot be told yet."""
        full, plain = self._pace.of_step(prefix, False), self._pace.of_step(prefix, True)
        if full is None or plain is None:
            return None
        space, trackers = self._scopes[0].scope.space, [each.budget for each in self._scopes]
        expected = _SHARES.get(space.pruning.name, 1.0)
        taken = sum(tracker.steps_over for tracker in trackers) / space.train.steps
        complete = sum(tracker.states["complete"] for tracker in trackers)
        return _Cost(full, plain, self._average(expected, taken), self._average(expected**3, complete))

    def _left(self, running: "Mapping[str, Sequence[UnderWay]]") -> float | None:
        """Return the seconds to the end of the run; ``running`` are the jobs under way by their prefix."""
        now = time.monotonic()
        if now < self._again:
            return max(0.0, self._estimate - (now - self._estimated))
        under_way, to_come, capacity = [], [], self._executor.capacity
        for each in self._scopes:
            prefix = each.scope.prefix
            if (cost := self._cost(prefix)) is None:
                return None
            left = {job.job.key: self._pace.left(job) or 0.0 for job in running[prefix]}
            under_way.append(list(left.values()))
            to_come.append(each.to_come(cost, left, capacity))
        self._estimated, self._estimate = now, makespan(under_way, to_come, capacity)
        self._again = now + max(_ESTIMATE_EVERY, _ESTIMATE_SHARE * (time.monotonic() - now))
        return self._estimate

    def watch(self, running: "Mapping[str, UnderWay]") -> None:
        """Give the listener a snapshot; with many jobs under way not at every event."""
        self._pace.note(running, self._executor.capacity)
        now = time.monotonic()
        if len(running) > _MANY and now - self._shown_at < _PAUSE:
            return
        self._shown_at = now
        by_prefix = {scope.scope.prefix: list["UnderWay"]() for scope in self._scopes}
        for job in running.values():
            by_prefix[job.job.prefix].append(job)
        objective = self._scopes[0].scope.objective
        under_way = [each for each in self._scopes if each.begun and each.phase] or self._scopes
        first = min(under_way, key=lambda each: _PHASES.index(each.phase) if each.phase else len(_PHASES))
        best = under_way[0].budget.best
        task = f"{under_way[0].scope.task_names[0]}: " if under_way[0].scope.prefix else ""
        done = sum(each.done(by_prefix[each.scope.prefix]) for each in self._scopes)
        snapshot = Snapshot(
            phase=first.phase or _PHASES[-1],
            done=done / sum(each.total for each in self._scopes),
            running={key: job.share for key, job in running.items()},
            best="" if best is None else f"{task}trial {best[0]}, {objective} {best[1]:.4f}",
            curves={
                key: tuple(e.mean(objective) for e in job.curve if objective in e.validators)
                for key, job in running.items()
            },
            states=dict(sum((each.budget.states for each in self._scopes), Counter())),
            left=self._left(by_prefix),
        )
        self._listener.snapshot(snapshot)
