"""Trials that branch off another trial's training: population-based training."""

import shutil
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial

from iimt_search.files import atomic_write
from iimt_search.records import Job
from iimt_search.settings import with_new_names

# Attributes of a fork: its donor's seed, what lambda_max was before, and after which step it branched off.
SEED, EARLIER, FORKED_AT = "seed", "lambda_schedule", "forked_at"
# How a trial draws the source's classes, and a fork as its donor.
DRAWN = "source_classes"


def forked_at(trial: FrozenTrial | Trial) -> int:
    """Return the step after which a trial branched off another one, 0 for one of its own."""
    return int(trial.user_attrs.get(FORKED_AT, 0))


def configuration(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """Return a trial's parameters, and for a fork the earlier values of ``lambda_max``."""
    earlier = with_new_names(trial.user_attrs).get(EARLIER)
    return trial.params if earlier is None else {**trial.params, EARLIER: earlier}


def branch_off(donor: Job, number: int, folder: Path) -> dict[str, Any] | None:
    """Copy a job's last checkpoint to the folder of its fork.

    Args:
        donor: the job.
        number: of its trial.
        folder: the fork's.

    Returns:
        The attributes of the fork's trial; None where the donor has no checkpoint, or one that leaves
        nothing to change.
    """
    from iimt_search.training.checkpoint import checkpoint_path, checkpoint_step

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(checkpoint_path(folder)) as beside:
            shutil.copyfile(checkpoint_path(Path(donor.folder)), beside)
    except FileNotFoundError:
        return None
    step, settings = checkpoint_step(folder), donor.settings  # the copy's: the donor trains on
    share = 1.0 if step is None else step / settings.steps
    changed = max((until for until, _ in settings.lambda_schedule), default=0.0)
    if not changed < share < 1.0:
        shutil.rmtree(folder)
        return None
    return {
        "origin": f"fork of trial {number} after step {step}",
        SEED: donor.seed,
        EARLIER: [*map(list, settings.lambda_schedule), [share, settings.lambda_max]],
        FORKED_AT: step,
    }
