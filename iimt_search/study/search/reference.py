"""The reference of a study: what its first trials and source-only say of the target's samples together.

Made once, when these have ended, and fixed for good: a trial's score depends on nothing that comes after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.files import atomic_write
from iimt_search.pooling.labels import Pool, PooledModel
from iimt_search.records import Evaluation, Job
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import Scope
from iimt_search.task_name import slug
from iimt_search.training.kept import load_kept_predictions
from iimt_search.validators.contract import score_all

CONSENSUS = "consensus"


def pooled_model(path: Path) -> PooledModel | None:
    """Return a kept checkpoint's view of the target; None where a value of it is not finite.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    kept = load_kept_predictions(path)
    view = PooledModel(kept.target_logits, kept.target_embeddings)
    return view if all(bool(value.isfinite().all()) for value in view) else None


Views = dict[Path, PooledModel]


def views_of(adapted: Iterable[Path], without: Iterable[Path]) -> tuple[Views, Views]:
    """Return the views of one task's target by kept checkpoints that are there and can take part.

    Where the share of the data was searched, models have seen different samples: those of as many as most
    adapted ones have are returned.

    Raises:
        ModelFileError: a file is damaged.
    """
    kept, alone = (
        {path: view for path in paths if path.exists() and (view := pooled_model(path))}
        for paths in (adapted, without)
    )
    counts = [len(view.logits) for view in (kept or alone).values()]
    most = max(counts, key=counts.count, default=0)
    of_most = [
        {path: view for path, view in views.items() if len(view.logits) == most} for views in (kept, alone)
    ]
    return of_most[0], of_most[1]


def pool_of(adapted: Iterable[Path], without: Iterable[Path] = ()) -> Pool | None:
    """Return the pool of kept checkpoints of one task; None where none with adaptation can take part."""
    views, alone = views_of(adapted, without)
    return Pool(list(views.values()), list(alone.values())) if views else None


def load_reference(folder: StudyFolder, task_slug: str) -> Tensor | None:
    """Return a task's reference, float32 (N_t, C), rows sum to 1; None where the study has none.

    Raises:
        ModelFileError: it is damaged.
    """
    path = folder.reference(task_slug)
    if not path.exists():
        return None
    if (labels := folder.reference_part(task_slug, "labels")) is None:
        raise ModelFileError(f"{path} is not a whole reference: it has no labels")
    return labels


class Reference:
    """The reference of one scope's tasks.

    Args:
        scope: the study.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._labels: dict[str, Tensor] = {}
        self.objective = scope.objective == CONSENSUS
        self.wanted = self.objective or CONSENSUS in (scope.space.validators or ())

    @property
    def made(self) -> bool:
        """Whether it is there."""
        return all(self._scope.folder.reference(task.slug).exists() for task in self._scope.tasks)

    def make(self, jobs: Sequence[Job]) -> bool:
        """Make it of the last checkpoints of ended jobs and source-only's; returns whether it could be made.

        Raises:
            ModelFileError: what a job has kept is missing or damaged.
        """
        alone = [job for job in self._scope.source_only_jobs() if job.key not in {job.key for job in jobs}]

        def files(of: Iterable[Job], task: str) -> list[Path]:
            return [job.kept_file(task, job.settings.steps) for job in of]

        found = [pool_of(files(jobs, task.name), files(alone, task.name)) for task in self._scope.tasks]
        pools = [pool for pool in found if pool is not None]
        if len(pools) < len(found):
            return False
        for task, pool in zip(self._scope.tasks, pools, strict=True):
            path = self._scope.folder.reference(task.slug)
            path.parent.mkdir(parents=True, exist_ok=True)
            made = {"labels": pool.labels().float(), "shares": pool.source_shares()}
            with atomic_write(path) as beside:
                save_file(made, beside, metadata={"jobs": " ".join(job.key for job in jobs)})
        return True

    def _of(self, task: str) -> Tensor:
        if task not in self._labels:
            labels = load_reference(self._scope.folder, slug(task))
            if labels is None:
                raise ModelFileError(f"{self._scope.folder.reference(slug(task))} is gone")
            self._labels[task] = labels
        return self._labels[task]

    def kept(self, job: Job, step: int) -> bool:
        """Return whether a job's checkpoints after a step are there: an interrupted run may have lost one."""
        return all(job.kept_file(task.name, step).exists() for task in self._scope.tasks)

    def complete(self, job: Job, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation with the consensus of what was kept of it, where the reference is there.

        Raises:
            ModelFileError: what the job has kept is missing or damaged.
        """
        if not self.wanted or CONSENSUS in evaluation.validators or not self.made:
            return evaluation
        scores = {}
        for task, known in evaluation.scores.items():
            kept = load_kept_predictions(job.kept_file(task, evaluation.step))
            found = score_all([CONSENSUS], replace(kept, reference=self._of(task)))
            scores[task] = {**found, **known}
        return replace(evaluation, scores=scores)
