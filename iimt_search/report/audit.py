"""Measures a choice with the sealed target labels, after it was made."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import SealedTarget, open_sealed_target
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.models.network import Model
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.study.choice import Choice
from iimt_search.study.proposals import default_params, settings_for, source_only_settings
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.training.load import load_model
from iimt_search.training.samples import Samples
from iimt_search.training.task_training import TaskTraining, predict
from iimt_search.validators.source_accuracy import source_accuracy


@dataclass(frozen=True)
class TaskAudit:
    """Target test accuracies of one task, in percent.

    Attributes:
        source_only: of the model without adaptation, trained as long as the chosen one.
        choice: of the chosen model.
        default: of the method's default configuration, trained as long; None where not asked for.
        ceiling: of a model trained on the target's labels, as long; None where not asked for, or where
            the target has no test part.
        test_samples: how many samples these are measured on.
        unseen: whether training has seen none of them; where the target has no test part, it has seen
            them without their labels.
    """

    source_only: float
    choice: float
    default: float | None
    ceiling: float | None
    test_samples: int
    unseen: bool


def _accuracy(model: Model, test: Labelled) -> float:
    logits, _ = predict(model, Samples(test.unlabelled, next(model.parameters()).device))
    return 100 * source_accuracy(logits, torch.from_numpy(test.y))


def _exported_accuracy(folder: Path, test: Labelled) -> float:
    return _accuracy(load_model(folder).model, test)


def _trained_accuracy(
    task: DomainTask, settings: TrainSettings, seed: int, test: Labelled, device: str
) -> float:
    training = TaskTraining(task, settings, seed, device)
    training.advance(settings.steps)
    return _accuracy(training.evaluated_model(), test)


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


def audit_choice(
    choice: Choice, space: Space, models: Path, train: bool, device: str
) -> dict[str, TaskAudit]:
    """Measure a choice.

    Args:
        choice: what was chosen.
        space: the study's space.
        models: the folder of the study's exported models.
        train: train the default configuration, and a model on the target's labels, to compare with.
        device: where to train them.

    Returns:
        Task name → accuracies.
    """
    settings = source_only_settings(space)
    settings = settings.model_copy(update={"steps": space.retrain.steps or settings.steps})
    specs = [spec for spec in space.tasks if spec.name in choice.tasks]
    tasks = [load_task(spec, settings.image_size, settings.share) for spec in specs]
    # All are opened before anything is trained: a target without labels is told at once.
    targets = [
        open_sealed_target(spec, task.classes, settings.image_size)
        for spec, task in zip(specs, tasks, strict=True)
    ]
    found = {}
    for spec, task, sealed in zip(specs, tasks, targets, strict=True):
        seed = derive_seed(space.seed, "ceiling")
        found[spec.name] = TaskAudit(
            source_only=_exported_accuracy(models / SOURCE_ONLY_KEY / spec.slug, sealed.test),
            choice=_exported_accuracy(models / choice.candidate / spec.slug, sealed.test),
            default=_default(task, space, settings.steps, sealed.test, device) if train else None,
            ceiling=_ceiling(task, sealed, settings, seed, device) if train else None,
            test_samples=len(sealed.test),
            unseen=sealed.unseen,
        )
    return found


def audit_json(study: str, audits: dict[str, TaskAudit]) -> dict[str, Any]:
    """Return audits as JSON values, accuracies in percent."""

    def row(audit: TaskAudit) -> dict[str, Any]:
        values = asdict(audit)
        values["choice"] = {"target_accuracy": audit.choice}
        return values

    rows = list(audits.values())
    gains = [audit.choice - audit.source_only for audit in rows]
    summary = {
        "source_only": fmean([audit.source_only for audit in rows]),
        "choice": fmean([audit.choice for audit in rows]),
        "mean_gain": fmean(gains),
        "worst_gain": min(gains),
    }
    for name in ("default", "ceiling"):
        known = [value for audit in rows if (value := getattr(audit, name)) is not None]
        if len(known) == len(rows):
            summary[name] = fmean(known)
    return {"study": study, "tasks": {task: row(audit) for task, audit in audits.items()}, "summary": summary}
