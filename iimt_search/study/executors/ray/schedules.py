"""Tune's own schedules by our names: who is stopped early is then decided by Tune, not by Optuna."""

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from iimt_search.records import Evaluation, Finished, Job
from iimt_search.space import Space
from iimt_search.study.executors.ray.population_based import ForkingPopulation
from iimt_search.validators.registry import VALIDATORS

_STEP, _OBJECTIVE = "step", "objective"
_CONTROLLER: Any = None  # Tune's own, which they do not look at


class Schedule:
    """A Tune schedule for each Optuna study of ours: with ``scope: per_task`` tasks are not compared.

    Args:
        make: makes one; it makes decisions from results.
        objective: the validator that it goes by.
    """

    def __init__(self, make: Callable[[], ASHAScheduler | ForkingPopulation], objective: str) -> None:
        self._make, self.objective = make, objective
        self._of: dict[str, ASHAScheduler | ForkingPopulation] = {}

    def _for(self, trial: Trial) -> ASHAScheduler | ForkingPopulation | None:
        """Return what decides on a trial, None where nothing does: only trials of the search end early."""
        job: Job = trial.config["job"]
        if job.purpose != "trial":
            return None
        if job.prefix not in self._of:
            self._of[job.prefix] = self._make()
        return self._of[job.prefix]

    def add(self, trial: Trial) -> None:
        """Count a trial that has been added."""
        if (tune := self._for(trial)) is not None:
            tune.on_trial_add(_CONTROLLER, trial)

    def remove(self, trial: Trial) -> None:
        """Forget a trial that has ended, or whose process is gone."""
        if (tune := self._for(trial)) is not None:
            tune.on_trial_remove(_CONTROLLER, trial)

    def end(self, trial: Trial, evaluation: Evaluation, decided: int) -> Finished | None:
        """Return how a trial ends after an evaluation, None where it goes on.

        Args:
            trial: Tune's.
            evaluation: the one just made.
            decided: the step up to which it was decided before that the trial goes on.
        """
        job: Job = trial.config["job"]
        tune = self._for(trial)
        if tune is None or self.objective not in evaluation.validators:
            return None
        if evaluation.step <= decided or evaluation.step >= job.settings.steps:
            return None  # decided before; or done, and nothing is left to stop
        result = {_STEP: evaluation.step, _OBJECTIVE: evaluation.mean(self.objective)}
        if tune.on_trial_result(_CONTROLLER, trial, {**trial.last_result, **result}) != TrialScheduler.STOP:
            return None
        fork = tune.take_fork() if isinstance(tune, ForkingPopulation) else None
        return Finished(job.key, "stopped", fork=fork)


def make_schedule(space: Space) -> Schedule | None:
    """Return the schedule that the space's pruner names, None where it is one of Optuna's."""
    if not space.pruner.of_ray:
        return None
    steps = space.train.steps
    first, warmup = max(1, steps // space.train.evaluations), int(space.pruner.warmup * steps)
    mode = "max" if VALIDATORS[space.objective].higher_is_better else "min"

    def population_based() -> ForkingPopulation:
        return ForkingPopulation(
            space, time_attr=_STEP, metric=_OBJECTIVE, mode=mode, interval=first, warmup=warmup
        )

    def asha() -> ASHAScheduler:
        return ASHAScheduler(
            time_attr=_STEP,
            metric=_OBJECTIVE,
            mode=mode,
            max_t=steps,
            grace_period=max(first, warmup),
            reduction_factor=2,
        )

    return Schedule(population_based if space.pruner.name == "pbt" else asha, space.objective)
