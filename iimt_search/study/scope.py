"""What one Optuna study of ours covers: all tasks together (joint), or one of them (per task)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from iimt_search.records import Evaluation, Job
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.veto import CHECKS
from iimt_search.validators.registry import VALIDATORS, default_validators

SOURCE_ONLY_KEY = "source-only"


@dataclass(frozen=True)
class Scope:
    """One Optuna study with the space and tasks that it searches.

    Attributes:
        space: the space file.
        tasks: the tasks whose mean objective a trial reports.
        study: the Optuna study.
        folder: our study's folder.
        device: where jobs train.
    """

    space: Space
    tasks: tuple[TaskSpec, ...]
    study: optuna.Study
    folder: StudyFolder
    device: str

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(task.name for task in self.tasks)

    @property
    def prefix(self) -> str:
        """What job keys begin with, so that two scopes of one folder never share one."""
        return "" if self.space.scope == "joint" else f"{self.tasks[0].slug}-"

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of all validators to score: the objective first, and what vetoes look at."""
        named = self.space.validators if self.space.validators is not None else default_validators()
        few_shot = ["few_shot"] if all(task.few_shot is not None for task in self.tasks) else []
        return tuple(dict.fromkeys([self.space.objective, *CHECKS, *named, *few_shot]))

    @property
    def higher_is_better(self) -> bool:
        """The objective's direction."""
        return VALIDATORS[self.space.objective].higher_is_better

    def _job(self, key: str, settings: TrainSettings, seed: int, **more: Any) -> Job:
        return Job(
            key=self.prefix + key,
            tasks=more.pop("tasks", self.tasks),
            settings=settings,
            seed=seed,
            validators=self.validators,
            folder=str(self.folder.job(self.prefix + key)),
            device=self.device,
            kept=str(self.folder.kept / (self.prefix + key)),
            **more,
        )

    def trial_job(self, number: int, params: Mapping[str, Any], seed: int | None = None) -> Job:
        """Return a trial's job; a fork has its donor's seed."""
        if seed is None:
            seed = derive_seed(self.space.seed, "trial", number)
        return self._job(f"trial-{number}", settings_for(self.space, params), seed)

    def source_only_job(self) -> Job:
        """Return the baseline's job, recorded beside the trials."""
        seed = derive_seed(self.space.seed, SOURCE_ONLY_KEY)
        return self._job(SOURCE_ONLY_KEY, source_only_settings(self.space), seed)

    def confirm_job(self, candidate: str, settings: TrainSettings, index: int) -> Job:
        """Return a candidate's job with a fresh seed: the same one for every candidate, for pairing."""
        seed = derive_seed(self.space.seed, "confirm", index)
        return self._job(f"confirm-{candidate}-{index}", settings, seed)

    def retrain_jobs(self, candidate: str, settings: TrainSettings, task: TaskSpec) -> list[Job]:
        """Return the jobs that retrain a candidate on one task; the first exports its model."""
        steps = self.space.retrain.steps or settings.steps
        return [
            self._job(
                f"retrain-{candidate}-{task.slug}" + (f"-{index}" if index else ""),
                settings.model_copy(update={"steps": steps}),
                derive_seed(self.space.seed, "retrain", *([index] if index else [])),
                tasks=(task,),
                models="" if index else str(self.folder.models / candidate),
            )
            for index in range(self.space.retrain.seeds)
        ]

    def baseline(self) -> dict[str, dict[str, float]] | None:
        """Return task → validator → score of source-only, None where it is not known."""
        found = self.stored(self.source_only_job().key)
        return None if found is None else {task: dict(scores) for task, scores in found.scores.items()}

    def stored(self, key: str) -> Evaluation | None:
        """Return what :meth:`store` kept under ``key``."""
        found = self.study.user_attrs.get(f"job {key}")
        return None if found is None else Evaluation(found["step"], found["scores"])

    def store(self, job: Job, evaluation: Evaluation) -> None:
        """Keep a job's last evaluation in the study."""
        scores = {task: dict(scores) for task, scores in evaluation.scores.items()}
        self.study.set_user_attr(f"job {job.key}", {"step": evaluation.step, "scores": scores})
