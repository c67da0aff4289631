"""What one Optuna study of ours covers: all tasks together (``joint``), or one (``per_task``)."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna

from iimt_search.records import Evaluation, Job, Purpose, job_key
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.search.forks import DRAWN, SEED
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.search.trial_record import TrialRecord, trial_name
from iimt_search.study.veto import CHECKS
from iimt_search.training.kept import KeptCheckpoint
from iimt_search.validators.registry import VALIDATORS, default_validators

SOURCE_ONLY_KEY = "source-only"
# How a job draws the source's classes: as its settings say, equally often, or in the target's shares as the
# study's reference estimates them.
Drawn = Literal["", "even", "reference"]


def _made_with(job: Job) -> dict[str, Any]:
    """Return what a job was made with beside what its key and steps say: of what may change on resume."""
    start = Path(job.start)
    return {
        "taught": bool(job.teacher),
        "drawn": hashlib.sha256(str(job.shares).encode()).hexdigest()[:16] if job.shares else "",
        "freeze": job.settings.freeze if job.start else "",
        "start": f"{start.parents[1].name}/{start.stem}" if job.start else "",
    }


def stored_evaluation(attributes: Mapping[str, Any], key: str) -> Evaluation | None:
    """Return a job's last evaluation as a study's attributes hold it, None where they do not."""
    stored = attributes.get(f"job {key}")
    return None if stored is None else Evaluation(stored["step"], stored["scores"], stored.get("cost", {}))


@dataclass(frozen=True)
class StudyTasks:
    """The tasks that one Optuna study searches for.

    Attributes:
        space: the space file.
        tasks: all of its tasks, or with ``scope: per_task`` one: a trial's objective is the mean over them.
    """

    space: Space
    tasks: tuple[TaskSpec, ...]

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(task.name for task in self.tasks)

    @property
    def prefix(self) -> str:
        """What job keys begin with, so that two Optuna studies of one folder never share one."""
        return "" if self.space.scope == "joint" else f"{self.tasks[0].slug}-"

    @property
    def objective(self) -> str:
        """The validator that decides."""
        return self.space.objective

    @property
    def higher_is_better(self) -> bool:
        """The objective's direction."""
        return VALIDATORS[self.objective].higher_is_better

    @property
    def sign(self) -> int:
        """+1 where a higher objective is better, else −1."""
        return 1 if self.higher_is_better else -1

    def key(self, purpose: Purpose, candidate: str, index: int = 0, task: str = "") -> str:
        """Return the key of one of its jobs, as :func:`~iimt_search.records.job_key`."""
        return job_key(purpose, candidate, index, prefix=self.prefix, task=task)

    def rank(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the complete ones of some trials, best objective first; of equal ones the earlier first."""
        complete = [trial for trial in trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-self.sign * (trial.value or 0.0), trial.number))

    def pareto_front(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return Optuna's Pareto front of objective and cost, without trials that a veto meets, best first.

        Empty where cost is no objective.
        """
        cost, front = self.space.cost.name, list[TrialRecord]()
        for trial in self.rank(trial for trial in trials if not trial.veto and cost in trial.cost):
            if not front or trial.cost[cost] < front[-1].cost[cost]:
                front.append(trial)
        return front


@dataclass(frozen=True)
class Scope(StudyTasks):
    """One Optuna study that a driver runs.

    Attributes:
        study: the Optuna study.
        folder: our study's folder.
        device: where jobs train.
    """

    study: optuna.Study
    folder: StudyFolder
    device: str

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators that jobs score: the objective first, and what vetoes look at.

        Without those that compare with other trials: the driver scores them.
        """
        named = self.space.validators if self.space.validators is not None else default_validators()
        few_shot = ["few_shot"] if all(task.few_shot is not None for task in self.tasks) else []
        names = dict.fromkeys([self.objective, *CHECKS, *named, *few_shot])
        return tuple(name for name in names if VALIDATORS[name].cost != "reference")

    def _job(self, purpose: Purpose, candidate: str, settings: TrainSettings, seed: int, **more: Any) -> Job:
        """Return a job of all tasks, or of those in ``more``, with its folders in the study's."""
        job = Job(
            candidate=candidate,
            tasks=more.pop("tasks", self.tasks),
            settings=settings,
            seed=seed,
            validators=self.validators,
            folder="",
            device=self.device,
            purpose=purpose,
            prefix=self.prefix,
            count_operations=self.space.cost.name == "operations",
            **more,
        )
        return replace(job, folder=str(self.folder.job(job.key)), kept=str(self.folder.kept / job.key))

    @property
    def drawn(self) -> Drawn:
        """How a training that begins now draws the source's classes."""
        if not self.space.reference.shares:
            return ""
        made = all(self.folder.reference(task.slug).exists() for task in self.tasks)
        return "reference" if made else "even"

    def _shares(self, tasks: Iterable[TaskSpec], drawn: Drawn) -> tuple[tuple[float, ...], ...]:
        """Return a job's ``shares``; of a reference that an earlier version has made, equal ones.

        Raises:
            ModelFileError: the reference is gone or damaged.
        """
        if not drawn:
            return ()
        if drawn == "even":
            return tuple(() for _ in tasks)
        rows = [self.folder.reference_part(task.slug, "shares") for task in tasks]
        return tuple(() if row is None else tuple(row.tolist()) for row in rows)

    def trial_job(
        self, number: int, params: Mapping[str, Any], attributes: Mapping[str, Any] | None = None
    ) -> Job:
        """Return a trial's job.

        Args:
            number: of the trial.
            params: its configuration.
            attributes: of the trial: how it draws the source's classes, and of a fork its donor's seed.
        """
        attributes = attributes or {}
        seed = attributes.get(SEED)
        if seed is None:
            seed = derive_seed(self.space.seed, "trial", number)
        shares = self._shares(self.tasks, attributes.get(DRAWN, ""))
        return self._job("trial", trial_name(number), settings_for(self.space, params), seed, shares=shares)

    def source_only_job(self) -> Job:
        """Return the baseline's job, recorded beside the trials."""
        seed = derive_seed(self.space.seed, SOURCE_ONLY_KEY)
        return self._job("baseline", SOURCE_ONLY_KEY, source_only_settings(self.space), seed)

    def confirm_job(self, candidate: str, settings: TrainSettings, index: int) -> Job:
        """Return a candidate's job with a fresh seed: the same one for every candidate, for pairing."""
        seed = derive_seed(self.space.seed, "confirm", index)
        shares = () if candidate == SOURCE_ONLY_KEY else self._shares(self.tasks, self.drawn)
        return self._job("confirmation", candidate, settings, seed, index=index, shares=shares)

    def source_only_jobs(self) -> list[Job]:
        """Return source-only's jobs, all trained at the beginning: the reference leans on them.

        The baseline's, then those with the fresh seeds of the confirmation.
        """
        settings = source_only_settings(self.space)
        seeds = range(self.space.confirm.seeds)
        fresh = [self.confirm_job(SOURCE_ONLY_KEY, settings, index) for index in seeds]
        return [self.source_only_job(), *fresh]

    def retrain_jobs(
        self, candidate: str, settings: TrainSettings, task: TaskSpec, *, taught: bool = False
    ) -> list[Job]:
        """Return the jobs that retrain a candidate on one task, each with a seed of its own.

        Args:
            candidate: its name.
            settings: its configuration.
            task: the task.
            taught: with the labels that all trained models together give the target.
        """
        teacher = str(self.folder.teacher(task.slug)) if taught else ""
        settings = settings.model_copy(update={"steps": self.space.retrain.steps or settings.steps})
        own = not taught and candidate != SOURCE_ONLY_KEY
        shares = self._shares((task,), self.drawn) if own else ()
        jobs = []
        for index in range(self.space.retrain.seeds):
            seed = derive_seed(self.space.seed, "retrain", *([index] if index else []))
            more: dict[str, Any] = {"index": index, "tasks": (task,), "teacher": teacher, "shares": shares}
            jobs.append(self._job("retraining", candidate, settings, seed, **more))
        return jobs

    def fine_tuning_job(self, retrained: Job, start: KeptCheckpoint) -> Job:
        """Return the job that trains a retrained model further, with its pretrained network.

        Args:
            retrained: the retraining.
            start: what has become of it.
        """
        retrain, settings = self.space.retrain, retrained.settings
        changed = {
            "freeze": retrain.freeze,
            # The bottleneck knows features that were made with these statistics.
            "backbone_norm": "frozen",
            "steps": retrain.fine_steps or max(1, settings.steps // 10),
            "evaluations": 1,
        }
        return self._job(
            "fine-tuning",
            retrained.candidate,
            settings.model_copy(update=changed),
            retrained.seed,
            tasks=retrained.tasks,
            teacher=retrained.teacher,
            start=str(start.path),
            shares=retrained.shares,
        )

    def baseline(self) -> dict[str, dict[str, float]] | None:
        """Return task → validator → score of source-only, None where it is not known."""
        keys = [self.key("baseline", SOURCE_ONLY_KEY)]  # where that training failed, one with a fresh seed
        keys += [self.key("confirmation", SOURCE_ONLY_KEY, at) for at in range(self.space.confirm.seeds)]
        stored = next((found for key in keys if (found := self.stored(key)) is not None), None)
        return None if stored is None else {task: dict(scores) for task, scores in stored.scores.items()}

    def stored(self, key: str) -> Evaluation | None:
        """Return what :meth:`store` kept of the job with this key."""
        return stored_evaluation(self.study.user_attrs, key)

    def have(self, job: Job) -> bool:
        """Return whether a job's training is there: its last evaluation, and its kept checkpoints."""
        return not self.outdated(job) and all(
            job.kept_file(task.name, job.settings.steps).exists() for task in job.tasks
        )

    def outdated(self, job: Job) -> bool:
        """Return whether nothing is stored of a job, or what is was made with other settings."""
        stored = self.study.user_attrs.get(f"job {job.key}")
        if stored is None or stored["step"] != job.settings.steps:
            return True
        return any(stored.get(name, value) != value for name, value in _made_with(job).items())

    def store(self, job: Job, evaluation: Evaluation) -> None:
        """Keep a job's last evaluation in the study."""
        scores = {task: dict(scores) for task, scores in evaluation.scores.items()}
        content = {
            "step": evaluation.step,
            "scores": scores,
            "cost": dict(evaluation.cost),
            **_made_with(job),
        }
        self.study.set_user_attr(f"job {job.key}", content)
