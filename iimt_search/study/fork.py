"""Trials that branch off another trial's training: what population-based training makes of a study."""

import os
import shutil
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial

from iimt_search.records import Job
from iimt_search.training.checkpoint import checkpoint_path, checkpoint_step

# Attributes of a fork: its donor's seed, what lambda_max was before, and after which step it branched off.
SEED, EARLIER, FORKED_AT = "seed", "lambda_before", "forked_at"


def forked_at(trial: FrozenTrial | Trial) -> int:
    """Return the step after which a trial branched off another one, 0 for one of its own."""
    return int(trial.user_attrs.get(FORKED_AT, 0))


def configuration(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """Return a trial's parameters, and for a fork the earlier values of ``lambda_max``."""
    earlier = trial.user_attrs.get(EARLIER)
    return trial.params if earlier is None else {**trial.params, EARLIER: earlier}


def fork_attributes(job: Job, number: int) -> dict[str, Any] | None:
    """Return the attributes of a trial that branches off a job's last checkpoint.

    Args:
        job: the donor's.
        number: of its trial.

    Returns:
        None where the donor has no checkpoint, or one of its training's end.
    """
    step = checkpoint_step(Path(job.folder))
    settings = job.settings
    if step is None or step >= settings.steps:
        return None
    return {
        "origin": f"fork of trial {number} after step {step}",
        SEED: job.seed,
        EARLIER: [*map(list, settings.lambda_before), [step / settings.steps, settings.lambda_max]],
        FORKED_AT: step,
    }


def copy_checkpoint(donor: Job, folder: Path) -> None:
    """Copy a job's last checkpoint to the folder of its fork."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"checkpoint.{os.getpid()}.tmp"
    shutil.copyfile(checkpoint_path(Path(donor.folder)), beside)
    os.replace(beside, checkpoint_path(folder))
