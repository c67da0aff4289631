"""Tune's own schedules by our names: who is stopped early is then decided by Tune, not by Optuna."""

import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler

from iimt_search.methods import used_settings
from iimt_search.records import Evaluation, Finished, Fork, Job
from iimt_search.seeding import derive_seed, seeded_globals
from iimt_search.space import Space
from iimt_search.study.search.sampling import distributions
from iimt_search.validators.registry import VALIDATORS

_STEP, _OBJECTIVE = "step", "objective"
_SEARCHED = "lambda_max"
_QUANTILE = 0.25
_HALF = 2
_ATTEMPTS = 20
# What they look at of Tune's controller: no search algorithm of Tune's, and no trial that waits.
_CONTROLLER: Any = SimpleNamespace(search_alg=None, get_trials=list)


def job_of(trial: Trial) -> Job:
    """Return the job that a Tune trial runs."""
    job: Job = trial.config["job"]
    return job


class ForkingPopulation(PopulationBasedTraining):
    """Tells which trial shall end, and which other one's training goes on in its place.

    Population-based training (Jaderberg et al. 2017, arXiv 1711.09846) of ``lambda_max``. Tune's own class
    overwrites the weights and the configuration of a trial under way. Ours ends it, and asks for a new trial
    that branches off, so that every trial of the study is one training with one history. Trials are compared
    at the same step: they do not begin together.

    Args:
        space: with ``lambda_max`` among what is searched.
        when: Tune's names of a result's step and objective, and ``max`` or ``min``.
        interval: steps between two decisions on a trial.
        warmup: steps before the first.

    Attributes:
        fork: what the last result asked for: who goes on in the trial's place; None where it goes on itself.
    """

    def __init__(self, space: Space, when: dict[str, Any], interval: int, warmup: int) -> None:
        self._distribution, self._seed = distributions(space)[_SEARCHED], space.seed
        self._sign = 1.0 if when["mode"] == "max" else -1.0
        super().__init__(
            **when,
            perturbation_interval=interval,
            burn_in_period=warmup,
            hyperparam_mutations={_SEARCHED: self._mutations()},
            quantile_fraction=_QUANTILE,
            log_config=False,
        )
        self._curves: dict[Trial, dict[int, float]] = {}
        self._step = 0
        self.fork: Fork | None = None

    def _mutations(self) -> Any:
        """Return what Tune draws ``lambda_max`` from."""
        dist = self._distribution
        if isinstance(dist, CategoricalDistribution):
            return list(dist.choices)
        assert isinstance(dist, (FloatDistribution, IntDistribution))
        if dist.step is not None:  # neighbours on the grid: a factor might lead to no other value
            count = round((dist.high - dist.low) / dist.step) + 1
            return [min(dist.low + place * dist.step, dist.high) for place in range(count)]
        return (tune.loguniform if dist.log else tune.uniform)(dist.low, dist.high)

    def _inside(self, value: Any) -> Any:
        """Return the nearest value that the search space has."""
        dist = self._distribution
        if isinstance(dist, FloatDistribution) and dist.step is None:
            return min(max(float(value), dist.low), dist.high)
        return value  # one of those given

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a trial into the population."""
        job = job_of(trial)
        trial.config[_SEARCHED] = job.settings.lambda_max
        super().on_trial_add(_CONTROLLER, trial)
        self._trial_state[trial].last_perturbation_time = job.known_step
        self._curves[trial] = {}

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Take a trial that has ended out of the population."""
        self._trial_state.pop(trial, None)
        self._curves.pop(trial, None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return STOP for a trial whose place :attr:`fork` shall take."""
        self._step, self.fork = result[_STEP], None
        self._curves[trial][self._step] = self._sign * result[_OBJECTIVE]
        # Tune draws from the global generators: by a seed of ours, the same for the same trial and step.
        with seeded_globals(derive_seed(self._seed, "pbt", job_of(trial).key, self._step)):
            super().on_trial_result(_CONTROLLER, trial, result)
        return str(TrialScheduler.CONTINUE if self.fork is None else TrialScheduler.STOP)

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        """Return the worst and the best of the trials under way, by their scores at the present step."""
        step = self._step
        there = [trial for trial, curve in self._curves.items() if math.isfinite(curve.get(step, math.nan))]
        there.sort(key=lambda trial: self._curves[trial][step])
        count = min(math.ceil(len(there) * self._quantile_fraction), len(there) // 2)
        return there[:count], there[len(there) - count :]

    def _checkpoint_or_exploit(
        self, trial: Trial, tune_controller: Any, upper_quantile: list[Trial], lower_quantile: list[Trial]
    ) -> None:
        """Note the fork of a better trial that shall take the place of one of the worst."""
        if trial not in lower_quantile:
            return
        donor = random.choice(sorted(upper_quantile, key=lambda other: job_of(other).key))
        if self._curves[donor][self._step] <= self._curves[trial][self._step]:
            return
        job = job_of(donor)
        if _SEARCHED not in used_settings(job.settings):
            return  # it was 0 so far: with another value the training would have been another from the start
        for _ in range(_ATTEMPTS):  # until it is another value: an equal one would be the same training
            config, _ = self._get_new_config(trial, donor)
            value = self._inside(config[_SEARCHED])
            if value != job.settings.lambda_max:
                self.fork = Fork(job.key, value)
                return


class Halving(ASHAScheduler):
    """Tune's ASHA, which compares only scores of about the same step.

    Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934). Tune's own class takes the next score
    of a trial for each rung that it has none of, however late. Trials here may have none at a rung: those
    under way while the study's reference is made, and those that go on after an interruption. They are not
    judged at that rung.

    Args:
        when: Tune's names of a result's step and objective, and ``max`` or ``min``.
        steps: of a whole training.
        interval: steps between two evaluations.
        first: the first rung's step; each further one is twice as far.
    """

    def __init__(self, when: dict[str, Any], steps: int, interval: int, first: int) -> None:
        super().__init__(**when, max_t=steps, grace_period=first, reduction_factor=_HALF)
        self._interval = interval
        self._milestones = [first * _HALF**power for power in range(int(math.log(steps / first, _HALF)) + 1)]

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return STOP for a trial that is in the worse half at the rung which it has just come to."""
        step = result[_STEP]
        if not any(step - self._interval < milestone <= step for milestone in self._milestones):
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(_CONTROLLER, trial, result))


class Schedule:
    """A Tune schedule for each Optuna study of ours: with ``scope: per_task`` tasks are not compared.

    Args:
        make: makes one; it makes decisions from results.
        objective: the validator that it goes by.
    """

    def __init__(self, make: Callable[[], Halving | ForkingPopulation], objective: str) -> None:
        self._make, self.objective = make, objective
        self._of: dict[str, Halving | ForkingPopulation] = {}

    def _for(self, trial: Trial) -> Halving | ForkingPopulation | None:
        """Return what decides on a trial, None where nothing does: only trials of the search end early."""
        job = job_of(trial)
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
        job = job_of(trial)
        tune = self._for(trial)
        if tune is None or self.objective not in evaluation.validators:
            return None
        if evaluation.step <= decided or evaluation.step >= job.settings.steps:
            return None  # decided before; or done, and nothing is left to stop
        scored = {_STEP: evaluation.step, _OBJECTIVE: evaluation.mean(self.objective)}
        if tune.on_trial_result(_CONTROLLER, trial, {**trial.last_result, **scored}) != TrialScheduler.STOP:
            return None
        return Finished(job.key, "stopped", fork=tune.fork if isinstance(tune, ForkingPopulation) else None)


def make_schedule(space: Space) -> Schedule | None:
    """Return the schedule that the space's pruner names, None where it is one of Optuna's."""
    if not space.pruning.of_ray:
        return None
    steps = space.train.steps
    interval, warmup = max(1, steps // space.train.evaluations), int(space.pruner.warmup * steps)
    mode = "max" if VALIDATORS[space.objective].higher_is_better else "min"
    when: dict[str, Any] = {"time_attr": _STEP, "metric": _OBJECTIVE, "mode": mode}

    def make() -> Halving | ForkingPopulation:
        if space.pruner.name == "pbt":
            return ForkingPopulation(space, when, interval, warmup)
        return Halving(when, steps, interval, max(interval, warmup))

    return Schedule(make, space.objective)
