"""A job's checkpoint: the state of every task's training and the evaluations so far."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from iimt_search.files import atomic_write
from iimt_search.records import Evaluation

SCHEMA = 1

# Absent, cut short, or not ours: the job then begins anew, which costs time and loses nothing else.
_UNUSABLE = (
    *(OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError),
    *(UnpicklingError, zipfile.BadZipFile),
)


def checkpoint_path(folder: Path) -> Path:
    """Return where a job's checkpoint lies."""
    return folder / "checkpoint.pt"


def save_checkpoint(folder: Path, identity: str, history: list[Evaluation], states: dict[str, Any]) -> None:
    """Write a job's checkpoint; a killed write leaves the previous one whole.

    Args:
        folder: the job's.
        identity: of what the job has computed: what another must share to go on from this checkpoint.
        history: evaluations so far.
        states: task name → the training's state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": SCHEMA,
        "identity": identity,
        "history": [(e.step, {task: dict(scores) for task, scores in e.scores.items()}) for e in history],
        "states": states,
    }
    with atomic_write(checkpoint_path(folder)) as beside:
        torch.save(content, beside)


def load_checkpoint(
    folder: Path, identity: Callable[[int], str]
) -> tuple[list[Evaluation], dict[str, Any]] | None:
    """Return the evaluations and states of the folder's checkpoint.

    None where there is no usable one, or it is that of another job.

    Args:
        folder: the job's.
        identity: returns what the job computes up to a step is known by.
    """
    try:
        content = torch.load(checkpoint_path(folder), weights_only=True, map_location="cpu")
        history = [Evaluation(step, scores) for step, scores in content["history"]]
        if content["schema"] != SCHEMA or content["identity"] != identity(history[-1].step):
            return None
        return history, content["states"]
    except _UNUSABLE:
        return None


def checkpoint_step(folder: Path) -> int | None:
    """Return the step of a job's checkpoint, None where there is no usable one."""
    try:
        content = torch.load(checkpoint_path(folder), weights_only=True, map_location="cpu", mmap=True)
        return int(content["history"][-1][0])
    except _UNUSABLE:
        return None
