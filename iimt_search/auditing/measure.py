"""Measures a choice, and every validator beside it, with the sealed target labels, after it was made."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import fmean
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iimt_search.auditing.validators import ValidatorAudit, audit_validator, pick_summary, validator_summary
from iimt_search.data.assemble import load_task_of
from iimt_search.data.sealed import SealedTarget, open_sealed_target
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.exporting.load import load_model
from iimt_search.features.extract import featurizer_of, load_training_task
from iimt_search.files import strict_json
from iimt_search.models.device import each_on_cores, on_all_cores, resolve_device
from iimt_search.models.network import Model
from iimt_search.models.pretrained import AT_ONCE
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
from iimt_search.training.kept import KeptCheckpoint, load_kept_model
from iimt_search.training.predict import EVALUATION_BATCH, predict
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.registry import VALIDATORS
from iimt_search.validators.source_accuracy import source_accuracy

# A confusion matrix of more is too large to be read.
MOST_CLASSES = 100
# Parts of a target without a test part; a ceiling's model is trained on all but one.
FOLDS = 4


@dataclass(frozen=True)
class TaskAudit:
    """Target test accuracies of one task, in percent.

    Attributes:
        source_only: without adaptation, an ensemble of as many trainings, as long as the chosen one's.
        choice: of what is handed out: the ensemble of the chosen configuration's trainings.
        single: of the ensemble's first member alone.
        oracle: of the best that the study has: any single model, or what is handed out.
        default: of the method's default configuration, trained as long; None where not asked for.
        ceiling: of a model trained on the target's labels, as long; where the target has no test part, of
            :data:`FOLDS` models, each measured on the part that it was not trained on. None where not asked
            for, and where there are no labels to train on.
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


def accuracy(model: Model, test: Labelled) -> float:
    """Return a model's accuracy on labelled samples, in percent."""
    logits, _ = predict(model, Samples(test.unlabelled, next(model.parameters()).device))
    return 100 * source_accuracy(logits, torch.from_numpy(test.y))


def confusion(probabilities: Tensor, labels: Tensor) -> tuple[tuple[int, ...], ...]:
    """Count test samples by true and predicted class."""
    classes = probabilities.shape[1]
    if classes > MOST_CLASSES:
        return ()
    counts = torch.bincount(labels * classes + probabilities.argmax(dim=-1), minlength=classes**2)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())


@dataclass(frozen=True)
class Auditor:
    """Measures a choice, and what every validator would have picked.

    Attributes:
        choice: what was chosen.
        space: the study's.
        folder: the study's.
        train: train the default configuration, and a model on the target's labels, to compare with.
        device: where to train them.
        progress: takes what is done, and how many of how many.
    """

    choice: Choice
    space: Space
    folder: StudyFolder
    train: bool
    device: str
    progress: Callable[[str, int, int], None]

    def audit(self) -> dict[str, TaskAudit]:
        """Return task name → accuracies.

        Raises:
            DataError: a target has no labels.
            ModelFileError: an exported model or a kept checkpoint is damaged.
        """
        specs = [spec for spec in self.space.tasks if spec.name in self.choice.tasks]
        tasks = [load_task_of(spec, self.space.train) for spec in specs]
        size, interpolation = self.space.train.form
        # All are opened before anything is trained: a target without labels is an error at once.
        targets = [
            open_sealed_target(spec, task.classes, size, interpolation)
            for spec, task in zip(specs, tasks, strict=True)
        ]
        return {
            spec.name: self._task(spec, task, sealed)
            for spec, task, sealed in zip(specs, tasks, targets, strict=True)
        }

    def _exported(self, candidate: str, spec: TaskSpec, test: Labelled) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, C) of what is handed out, and logits (N, C) of its first member alone."""
        predictor = load_model(self.folder.models / candidate / spec.slug, run_python=True)
        size = AT_ONCE if predictor.model.backbone is not None else EVALUATION_BATCH

        def predicted(start: int) -> Tensor:
            at = np.arange(start, min(start + size, len(test)))
            with torch.no_grad():
                return predictor.members_logits(torch.from_numpy(test.unlabelled.rows(at)))

        logits = torch.cat(list(each_on_cores(predicted, range(0, len(test), size))), dim=1)
        return logits.softmax(dim=-1).mean(dim=0), logits[0]

    def _sealed(self, spec: TaskSpec, classes: tuple[str, ...], settings: TrainSettings) -> SealedTarget:
        """Return a target as a training with ``settings`` sees it, with its labels."""
        featurizer = featurizer_of(spec, settings, resolve_device(self.device))
        return open_sealed_target(spec, classes, *settings.form, featurizer)

    def _trained(self, spec: TaskSpec, settings: TrainSettings, seed: int) -> float:
        """Train as long as the chosen configuration was retrained; returns the accuracy in percent."""
        task = load_training_task(spec, settings, resolve_device(self.device))
        return self._accuracy_of(task, settings, seed, self._sealed(spec, task.classes, settings).test)

    def _ceiling(self, spec: TaskSpec) -> float | None:
        """Return the accuracy in percent of what the target's own labels teach, None where it has none."""
        settings, seed = source_only_settings(self.space), derive_seed(self.space.seed, "ceiling")
        task = load_training_task(spec, settings, resolve_device(self.device))
        sealed = self._sealed(spec, task.classes, settings)
        if sealed.train is None or not (sealed.unseen or len(sealed.test) >= 2 * FOLDS):
            return None
        parts = [(sealed.train, sealed.test)]
        if not sealed.unseen:
            order, every = np.random.default_rng(seed).permutation(len(sealed.test)), range(FOLDS)
            parts = [
                (
                    sealed.test.subset(np.concatenate([order[at::FOLDS] for at in every if at != fold])),
                    sealed.test.subset(order[fold::FOLDS]),
                )
                for fold in every
            ]
        name = f"labelled target of {task.name}"
        right = [
            len(test) * self._accuracy_of(replace(task, name=name, source_train=train), settings, seed, test)
            for train, test in parts
        ]
        return sum(right) / sum(len(test) for _, test in parts)

    def _accuracy_of(self, task: DomainTask, settings: TrainSettings, seed: int, test: Labelled) -> float:
        steps = self.space.retrain.steps or source_only_settings(self.space).steps
        training = TaskTraining(task, settings.model_copy(update={"steps": steps}), seed, self.device)
        training.advance(steps)
        return accuracy(training.evaluated_model(), test)

    def _pool(
        self, spec: TaskSpec, classes: tuple[str, ...]
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return job → accuracy of its last kept checkpoint, and each validator's scores of the same."""
        kept = last_checkpoints(kept_checkpoints(self.folder, [spec.name]))
        tests: dict[Any, Labelled] = {}
        opening = Lock()

        def measured(checkpoint: KeptCheckpoint) -> float:
            found = load_kept_model(checkpoint.path, self.space.train.weights)
            key = found.settings.form, featurizer_of(spec, found.settings)
            with opening:
                if key not in tests:  # what they depend on was searched
                    tests[key] = self._sealed(spec, classes, found.settings).test
            return accuracy(found.model, tests[key])

        values = on_all_cores(
            measured, kept, lambda done: self.progress(f"{spec.name}: measured", done, len(kept))
        )
        accuracies = {checkpoint.job: value for checkpoint, value in zip(kept, values, strict=True)}
        scored = score_kept(self.folder, kept, VALIDATORS, partial(self.progress, f"{spec.name}: scored"))
        return accuracies, {name: [checkpoint.scores[name] for checkpoint in scored] for name in VALIDATORS}

    def _task(self, spec: TaskSpec, task: DomainTask, sealed: SealedTarget) -> TaskAudit:
        space, test = self.space, sealed.test
        labels = torch.from_numpy(test.y)
        ensemble, first = self._exported(self.choice.candidate, spec, test)
        chosen = 100 * source_accuracy(ensemble, labels)
        source_only = 100 * source_accuracy(self._exported(SOURCE_ONLY_KEY, spec, test)[0], labels)
        accuracies, scores = self._pool(spec, task.classes)
        oracle = max([*accuracies.values(), chosen, source_only])
        validators = {}
        for name, values in scores.items():
            higher = VALIDATORS[name].higher_is_better
            audited = audit_validator(higher, values, list(accuracies.values()), oracle)
            if audited is not None:
                validators[name] = audited
        default = ceiling = None
        if self.train:
            seed = derive_seed(derive_seed(space.seed, "retrain"), task.name)
            default = self._trained(spec, settings_for(space, default_params(space)), seed)
            ceiling = self._ceiling(spec)
        return TaskAudit(
            source_only=source_only,
            choice=chosen,
            single=100 * source_accuracy(first, labels),
            oracle=oracle,
            default=default,
            ceiling=ceiling,
            models=len(accuracies),
            test_samples=len(test),
            unseen=sealed.unseen,
            validators=validators,
            accuracies=accuracies,
            confusion=confusion(ensemble, labels),
        )


def _row(audit: TaskAudit) -> dict[str, Any]:
    values = asdict(replace(audit, accuracies={}, confusion=()))
    del values["accuracies"], values["confusion"]  # for the report, not for people
    return values | {"choice": {"target_accuracy": audit.choice, "oracle_gap": audit.oracle - audit.choice}}


def audit_json(study: str, audits: Mapping[str, TaskAudit]) -> dict[str, Any]:
    """Return audits as JSON values, accuracies and gaps in percent."""
    oracle = {task: audit.oracle for task, audit in audits.items()}
    source_only = {task: audit.source_only for task, audit in audits.items()}
    summary: dict[str, Any] = {
        "source_only": fmean(source_only.values()),
        "oracle": fmean(oracle.values()),
        "choice": pick_summary({task: audit.choice for task, audit in audits.items()}, oracle, source_only),
    }
    for name in ("default", "ceiling", "single"):
        values = [getattr(audit, name) for audit in audits.values()]
        if None not in values:
            summary[name] = fmean(values)
    by_validator: dict[str, dict[str, ValidatorAudit]] = {}
    for task, audit in audits.items():
        for name, audited in audit.validators.items():
            by_validator.setdefault(name, {})[task] = audited
    summary["validators"] = {
        name: validator_summary(tasks, oracle, source_only) for name, tasks in by_validator.items()
    }
    rows = {task: strict_json(_row(audit)) for task, audit in audits.items()}
    return {"study": study, "tasks": rows, "summary": summary}
