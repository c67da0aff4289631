"""The models that the report shows of a task: source-only's, and those that are exported or best so far."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.data.assemble import load_task_of
from iimt_search.data.task import DomainTask, Samples
from iimt_search.errors import DataError, ModelFileError
from iimt_search.report.record import StudyRecord
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import kept_checkpoints, last_checkpoints
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.training.batches import evenly_spaced
from iimt_search.training.kept import KeptCheckpoint, load_kept_model, load_kept_predictions
from iimt_search.validators.contract import Predictions


@dataclass(frozen=True)
class ShownModels:
    """What is kept of one task's models.

    Attributes:
        task: which.
        before: predictions of the model without adaptation, None where none is kept.
        after: of the shown candidate's models, the best first; more than one are an ensemble.
        paths: their files.
    """

    task: TaskSpec
    before: Predictions | None
    after: tuple[Predictions, ...]
    paths: tuple[Path, ...]

    @property
    def probabilities(self) -> Tensor:
        """Probabilities (N_t, C) of the target samples, the mean over the models."""
        return torch.stack([one.target_logits.softmax(dim=-1) for one in self.after]).mean(dim=0)


def _read(kept: KeptCheckpoint) -> Predictions | None:
    """Return a checkpoint's predictions; None where it is damaged, or deleted since it was listed."""
    try:
        known = load_kept_predictions(kept.path)
    except ModelFileError:
        return None
    tensors = (known.target_logits, known.target_embeddings, known.source_embeddings)
    return known if all(bool(tensor.isfinite().all()) for tensor in tensors) else None


def _there(last: dict[str, KeptCheckpoint], jobs: Iterable[str]) -> list[KeptCheckpoint]:
    return [last[job] for job in jobs if job in last]


def _jobs(record: StudyRecord, candidate: str, task: TaskSpec) -> list[str]:
    """Return the keys of the jobs that may have trained a candidate on a task, the longest training first."""
    own = record.key("baseline" if candidate == SOURCE_ONLY_KEY else "trial", candidate)
    retrained = record.key("retraining", candidate, task=task.slug)
    return [retrained, record.key("confirmation", candidate), own]


def read_shown(record: StudyRecord, folder: StudyFolder) -> list[ShownModels]:
    """Read the models to show of each task; of a task without a kept model nothing."""
    shown = []
    for task in record.tasks:
        last = {kept.job: kept for kept in last_checkpoints(kept_checkpoints(folder, [task.name]))}
        members = () if record.choice is None else record.choice.members.get(task.name, ())
        wanted = _there(last, members) or _there(last, _jobs(record, record.shown, task))[:1]
        whole = [(kept.path, one) for kept in wanted if (one := _read(kept)) is not None]
        # An ensemble's models are compared on the same samples: others cannot be averaged with the first.
        alike = [(p, one) for p, one in whole if one.target_logits.shape == whole[0][1].target_logits.shape]
        before = next((_read(kept) for kept in _there(last, _jobs(record, SOURCE_ONLY_KEY, task))), None)
        if alike:
            paths, after = zip(*alike, strict=True)
            shown.append(ShownModels(task, before, after, paths))
    return shown


@dataclass(frozen=True)
class TargetSamples:
    """Target samples with what is predicted of them.

    Attributes:
        x: the samples (M, ...), of the task's type.
        predicted: class name of each.
        probability: of it, in [0, 1].
    """

    x: Samples
    predicted: tuple[str, ...]
    probability: tuple[float, ...]


def load_shown_task(shown: ShownModels, record: StudyRecord) -> DomainTask | None:
    """Return the task's data as the shown model saw it; None where it is not at hand, or has changed."""
    try:
        settings = load_kept_model(shown.paths[0]).settings
        task = load_task_of(shown.task, settings)
    except (DataError, ModelFileError):
        return None
    same_size = settings.form == record.space.train.form
    known = record.data.get(shown.task.name, task.fingerprint)
    return None if same_size and known != task.fingerprint else task


def certain_samples(
    shown: ShownModels, task: DomainTask, evaluated: int, count: int = 12
) -> tuple[TargetSamples, TargetSamples] | None:
    """Return ``count`` target samples of which the models are most certain, and ``count`` of the least.

    Of the task's data at most ``evaluated`` target samples, evenly spaced, were evaluated. None where the
    samples are vectors, or where they are not those that were evaluated.
    """
    at = evenly_spaced(len(task.target), evaluated)
    probabilities = shown.probabilities
    if task.kind == "vector" or len(at) != len(probabilities):
        return None
    largest, label = probabilities.max(dim=-1)
    order: NDArray[np.int64] = largest.argsort(descending=True, stable=True).numpy()

    def samples(chosen: NDArray[np.int64]) -> TargetSamples:
        return TargetSamples(
            x=task.target.rows(at[chosen]),
            predicted=tuple(task.classes[int(label[i])] for i in chosen),
            probability=tuple(float(largest[i]) for i in chosen),
        )

    most = order[:count]
    least = order[::-1][: max(0, min(count, len(order) - len(most)))]
    return samples(most), samples(np.ascontiguousarray(least))
