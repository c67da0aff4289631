"""Measures a choice, and every validator beside it, with the sealed target labels, after it was made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from iimt_search.auditing.validators import (
    ValidatorAudit,
    audit_validator,
    finite,
    pick_summary,
    validator_summary,
)
from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import SealedTarget, open_sealed_target
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.exporting.load import load_model
from iimt_search.models.network import Model
from iimt_search.records import Choice
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import kept_checkpoints, last_checkpoints
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.scoring import score_kept
from iimt_search.study.search.sampling import default_params, settings_for, source_only_settings
from iimt_search.training.batches import Samples
from iimt_search.training.kept import load_kept_model
from iimt_search.training.predict import predict
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.registry import VALIDATORS
from iimt_search.validators.source_accuracy import source_accuracy

_CPU = torch.device("cpu")
# A confusion matrix of more is too large to be read.
MOST_CLASSES = 100


@dataclass(frozen=True)
class TaskAudit:
    """Target test accuracies of one task, in percent.

    Attributes:
        source_only: without adaptation, an ensemble of as many trainings, as long as the chosen one's.
        choice: of what is handed out: the ensemble of the chosen configuration's trainings.
        single: of the ensemble's first member alone.
        oracle: of the best that the study has: any single model, or what is handed out.
        default: of the method's default configuration, trained as long; None where not asked for.
        ceiling: of a model trained on the target's labels, as long; None where not asked for, or where
            the target has no test part.
        models: how many models the oracle and the validators pick from.
        test_samples: how many samples these are measured on.
        unseen: whether training has seen none of them; where the target has no test part, it has seen
            them without their labels.
        validators: what each validator would have picked of the same models.
        accuracies: job → accuracy of its last kept checkpoint.
        confusion: true class → predicted class → test samples, of what is handed out; empty where there
            are more than :data:`MOST_CLASSES`.
    """

    source_only: float
    choice: float
    single: float
    oracle: float
    default: float | None
    ceiling: float | None
    models: int
    test_samples: int
    unseen: bool
    validators: dict[str, ValidatorAudit] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class AuditOptions:
    """How an audit is carried out.

    Attributes:
        train: train the default configuration, and a model on the target's labels, to compare with.
        device: where to train them.
        validators: which validators to measure.
        progress: told what is done, how many of how many.
    """

    train: bool
    device: str
    validators: tuple[str, ...]
    progress: Callable[[str, int, int], None]


def accuracy(model: Model, test: Labelled) -> float:
    """Return a model's accuracy on labelled samples, in percent."""
    logits, _ = predict(model, Samples(test.unlabelled, next(model.parameters()).device))
    return 100 * source_accuracy(logits, torch.from_numpy(test.y))


def _trained_accuracy(
    task: DomainTask, settings: TrainSettings, seed: int, test: Labelled, device: str
) -> float:
    training = TaskTraining(task, settings, seed, device)
    training.advance(settings.steps)
    return accuracy(training.evaluated_model(), test)


def _ceiling(
    task: DomainTask, sealed: SealedTarget, settings: TrainSettings, seed: int, device: str
) -> float | None:
    """Train on the labelled target; returns the accuracy in percent, None where that cannot be fair."""
    if sealed.train is None or not sealed.unseen:
        return None
    labelled = replace(task, name=f"labelled target of {task.name}", source_train=sealed.train)
    return _trained_accuracy(labelled, settings, seed, sealed.test, device)


def _default(task: DomainTask, space: Space, steps: int, test: Labelled, device: str) -> float:
    """Train the method's default configuration as the chosen one was retrained."""
    settings = settings_for(space, default_params(space)).model_copy(update={"steps": steps})
    seed = derive_seed(derive_seed(space.seed, "retrain"), task.name)
    return _trained_accuracy(task, settings, seed, test, device)


def _confusion(probabilities: Tensor, labels: Tensor) -> tuple[tuple[int, ...], ...]:
    """Count test samples by true and predicted class."""
    classes = probabilities.shape[1]
    if classes > MOST_CLASSES:
        return ()
    counts = torch.bincount(labels * classes + probabilities.argmax(dim=-1), minlength=classes**2)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())


def _side(sample_shape: tuple[int, ...]) -> int:
    return sample_shape[-1] if len(sample_shape) == 3 else 0


class _Auditor:
    """Audits the tasks of one choice."""

    def __init__(self, choice: Choice, space: Space, folder: StudyFolder, options: AuditOptions) -> None:
        self._choice, self._space, self._folder, self._options = choice, space, folder, options
        settings = source_only_settings(space)
        self._settings = settings.model_copy(update={"steps": space.retrain.steps or settings.steps})

    def _exported(self, candidate: str, spec: TaskSpec, test: Labelled) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, C) of what is handed out, and logits (N, C) of its first member alone."""
        predictor = load_model(self._folder.models / candidate / spec.slug)
        samples = Samples(test.unlabelled, _CPU)
        logits = torch.stack([predict(model, samples)[0] for model in predictor.members])
        return logits.softmax(dim=-1).mean(dim=0), logits[0]

    def _pool(
        self, spec: TaskSpec, task: DomainTask, test: Labelled
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return job → accuracy of its last kept checkpoint, and each validator's scores of the same."""
        kept = last_checkpoints(kept_checkpoints(self._folder, [spec.name]))
        tests = {_side(task.sample_shape): test}
        accuracies: dict[str, float] = {}
        for count, each in enumerate(kept, 1):
            model = load_kept_model(each.path).model
            side = _side(model.architecture.sample_shape)
            if side not in tests:  # image_size was searched
                tests[side] = open_sealed_target(spec, task.classes, side).test
            accuracies[each.job] = accuracy(model, tests[side])
            self._options.progress(f"{spec.name}: measured", count, len(kept))
        scored = score_kept(
            kept,
            self._options.validators,
            lambda done, of: self._options.progress(f"{spec.name}: scored", done, of),
        )
        return accuracies, {name: [each.scores[name] for each in scored] for name in self._options.validators}

    def audit(self, spec: TaskSpec, task: DomainTask, sealed: SealedTarget) -> TaskAudit:
        """Measure one task."""
        space, settings, device = self._space, self._settings, self._options.device
        labels = torch.from_numpy(sealed.test.y)
        together, first = self._exported(self._choice.candidate, spec, sealed.test)
        chosen = 100 * source_accuracy(together, labels)
        source_only = 100 * source_accuracy(self._exported(SOURCE_ONLY_KEY, spec, sealed.test)[0], labels)
        accuracies, scores = self._pool(spec, task, sealed.test)
        oracle = max([*accuracies.values(), chosen, source_only])
        found = {
            name: audit_validator(
                VALIDATORS[name].higher_is_better, values, list(accuracies.values()), oracle
            )
            for name, values in scores.items()
        }
        train = self._options.train
        seed = derive_seed(space.seed, "ceiling")
        return TaskAudit(
            source_only=source_only,
            choice=chosen,
            single=100 * source_accuracy(first, labels),
            oracle=oracle,
            default=_default(task, space, settings.steps, sealed.test, device) if train else None,
            ceiling=_ceiling(task, sealed, settings, seed, device) if train else None,
            models=len(accuracies),
            test_samples=len(sealed.test),
            unseen=sealed.unseen,
            validators={name: each for name, each in found.items() if each is not None},
            accuracies=accuracies,
            confusion=_confusion(together, labels),
        )


def audit_choice(
    choice: Choice, space: Space, folder: StudyFolder, options: AuditOptions
) -> dict[str, TaskAudit]:
    """Measure a choice, and what every validator would have picked.

    Args:
        choice: what was chosen.
        space: the study's space.
        folder: the study's.
        options: what to train and to score besides.

    Returns:
        Task name → accuracies.

    Raises:
        DataError: a target has no labels.
        ModelFileError: an exported model or a kept checkpoint is damaged.
    """
    specs = [spec for spec in space.tasks if spec.name in choice.tasks]
    size, fraction = space.train.image_size, space.train.data_fraction
    tasks = [load_task(spec, size, fraction) for spec in specs]
    # All are opened before anything is trained: a target without labels is told at once.
    targets = [open_sealed_target(spec, task.classes, size) for spec, task in zip(specs, tasks, strict=True)]
    auditor = _Auditor(choice, space, folder, options)
    return {
        spec.name: auditor.audit(spec, task, sealed)
        for spec, task, sealed in zip(specs, tasks, targets, strict=True)
    }


def _row(audit: TaskAudit) -> dict[str, Any]:
    values = asdict(replace(audit, accuracies={}, confusion=()))
    del values["accuracies"], values["confusion"]  # for the report, not for people
    values["choice"] = {"target_accuracy": audit.choice, "oracle_gap": audit.oracle - audit.choice}
    values["validators"] = {
        name: {key: finite(value) for key, value in each.items()}
        for name, each in values["validators"].items()
    }
    return values


def _names(audits: Iterable[TaskAudit]) -> list[str]:
    return list(dict.fromkeys(name for audit in audits for name in audit.validators))


def audit_json(study: str, audits: Mapping[str, TaskAudit]) -> dict[str, Any]:
    """Return audits as JSON values, accuracies and gaps in percent."""
    rows = list(audits.values())
    oracle = {task: audit.oracle for task, audit in audits.items()}
    source_only = {task: audit.source_only for task, audit in audits.items()}
    summary: dict[str, Any] = {
        "source_only": fmean(source_only.values()),
        "oracle": fmean(oracle.values()),
        "choice": pick_summary({task: audit.choice for task, audit in audits.items()}, oracle, source_only),
    }
    for name in ("default", "ceiling", "single"):
        known = [value for audit in rows if (value := getattr(audit, name)) is not None]
        if len(known) == len(rows):
            summary[name] = fmean(known)
    summary["validators"] = {
        name: validator_summary(
            {task: audit.validators[name] for task, audit in audits.items() if name in audit.validators},
            oracle,
            source_only,
        )
        for name in _names(rows)
    }
    return {
        "study": study,
        "tasks": {task: _row(audit) for task, audit in audits.items()},
        "summary": summary,
    }
