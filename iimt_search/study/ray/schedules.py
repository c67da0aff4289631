"""Tune's own schedules by our names: who is stopped early is then decided by Tune, not by Optuna."""

import re
from dataclasses import dataclass
from typing import Any

from iimt_search.space import Space
from iimt_search.validators.registry import VALIDATORS

STEP, OBJECTIVE = "step", "objective"
_TRIAL = re.compile(r"\btrial-\d+$")


def is_searched(key: str) -> bool:
    """Return whether a job is a trial of the search: no other is ever stopped early."""
    return _TRIAL.search(key) is not None


@dataclass(frozen=True)
class Schedule:
    """A Tune schedule, and what it goes by.

    Attributes:
        tune: makes decisions from results that hold :data:`STEP` and :data:`OBJECTIVE`.
        objective: the validator.
        steps: of a whole training; its last evaluation is no longer decided on.
    """

    tune: Any
    objective: str
    steps: int


def make_schedule(space: Space) -> Schedule | None:
    """Return the schedule that the space's pruner names, None where it is one of Optuna's."""
    if space.pruner.name != "asha":
        return None
    from ray.tune.schedulers import ASHAScheduler

    steps, first = space.train.steps, max(1, space.train.steps // space.train.evaluations)
    asha = ASHAScheduler(
        time_attr=STEP,
        metric=OBJECTIVE,
        mode="max" if VALIDATORS[space.objective].higher_is_better else "min",
        max_t=steps,
        grace_period=max(first, int(space.pruner.warmup * steps)),
        reduction_factor=2,
    )
    return Schedule(asha, space.objective, steps)
