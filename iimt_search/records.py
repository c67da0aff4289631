"""The records that travel between driver, executor, worker and trainable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from iimt_search.files import kept_path
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.task_name import slug

Status = Literal["complete", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class Evaluation:
    """All validator scores of a job at one training step.

    Attributes:
        step: training steps done, from 1 to ``settings.steps``.
        scores: task name → validator name → score.
    """

    step: int
    scores: Mapping[str, Mapping[str, float]]

    def mean(self, validator: str) -> float:
        """Return the validator's score averaged over the tasks."""
        return fmean(scores[validator] for scores in self.scores.values())

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators that every task was scored with."""
        per_task = iter(self.scores.values())
        shared = list(next(per_task))
        for scores in per_task:
            shared = [name for name in shared if name in scores]
        return tuple(shared)


@dataclass(frozen=True)
class Job:
    """One configuration to train on some tasks: what an executor runs.

    Attributes:
        key: unique name within the study, such as ``trial-3``; the seed and folder follow from it.
        tasks: trained side by side up to each evaluation.
        settings: the configuration.
        seed: of every random stream of the training.
        validators: names to score at each evaluation (those that cost a training: at the last one).
        folder: where the checkpoint is written.
        device: ``cpu``, ``cuda``, ``cuda:1``, …
        models: where every task's final model is exported to, a folder for each; "" to keep none.
        kept: where every evaluated checkpoint's predictions and weights are kept; "" to keep none.
        known_step: of the last evaluation that the study holds already; who goes on from a checkpoint
            reports its evaluations again.
    """

    key: str
    tasks: tuple[TaskSpec, ...]
    settings: TrainSettings
    seed: int
    validators: tuple[str, ...]
    folder: str
    device: str = "cpu"
    models: str = ""
    kept: str = ""
    known_step: int = 0

    def kept_file(self, task: str, step: int) -> Path:
        """Return where a task's checkpoint after ``step`` steps is kept."""
        return kept_path(Path(self.kept), slug(task), step)


@dataclass(frozen=True)
class Report:
    """A job has been evaluated and waits to hear "go on" or "stop"."""

    key: str
    evaluation: Evaluation


@dataclass(frozen=True)
class Fork:
    """A training that shall branch off another one's.

    Attributes:
        donor: key of the job whose last checkpoint it goes on from.
        lambda_max: from there on.
    """

    donor: str
    lambda_max: float


@dataclass(frozen=True)
class Finished:
    """A job has ended.

    Attributes:
        key: the job's.
        status: ``complete``; ``stopped`` because it was told to; ``failed`` by an error of its own;
            ``lost`` because the process that ran it died.
        error: what went wrong, or "".
        fork: what shall take the place of a stopped job, or None.
    """

    key: str
    status: Status
    error: str = ""
    fork: Fork | None = None


Event = Report | Finished
