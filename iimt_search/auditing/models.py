"""Measures a choice among models that others trained with target labels, after it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.auditing.measure import TaskAudit, audit_json, confusion
from iimt_search.auditing.validators import audit_validator
from iimt_search.data.arrays import open_samples
from iimt_search.errors import DataError
from iimt_search.files import shown, strict_json
from iimt_search.judging.files import class_indices
from iimt_search.judging.judge import ModelChoice
from iimt_search.validators.registry import VALIDATORS
from iimt_search.validators.source_accuracy import source_accuracy

NAME = "target"


@dataclass(frozen=True)
class ModelAudit:
    """What was measured; accuracies in percent.

    Attributes:
        digest: of the choice.
        task: as of a study's task; its ``accuracies`` are by file, ``source_only`` is of the best baseline,
            NaN without one.
        candidates: name → accuracy of the mean over its files.
        ensemble: accuracy of the labels that all models with adaptation give together; None without any.
    """

    digest: str
    task: TaskAudit
    candidates: Mapping[str, float]
    ensemble: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        more = {"digest": self.digest, "candidates": dict(self.candidates), "ensemble": self.ensemble}
        return dict(strict_json({**audit_json(NAME, {NAME: self.task}), **more}))


def _labels(labels: str | Path | NDArray[Any] | Sequence[int], count: int, classes: int) -> Tensor:
    if isinstance(labels, (str, Path)):
        path = Path(labels)
        where, array = shown(path), open_samples(path, "y" if path.suffix.lower() == ".npz" else "")
        shape, kind = array.shape, array.dtype.kind
        values = array.load if shape == (count,) and kind in "iufb" else None
    else:
        given = np.asarray(labels)
        where, shape, kind = "labels", given.shape, given.dtype.kind
        values = given.copy if shape == (count,) and kind in "iufb" else None
    if values is None:
        raise DataError(f"{where}: shape {shape}; labels are one number ({count},) for each target sample")
    return class_indices(torch.from_numpy(values().astype(np.float64)), classes, where)


def audit_models(choice: ModelChoice, labels: str | Path | NDArray[Any] | Sequence[int]) -> ModelAudit:
    """After the choice, measure it and every validator with the target's labels; nothing here changes it.

    Args:
        choice: what :func:`iimt_search.choose` returned.
        labels: class indices (N,) of the target samples, in the order of the predictions; or a ``.npy`` file
            of them, or an ``.npz`` whose array is ``y``.

    Raises:
        DataError: they cannot be read, are too many or too few, or are no class indices.
    """
    count, classes = choice.probabilities.shape
    y = _labels(labels, count, classes)

    def accuracy(probabilities: Tensor) -> float:
        return 100 * source_accuracy(probabilities, y)

    by_file = {str(m.path): accuracy(m.probabilities) for m in choice.models}
    by_candidate = {
        c.name: accuracy(
            torch.stack([m.probabilities for m in choice.models if m.candidate == c.name]).mean(dim=0)
        )
        for c in choice.candidates
    }
    chosen = [m for m in choice.models if m.candidate == choice.candidate]
    finite = [a for a in (*by_file.values(), *by_candidate.values()) if a == a]
    oracle = max(finite)
    validators = {}
    for name in choice.models[0].scores:
        scores = [m.scores[name] for m in choice.models]
        audited = audit_validator(VALIDATORS[name].higher_is_better, scores, list(by_file.values()), oracle)
        if audited is not None:
            validators[name] = audited
    task = TaskAudit(
        source_only=max((by_candidate[name] for name in choice.baselines), default=float("nan")),
        choice=by_candidate[choice.candidate],
        single=by_file[str(chosen[0].path)],
        oracle=oracle,
        default=None,
        ceiling=None,
        models=len(by_file),
        test_samples=count,
        unseen=False,
        validators=validators,
        accuracies=by_file,
        confusion=confusion(choice.probabilities, y),
    )
    ensemble = None if choice.ensemble is None else accuracy(choice.ensemble)
    return ModelAudit(choice.digest, task, by_candidate, ensemble)
