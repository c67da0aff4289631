"""Tune's own schedules by our names: who is stopped early is then decided by Tune, not by Optuna."""

import re
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from iimt_search.records import Evaluation, Finished, Job
from iimt_search.space import Space
from iimt_search.study.ray.population_based import ForkingPopulation
from iimt_search.validators.registry import VALIDATORS

_STEP, _OBJECTIVE = "step", "objective"
_TRIAL = re.compile(r"\btrial-\d+$")


def is_searched(key: str) -> bool:
    """Return whether a job is a trial of the search: no other is ever stopped early."""
    return _TRIAL.search(key) is not None


@dataclass(frozen=True)
class Schedule:
    """A Tune schedule, and what it goes by.

    Attributes:
        tune: makes decisions from results.
        objective: the validator.
    """

    tune: Any
    objective: str

    def add(self, trial: Trial) -> None:
        """Hear that a trial has been added."""
        if is_searched(trial.config["job"].key):
            self.tune.on_trial_add(None, trial)

    def remove(self, trial: Trial) -> None:
        """Hear that a trial has ended, or that its process is gone."""
        if is_searched(trial.config["job"].key):
            self.tune.on_trial_remove(None, trial)

    def end(self, trial: Trial, evaluation: Evaluation, decided: int) -> Finished | None:
        """Return how a trial ends after an evaluation, None where it goes on.

        Args:
            trial: Tune's.
            evaluation: the one just made.
            decided: the step up to which it was decided before that the trial goes on.
        """
        job: Job = trial.config["job"]
        if not is_searched(job.key) or self.objective not in evaluation.validators:
            return None
        if evaluation.step <= decided or evaluation.step >= job.settings.steps:
            return None  # decided before; or done, and nothing is left to stop
        result = {_STEP: evaluation.step, _OBJECTIVE: evaluation.mean(self.objective)}
        if self.tune.on_trial_result(None, trial, {**trial.last_result, **result}) != TrialScheduler.STOP:
            return None
        fork = self.tune.take_fork() if isinstance(self.tune, ForkingPopulation) else None
        return Finished(job.key, "stopped", fork=fork)


def make_schedule(space: Space) -> Schedule | None:
    """Return the schedule that the space's pruner names, None where it is one of Optuna's."""
    if not space.pruner.of_ray:
        return None
    steps = space.train.steps
    first, warmup = max(1, steps // space.train.evaluations), int(space.pruner.warmup * steps)
    mode = "max" if VALIDATORS[space.objective].higher_is_better else "min"
    schedule: ASHAScheduler | ForkingPopulation
    if space.pruner.name == "pbt":
        schedule = ForkingPopulation(
            space, time_attr=_STEP, metric=_OBJECTIVE, mode=mode, interval=first, warmup=warmup
        )
    else:
        schedule = ASHAScheduler(
            time_attr=_STEP,
            metric=_OBJECTIVE,
            mode=mode,
            max_t=steps,
            grace_period=max(first, warmup),
            reduction_factor=2,
        )
    return Schedule(schedule, space.objective)
