"""Scores of kept checkpoints, computed after the training and without it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from iimt_search.errors import StudyError
from iimt_search.exporting.export_models import check_target, write_card
from iimt_search.exporting.model_folder import export_kept
from iimt_search.files import strict_json
from iimt_search.models.device import on_all_cores
from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import kept_checkpoints, last_checkpoints
from iimt_search.study.open import OpenStudy
from iimt_search.study.search.reference import load_reference
from iimt_search.task_name import slug
from iimt_search.training.kept import KeptCheckpoint, load_kept_predictions
from iimt_search.validators.contract import Predictions, lacking, score_all, score_candidates
from iimt_search.validators.registry import VALIDATORS


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A kept checkpoint with its scores.

    Attributes:
        kept: which.
        scores: validator → score; NaN where it is undefined.
    """

    kept: KeptCheckpoint
    scores: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; null for NaN."""
        kept, scores = self.kept, strict_json(self.scores)
        return {"job": kept.job, "task": kept.task, "step": kept.step, "scores": scores}


def computable(validator: str, predictions: Predictions) -> bool:
    """Return whether what the validator needs was kept."""
    return not lacking(validator, predictions)


def _score_comparable(validator: str, pool: Sequence[Tensor]) -> list[float]:
    """Score what has as many samples as most have; NaN for the others, which are of other samples."""
    most = Counter(len(logits) for logits in pool).most_common(1)[0][0]
    scores = iter(score_candidates(validator, [logits for logits in pool if len(logits) == most]))
    return [next(scores) if len(logits) == most else math.nan for logits in pool]


def score_kept(
    folder: StudyFolder,
    kept: Sequence[KeptCheckpoint],
    validators: Iterable[str],
    progress: Callable[[int, int], None],
) -> list[ScoredCheckpoint]:
    """Score checkpoints, NaN where what a validator needs was not kept with a checkpoint.

    Args:
        folder: the study's.
        kept: the checkpoints; all of one task take part in its pool validators.
        validators: names.
        progress: takes how many of how many checkpoints are scored.

    Raises:
        ModelFileError: a file is damaged.
    """
    names = list(validators)
    of_pool = [name for name in names if VALIDATORS[name].cost == "pool"]
    references = {task: load_reference(folder, slug(task)) for task in {one.task for one in kept}}

    def scored(checkpoint: KeptCheckpoint) -> tuple[dict[str, float], Tensor]:
        predictions = load_kept_predictions(checkpoint.path)
        reference = references[checkpoint.task]
        if reference is not None and len(reference) == len(predictions.target_logits):
            predictions = replace(predictions, reference=reference)
        able = [name for name in names if name not in of_pool and computable(name, predictions)]
        scores = {**dict.fromkeys(names, math.nan), **score_all(able, predictions)}
        return scores, predictions.target_logits

    found = on_all_cores(scored, kept, lambda done: progress(done, len(kept)))
    of_kept = dict(zip(kept, found, strict=True))
    for task in references:
        pool = {checkpoint: logits for checkpoint, (_, logits) in of_kept.items() if checkpoint.task == task}
        for name in of_pool:
            values = _score_comparable(name, list(pool.values()))
            for checkpoint, value in zip(pool, values, strict=True):
                of_kept[checkpoint][0][name] = value
    return [ScoredCheckpoint(checkpoint, scores) for checkpoint, (scores, _) in of_kept.items()]


def preferred(scored: Sequence[ScoredCheckpoint], validator: str, task: str) -> ScoredCheckpoint | None:
    """Return the checkpoint of a task that a validator scores best; None where it scores none."""
    sign = 1 if VALIDATORS[validator].higher_is_better else -1
    known = [one for one in scored if one.kept.task == task and math.isfinite(one.scores[validator])]
    return max(known, key=lambda one: sign * one.scores[validator], default=None)


@dataclass(frozen=True)
class StudyScores:
    """A study's kept checkpoints, scored.

    Attributes:
        study: its name.
        checkpoints: with their scores.
        preferred: task → validator → the checkpoint that it scores best; None where what it needs was not
            kept.
        exported: task → folder of the preferred checkpoint's model, where they were asked for.
    """

    study: str
    checkpoints: list[ScoredCheckpoint]
    preferred: dict[str, dict[str, ScoredCheckpoint | None]]
    exported: dict[str, Path]


def score_study(
    opened: OpenStudy,
    validators: Sequence[str],
    every_step: bool,
    export: Path | None,
    progress: Callable[[int, int], None],
) -> StudyScores:
    """Score a study's kept checkpoints, and export what the one validator prefers; see ``api.score``."""
    opened.need_folder("its kept checkpoints are")
    space = Space.model_validate(opened.space)
    tasks = {task.name: task for task in space.tasks}
    kept = kept_checkpoints(opened.folder, tasks)
    if not kept:
        raise StudyError(f"study {opened.folder.name!r} has no kept checkpoints in {opened.folder.kept}/")
    scored = score_kept(opened.folder, kept if every_step else last_checkpoints(kept), validators, progress)
    best = {task: {name: preferred(scored, name, task) for name in validators} for task in tasks}
    exported: dict[str, Path] = {}
    if export is not None:
        (name,) = validators
        for task, spec in tasks.items():
            if (checkpoint := best[task][name]) is None:
                raise StudyError(f"{name} prefers nothing for {task}: what it needs was not kept")
            exported[task] = export / spec.slug
            check_target(exported[task])
            export_kept(checkpoint.kept, spec, checkpoint.scores, exported[task], weights=space.train.weights)
            write_card(exported[task], None)
    return StudyScores(opened.folder.name, scored, best, exported)
