"""From a space file to Optuna: distributions, sampler, pruner, and back to settings."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from iimt_search.methods import METHODS
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space import Choices, SearchRange, Space
from iimt_search.space.growth import is_int

SOURCE_ONLY: Mapping[str, Any] = METHODS["source-only"].settings


def distribution(name: str, searched: SearchRange) -> BaseDistribution:
    """Return the Optuna distribution of one searched setting."""
    if isinstance(searched, Choices):
        return CategoricalDistribution(searched.choices)
    if is_int(name, searched):
        step = 1 if searched.step is None else int(searched.step)
        return IntDistribution(int(searched.low), int(searched.high), log=searched.log, step=step)
    return FloatDistribution(searched.low, searched.high, log=searched.log, step=searched.step)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the Optuna distribution of every searched setting."""
    return {name: distribution(name, searched) for name, searched in space.search.items()}


def default_params(space: Space) -> dict[str, Any]:
    """Return the method's default configuration, as far as it lies in the space.

    A setting whose default lies outside its range is left to the sampler.
    """

    def holds(dist: BaseDistribution, value: Any) -> bool:
        if isinstance(dist, CategoricalDistribution):
            return value in dist.choices
        return isinstance(dist, (FloatDistribution, IntDistribution)) and dist.low <= value <= dist.high

    defaults = {name: TrainSettings.model_fields[name].default for name in space.search}
    searched = distributions(space)
    return {name: value for name, value in defaults.items() if holds(searched[name], value)}


def settings_for(space: Space, params: Mapping[str, Any]) -> TrainSettings:
    """Return the fixed settings of the space with a trial's parameters in their places."""
    return TrainSettings.model_validate({**space.baseline.model_dump(), **params})


def source_only_settings(space: Space) -> TrainSettings:
    """Return the settings of the baseline without adaptation: plain cross-entropy on the source."""
    return space.baseline.model_copy(update=SOURCE_ONLY)


def make_sampler(space: Space, trial_number: int) -> BaseSampler:
    """Return the sampler that proposes trial ``trial_number``.

    Made anew and seeded for each trial, so that a continued study proposes what an uninterrupted one
    would have, and never the same points twice. QMC draws its sequence from one seed.
    """
    seed = derive_seed(space.seed, "sampler", trial_number)
    startup = space.sampler.startup_trials
    with warnings.catch_warnings():
        # QMC and GP are marked experimental; whoever names them in a space file has chosen them.
        warnings.simplefilter("ignore", ExperimentalWarning)
        match space.sampler.name:
            case "random":
                return RandomSampler(seed=seed)
            case "qmc":
                return QMCSampler(seed=derive_seed(space.seed, "sampler"), scramble=True)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=max(2, startup))
            case _:
                return TPESampler(seed=seed, n_startup_trials=startup)


def make_pruner(space: Space) -> BasePruner:
    """Return the pruner; its steps are training steps."""
    settings, steps = space.pruning, space.train.steps
    warmup, startup = int(settings.warmup * steps), settings.startup_trials
    first = max(1, steps // space.train.evaluations)
    match settings.name:
        case "median":
            return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
        case "percentile":
            # Optuna's percentile is what to keep; ours, as its name says, is where pruning ends.
            return PercentilePruner(
                100.0 - settings.percentile, n_startup_trials=startup, n_warmup_steps=warmup
            )
        case "successive_halving":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
        case "hyperband":
            return HyperbandPruner(min_resource=first, max_resource=steps, reduction_factor=2)
        case _:
            return NopPruner()


def quiet_optuna() -> None:
    """Keep Optuna's log lines out of our output; what matters is said by our own progress."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
