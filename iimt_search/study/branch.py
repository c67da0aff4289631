"""Lets a trial branch off another one's training, from its last checkpoint."""

import os
import shutil
from pathlib import Path
from typing import Any

from iimt_search.records import Job
from iimt_search.study.fork import EARLIER, FORKED_AT, SEED
from iimt_search.training.checkpoint import checkpoint_path, checkpoint_step


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
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"checkpoint.{os.getpid()}.tmp"
    try:
        shutil.copyfile(checkpoint_path(Path(donor.folder)), beside)
        os.replace(beside, checkpoint_path(folder))
    except FileNotFoundError:
        return None
    step, settings = checkpoint_step(folder), donor.settings  # the copy's: the donor trains on
    share = 1.0 if step is None else step / settings.steps
    changed = max((until for until, _ in settings.lambda_before), default=0.0)
    if not changed < share < 1.0:
        shutil.rmtree(folder)
        return None
    return {
        "origin": f"fork of trial {number} after step {step}",
        SEED: donor.seed,
        EARLIER: [*map(list, settings.lambda_before), [share, settings.lambda_max]],
        FORKED_AT: step,
    }
