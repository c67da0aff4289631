"""All models that a study has trained: how far they agree on the target, and what they say together."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from iimt_search.data.assemble import load_task_of
from iimt_search.files import kept_path
from iimt_search.pooling.agreement import mean_agreement
from iimt_search.pooling.labels import Pool, PooledModel
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.reference import views_of
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.search.trial_record import read_trials
from iimt_search.study.selection.decide import Agreement


def _agreement(models: list[PooledModel]) -> float:
    if len(models) < 2:
        return math.nan
    return mean_agreement([model.logits.argmax(dim=-1) for model in models], models[0].logits.shape[1])


def class_shares(pool: Pool, source: Tensor, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return class → its share of the source, its estimated share of the target, and its uncertainty.

    Args:
        pool: what models say of the target.
        source: int64 (N_s,), the source's labels.
        classes: names.
    """
    counts = torch.bincount(source, minlength=len(classes)).double()
    rows = torch.stack([counts / counts.sum(), *pool.shares()], dim=1).tolist()
    return {
        name: dict(zip(("source", "target", "uncertainty"), row, strict=True))
        for name, row in zip(classes, rows, strict=True)
    }


class ModelsTogether:
    """What models say of one target together, those with adaptation and those without.

    Args:
        adapted: views of the target's samples by those with adaptation, alike in their number.
        without: by those without; of as many samples.

    Attributes:
        pool: what all say together; None where there is none with adaptation.
        agreement: how far each agree.
    """

    def __init__(self, adapted: list[PooledModel], without: list[PooledModel]) -> None:
        self.pool = Pool(adapted, without) if adapted else None
        order = self.pool.weights.argsort(descending=True).tolist() if self.pool else []
        better = [adapted[at] for at in order[: math.ceil(len(order) / 2)]]
        self.agreement = Agreement(_agreement(better), _agreement(without))


class TaskModels(ModelsTogether):
    """The trained models of one task.

    Args:
        adapted: kept checkpoints of those with adaptation, at their trainings' ends.
        source_only: of those without.

    Attributes:
        adapted: those of ``adapted`` that are there and whole.
        without: those of ``source_only``, of as many samples.
    """

    def __init__(self, adapted: Iterable[Path], source_only: Iterable[Path]) -> None:
        kept, without = views_of(adapted, source_only)
        super().__init__(list(kept.values()), list(without.values()))
        self.adapted, self.without = list(kept), list(without)


class TrainedModels:
    """The trained models of a scope's tasks.

    Args:
        scope: the study.
        confirmed: names of the candidates that were run again with fresh seeds.
    """

    def __init__(self, scope: Scope, confirmed: Iterable[str]) -> None:
        self._scope = scope
        self._confirmed = [name for name in confirmed if name != SOURCE_ONLY_KEY]

    def _steps(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return key → last step of the jobs with adaptation, pruned ones too, and of those without."""
        scope, seeds = self._scope, range(self._scope.space.confirm.seeds)
        trials = {trial.name: trial for trial in read_trials(scope.study)}
        settings = {name: settings_for(scope.space, trial.params) for name, trial in trials.items()}
        adapted = {
            scope.key("trial", name): max(trial.curve, default=settings[name].steps)
            for name, trial in trials.items()
            if trial.outcome in ("complete", "pruned") and not trial.veto
        }
        for name in self._confirmed:
            adapted |= {scope.key("confirmation", name, index): settings[name].steps for index in seeds}
        keys = [scope.key("confirmation", SOURCE_ONLY_KEY, index) for index in seeds]
        steps = source_only_settings(scope.space).steps
        return adapted, dict.fromkeys([scope.key("baseline", SOURCE_ONLY_KEY), *keys], steps)

    @cached_property
    def tasks(self) -> dict[TaskSpec, TaskModels]:
        """The models of each task.

        Raises:
            ModelFileError: what was kept is damaged.
        """
        folder, jobs = self._scope.folder.kept, self._steps()

        def paths(task: TaskSpec, of: dict[str, int]) -> list[Path]:
            return [kept_path(folder / key, task.slug, step) for key, step in of.items()]

        return {task: TaskModels(*(paths(task, of) for of in jobs)) for task in self._scope.tasks}

    @property
    def agreement(self) -> Agreement:
        """Mean over the tasks."""
        found = [models.agreement for models in self.tasks.values()]
        return Agreement(fmean(a.adapted for a in found), fmean(a.source_only for a in found))

    def by_task(self) -> dict[str, dict[str, float | None]]:
        """Return task → ``adapted`` and ``source_only`` → κ, None where it is unknown."""
        return {task.name: models.agreement.known() for task, models in self.tasks.items()}

    def shares(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return task → class → share of the source, estimated share of the target, and its uncertainty."""
        train, found = self._scope.space.train, {}
        for spec, models in self.tasks.items():
            if models.pool is None:
                continue
            task = load_task_of(spec, train)
            y = np.concatenate([task.source_train.y, task.source_val.y])
            found[spec.name] = class_shares(models.pool, torch.from_numpy(y), task.classes)
        return found
