"""Trials that branch off another trial's training, as their attributes tell: population-based training."""

from typing import Any

from optuna.trial import FrozenTrial, Trial

# Attributes of a fork: its donor's seed, what lambda_max was before, and after which step it branched off.
SEED, EARLIER, FORKED_AT = "seed", "lambda_before", "forked_at"


def forked_at(trial: FrozenTrial | Trial) -> int:
    """Return the step after which a trial branched off another one, 0 for one of its own."""
    return int(trial.user_attrs.get(FORKED_AT, 0))


def configuration(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """Return a trial's parameters, and for a fork the earlier values of ``lambda_max``."""
    earlier = trial.user_attrs.get(EARLIER)
    return trial.params if earlier is None else {**trial.params, EARLIER: earlier}
