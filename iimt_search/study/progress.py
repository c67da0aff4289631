"""What a run shows to whoever watches it, and how far it has come."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from iimt_search.methods import active_groups
from iimt_search.records import Job

if TYPE_CHECKING:
    from iimt_search.study.executors.runner import UnderWay
    from iimt_search.study.scope import Scope
    from iimt_search.study.search.budget import BudgetTracker


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands.

    Attributes:
        phase: ``search``, ``confirm`` or ``retrain``.
        done: share of the whole run's training steps that are done or will not be needed, in [0, 1].
        running: key of each job under way → share of its steps done.
        best: the best trial so far and its objective, as text, or "".
        curves: key of each job under way → its objective at each evaluation.
        states: state of ended trials, such as ``pruned`` → how many.
    """

    phase: str
    done: float
    running: dict[str, float]
    best: str
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)


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

# A step without virtual labels and mixtures takes about a fifth of a full one.
_PLAIN_STEP = 0.2


def _work(job: Job) -> float:
    """Return what a job costs, in full training steps."""
    settings = job.settings
    plain = set(active_groups(settings)) <= {"s", "t"}
    return settings.steps * len(job.tasks) * (_PLAIN_STEP if plain else 1.0)


class RunProgress:
    """Turns what is under way into snapshots for the listener.

    Args:
        scope: what is run.
        tracker: where its search stands.
        listener: receives them.

    Attributes:
        phase: ``search``, ``confirm`` or ``retrain``.
    """

    def __init__(self, scope: "Scope", tracker: "BudgetTracker", listener: Listener) -> None:
        self._scope, self._budget, self._listener = scope, tracker, listener
        self.phase = "search"
        self._shown_at = 0.0
        space, tasks = scope.space, len(scope.tasks)
        self._search = (space.budget.trials or 1) * space.train.steps * tasks
        self._retrain = (1 + _PLAIN_STEP) * (space.retrain.steps or space.train.steps) * tasks
        confirm = (space.confirm.top + 1 + _PLAIN_STEP) * space.confirm.seeds * space.train.steps * tasks
        self._total = self._search + confirm + self._retrain
        self._pending: list[Job] = []

    def enter(self, phase: str, jobs: list[Job]) -> None:
        """Begin a phase whose jobs are known."""
        self.phase, self._pending = phase, jobs
        self._listener.line(f"{phase}: {len(jobs)} trainings" if jobs else f"{phase}: nothing left to do")

    def _search_share(self, running: "Mapping[str, UnderWay]") -> float:
        budget, tracker = self._scope.space.budget, self._budget
        part = sum(each.share for each in running.values() if each.job.purpose == "trial")
        shares = [0.0]
        if budget.trials:
            shares.append((tracker.over + tracker.held + part) / budget.trials)
        if budget.steps:
            shares.append(tracker.steps * len(self._scope.tasks) / budget.steps)
        return min(max(shares), 1.0)

    def _done(self, running: "Mapping[str, UnderWay]") -> float:
        if self.phase == "search":
            return self._search * self._search_share(running) / self._total
        left = self._retrain if self.phase == "confirm" else 0.0
        for job in self._pending:
            if not self._scope.have(job):
                left += _work(job) * (1 - (running[job.key].share if job.key in running else 0.0))
        return max(0.0, 1.0 - left / self._total)

    def watch(self, running: "Mapping[str, UnderWay]") -> None:
        """Give the listener a snapshot; with many jobs under way not at every event."""
        now, best, objective = time.monotonic(), self._budget.best, self._scope.objective
        if len(running) > _MANY and now - self._shown_at < _PAUSE:
            return
        self._shown_at = now
        snapshot = Snapshot(
            phase=self.phase,
            done=self._done(running),
            running={key: job.share for key, job in running.items()},
            best="" if best is None else f"trial {best[0]}, {objective} {best[1]:.4f}",
            curves={
                key: tuple(e.mean(objective) for e in job.curve if objective in e.validators)
                for key, job in running.items()
            },
            states=dict(self._budget.states),
        )
        self._listener.snapshot(snapshot)
