"""A job's checkpoint: the state of every task's training and the evaluations so far."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from iimt_search.errors import machine_failed
from iimt_search.files import atomic_write
from iimt_search.records import Evaluation

SCHEMA = 1
# Letters of an error's text that are shown: torch's own go on for paragraphs.
_REASON = 100

# Cut short, or not ours: the job then begins anew, which costs time and loses nothing else, and says so.
_UNUSABLE = (
    *(OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError),
    *(UnpicklingError, zipfile.BadZipFile),
)


def checkpoint_path(folder: Path) -> Path:
    """Return where a job's checkpoint lies."""
    return folder / "checkpoint.pt"


def save_checkpoint(
    folder: Path, identity: str, history: list[Evaluation], states: dict[str, Any], arithmetic: str = ""
) -> None:
    """Write a job's checkpoint; a killed write leaves the previous one whole.

    Args:
        folder: the job's.
        identity: of what the job has computed: what another must share to go on from this checkpoint.
        history: evaluations so far.
        states: task name → the training's state.
        arithmetic: in which the job was computed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": SCHEMA,
        "identity": identity,
        "history": [(e.step, {task: dict(scores) for task, scores in e.scores.items()}) for e in history],
        "states": states,
        "arithmetic": arithmetic,
    }
    with atomic_write(checkpoint_path(folder)) as beside:
        torch.save(content, beside)


def load_checkpoint(
    folder: Path, identity: Callable[[int, str], str], told: Callable[[str], None] = lambda _: None
) -> tuple[list[Evaluation], dict[str, Any], str] | None:
    """Return the evaluations, states and arithmetic of the folder's checkpoint.

    None where there is none, or none that can be used: it cannot be read, or is that of another job.

    Args:
        folder: the job's.
        identity: takes a step and an arithmetic, "" in checkpoints of earlier versions; returns what the job
            computes so up to there is known by.
        told: takes why there is none that can be used.
    """
    path = checkpoint_path(folder)
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        history = [Evaluation(step, scores) for step, scores in content["history"]]
        arithmetic = str(content.get("arithmetic", ""))
        if content["schema"] == SCHEMA and content["identity"] == identity(history[-1].step, arithmetic):
            return history, content["states"], arithmetic
        told(f"{path} is of other settings, data, device or arithmetic; begins again from the start")
    except _UNUSABLE as error:
        if machine_failed(error):
            raise
        reason = (str(error).strip().splitlines() or [""])[0][:_REASON]
        told(f"{path} cannot be read, begins again from the start: {type(error).__name__} {reason}".rstrip())
    return None


def checkpoint_step(folder: Path) -> int | None:
    """Return the step of a job's checkpoint, None where there is no usable one."""
    try:
        content = torch.load(checkpoint_path(folder), weights_only=True, map_location="cpu", mmap=True)
        return int(content["history"][-1][0])
    except _UNUSABLE:
        return None
