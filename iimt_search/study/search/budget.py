"""Where a search stands, counted as it goes: reading every trial again at each step takes too long."""

import time
from collections import Counter
from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from iimt_search.study.search.forks import forked_at
from iimt_search.study.search.trial_record import objective_of

# The trial attribute that says that the machine failed the trial, which therefore does not count.
MACHINE = "machine"


class BudgetTracker:
    """What a search's trials have used, and the best of them.

    Args:
        trials: those that are there already.
        whole: training steps of a whole trial: what one that failed before its first report counts as.
        higher_is_better: the objective's direction.

    Attributes:
        begun: trials that were begun; a fork continues the one that ended for it.
        over: those of them that have ended.
        held: those that have ended and wait for the reference to be told.
        states: state, in small letters → how many trials ended so.
        steps: training steps of all of them, on each task.
        best: number and objective of the best complete trial, of equal ones the first; None without one.
    """

    def __init__(self, trials: Iterable[FrozenTrial], whole: int, higher_is_better: bool) -> None:
        self._whole, self._sign = whole, 1.0 if higher_is_better else -1.0
        self._reached: dict[int, int] = {}
        self._forked: dict[int, int] = {}
        self.begun = self.over = self.held = self.steps = 0
        self.states: Counter[str] = Counter()
        self.best: tuple[int, float] | None = None
        for trial in trials:
            if trial.state is not TrialState.WAITING:
                self.begin(trial.number, forked_at(trial))
                self.reach(trial.number, max(trial.intermediate_values, default=0))
            if trial.state.is_finished():
                self.end(
                    trial.number, trial.state, objective_of(trial), counts=MACHINE not in trial.user_attrs
                )

    @property
    def steps_over(self) -> int:
        """Training steps, on each task, of the trials that have ended."""
        return self.steps - sum(reached - self._forked[n] for n, reached in self._reached.items())

    def begin(self, number: int, forked_at: int = 0) -> None:
        """Count a trial that begins; a fork takes the place of the one that ended for it."""
        if forked_at:
            self.over -= 1
        else:
            self.begun += 1
        self._reached[number] = self._forked[number] = forked_at

    def reach(self, number: int, step: int) -> None:
        """Count the steps of a trial that is under way."""
        self.steps += max(0, step - self._reached[number])
        self._reached[number] = max(step, self._reached[number])

    def end(self, number: int, state: TrialState, value: float | None, counts: bool = True) -> None:
        """Count a trial's end; one that does not count, since the machine failed it, uses up nothing."""
        self.states[state.name.lower()] += 1
        reached, forked_at = self._reached.pop(number), self._forked.pop(number)
        if not counts and not forked_at:
            self.begun -= 1
            self.steps -= reached
            return
        self.over += 1
        if reached == 0 and state is TrialState.FAIL:
            self.steps += self._whole
        if state is not TrialState.COMPLETE or value is None:
            return
        if self.best is None or (self._sign * value, -number) > (self._sign * self.best[1], -self.best[0]):
            self.best = number, value


class SearchTime:
    """How long a search has had the workers, in seconds.

    A search that has them for itself is charged the wall time. Where several share them, each is charged the
    share of the wall time that its jobs are of all jobs under way: together they are charged the wall time.

    Args:
        limit: of the search in this run, in seconds; None for none.

    Attributes:
        seconds: what was charged.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self.seconds = limit, 0.0
        self._charged = time.monotonic()

    def begin(self) -> None:
        """Charge from now on."""
        self._charged = time.monotonic()

    def charge(self, jobs: int, of: int) -> None:
        """Charge the time since the last charge, in which ``jobs`` of ``of`` jobs under way were its own."""
        now = time.monotonic()
        self.seconds += (now - self._charged) * (jobs / of if of else 1.0)
        self._charged = now

    @property
    def left(self) -> float | None:
        """Seconds that are left, None without a limit."""
        return None if self._limit is None else max(0.0, self._limit - self.seconds)

    def over(self) -> bool:
        """Return whether the limit has come."""
        return self.left == 0.0
