"""What the retraining is taught: labels of the target that all trained models together give."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from iimt_search.data.task import DomainTask
from iimt_search.features.extract import load_training_task
from iimt_search.files import atomic_write
from iimt_search.models.device import resolve_device
from iimt_search.pooling.labels import PooledModel
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.scope import Scope
from iimt_search.study.search.reference import pooled_model
from iimt_search.study.selection.trained import TaskModels
from iimt_search.training.batches import Samples
from iimt_search.training.kept import load_kept_model
from iimt_search.training.predict import predict


@dataclass(frozen=True)
class Teacher:
    """Makes the labels of a scope's tasks.

    Attributes:
        scope: the study.
    """

    scope: Scope

    def _view(self, spec: TaskSpec, path: Path, count: int) -> PooledModel:
        """Return a kept model's view of all target samples; of the scored ones where those are all."""
        view = pooled_model(path)
        if view is not None and len(view.logits) == count:
            return view
        kept = load_kept_model(path, self.scope.space.train.weights)
        task = load_training_task(spec, kept.settings)
        device = torch.device(resolve_device(self.scope.device))
        return PooledModel(*predict(kept.model.to(device), Samples(task.target, device)))

    def labels(self, task: DomainTask, spec: TaskSpec, models: TaskModels) -> Tensor:
        """Return labels float64 (N_t, C) of all target samples. One adapted model is in memory at a time."""
        pool, count = models.pool, len(task.target)
        if pool is None:
            raise ValueError(f"{spec.name}: no trained model to learn from")

        def views(paths: Iterable[Path]) -> Iterator[PooledModel]:
            return (self._view(spec, path, count) for path in paths)

        return pool.labels_of(views(models.adapted), views(models.without))

    def write(self, spec: TaskSpec, models: TaskModels) -> Path:
        """Write a task's labels, where they are not there yet for the same models; returns the file."""
        path, train = self.scope.folder.teacher(spec.slug), self.scope.space.train
        task = load_training_task(spec, train)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            labels = self.labels(task, spec, models).float()
            shared = models.pool if self.scope.space.reference.shares else None
            drawn = {} if shared is None else {"shares": shared.source_shares()}
            save_file(
                {"labels": labels, **drawn},
                beside,
                metadata={"models": str(len(models.adapted) + len(models.without))},
            )
        return path
