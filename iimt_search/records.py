"""The records that travel: between driver, executor, worker and trainable, and what a study answers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import TypeAdapter

from iimt_search.files import kept_path
from iimt_search.settings import TrainSettings, with_new_names
from iimt_search.space.task_spec import TaskSpec
from iimt_search.task_name import slug

Status = Literal["complete", "stopped", "failed", "lost"]
Purpose = Literal["trial", "baseline", "confirmation", "retraining", "fine-tuning"]
# Task → validator → score.
Scores = Mapping[str, Mapping[str, float]]

# What is recorded of a training's cost, of all its tasks: processor seconds of its steps, or on a GPU seconds
# of the clock; floating-point operations of its steps where they are counted; a GPU's peak memory.
COSTS = {"seconds": "s", "operations": "FLOP", "gpu_bytes": "B"}


def shown_cost(name: str, value: float) -> str:
    """Return a cost for people.

    >>> shown_cost("seconds", 12.34), shown_cost("operations", 3.21e12)
    ('12.3 s', '3.21 TFLOP')
    """
    if name == "seconds":
        return f"{value:.1f} s"
    exponent = max(0, min(5, (len(f"{value:.0f}") - 1) // 3))
    return f"{value / 1000**exponent:.3g} {'kMGTP'[exponent - 1] if exponent else ''}{COSTS[name]}"


@dataclass(frozen=True)
class Evaluation:
    """All validator scores of a job at one training step.

    Attributes:
        step: training steps done, from 1 to ``settings.steps``.
        scores: task name → validator name → score.
        cost: what the training has cost so far, as :data:`COSTS` names it, as far as it is known.
    """

    step: int
    scores: Scores
    cost: Mapping[str, float] = field(default_factory=dict, compare=False)

    def mean(self, validator: str) -> float:
        """Return the validator's score averaged over the tasks."""
        return fmean(scores[validator] for scores in self.scores.values())

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators that every task was scored with."""
        first, *others = self.scores.values()
        return tuple(name for name in first if all(name in scores for scores in others))


# No file system takes a longer name than 255 bytes; keys are ASCII.
_LONGEST_KEY = 240


def job_key(purpose: Purpose, candidate: str, index: int = 0, *, prefix: str = "", task: str = "") -> str:
    """Return the unique name of a job within its study's folder.

    Folders and stored scores are named by it, so it stays as it is; nothing reads it back. For the values
    see :class:`Job`; ``task`` is the slug of a retraining's task, else "".

    >>> job_key("trial", "trial-3")
    'trial-3'
    >>> job_key("confirmation", "source-only", 1)
    'confirm-source-only-1'
    >>> job_key("retraining", "trial-3", 1, prefix="a_to_b-", task="a_to_b")
    'a_to_b-retrain-trial-3-a_to_b-1'
    """
    match purpose:
        case "confirmation":
            key = f"{prefix}confirm-{candidate}-{index}"
        case "retraining":
            key = f"{prefix}retrain-{candidate}-{task}" + (f"-{index}" if index else "")
        case "fine-tuning":
            key = f"{prefix}fine-tune-{candidate}-{task}"
        case _:
            key = prefix + candidate
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return f"{key[: _LONGEST_KEY - len(digest) - 1]}-{digest}"


@dataclass(frozen=True)
class Job:
    """One configuration to train on some tasks: what an executor runs.

    Attributes:
        candidate: whose configuration: ``trial-3``, ``source-only``.
        tasks: trained side by side up to each evaluation.
        settings: the configuration.
        seed: of every random stream of the training.
        validators: names to score at each evaluation (those that cost a training: at the last one).
        folder: where the checkpoint is written.
        device: ``cpu``, ``cuda``, ``cuda:1``, …
        kept: where every evaluated checkpoint's predictions and weights are kept; "" to keep none.
        known_step: of the last evaluation that the study holds already; who goes on from a checkpoint
            reports its evaluations again.
        purpose: what the training is for.
        index: number of the fresh seed, or of the retraining; 0 for the others.
        prefix: of the keys of its Optuna study: "" with ``scope: joint``, else ``a_to_b-``.
        teacher: file with the virtual labels of its one task's target samples; "" where the model makes them.
        start: a kept checkpoint whose weights its one task's training begins with; "" for none.
        count_operations: whether the floating-point operations of its training are counted.
        shares: task by task how often the source's classes are drawn, () equally often, whatever
            ``class_balance`` says; none at all to let that decide, or the teacher's file.
    """

    candidate: str
    tasks: tuple[TaskSpec, ...]
    settings: TrainSettings
    seed: int
    validators: tuple[str, ...]
    folder: str
    device: str = "cpu"
    kept: str = ""
    known_step: int = 0
    purpose: Purpose = "trial"
    index: int = 0
    prefix: str = ""
    teacher: str = ""
    start: str = ""
    count_operations: bool = False
    shares: tuple[tuple[float, ...], ...] = ()

    @property
    def key(self) -> str:
        """Its name: see :func:`job_key`."""
        task = self.tasks[0].slug if self.purpose in ("retraining", "fine-tuning") else ""
        return job_key(self.purpose, self.candidate, self.index, prefix=self.prefix, task=task)

    def kept_file(self, task: str, step: int) -> Path:
        """Return where a task's checkpoint after ``step`` steps is kept."""
        return kept_path(Path(self.kept), slug(task), step)


@dataclass(frozen=True)
class Report:
    """A job has been evaluated, and waits for the answer: go on, or stop.

    Attributes:
        key: the job's.
        evaluation: what was evaluated.
        note: what a user should be told of the job, or "".
        again: whether it was evaluated before this start, and its checkpoint holds it.
    """

    key: str
    evaluation: Evaluation
    note: str = ""
    again: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Fork:
    """A new training that goes on from the last checkpoint of another one.

    Attributes:
        donor: key of the other one's job.
        lambda_max: the new training's from there on.
    """

    donor: str
    lambda_max: float


@dataclass(frozen=True)
class Finished:
    """A job has ended.

    Attributes:
        key: the job's.
        status: ``complete``; ``stopped`` by the answer to a report; ``failed`` by an error of its own;
            ``lost`` because the machine failed it: its process died, or it ran out of memory, disk or device.
        error: what went wrong, or "".
        fork: what takes the place of a stopped job, or None.
    """

    key: str
    status: Status
    error: str = ""
    fork: Fork | None = None


Event = Report | Finished


CHOICE_SCHEMA = 2
Answer = Literal["trial", "source-only", "none"]


@dataclass(frozen=True)
class Candidate:
    """A configuration that was run again with fresh seeds.

    Attributes:
        name: ``trial-N`` or ``source-only``.
        scores: its objective for each fresh seed, averaged over the tasks.
        agreement: how far its models of different fresh seeds predict the same of the target, as Cohen's
            κ averaged over the tasks; None with one seed.
        veto: why it is out, or "".
        cost: of one training, as :data:`COSTS` names it: the mean over the fresh seeds.
    """

    name: str
    scores: tuple[float, ...]
    agreement: float | None = None
    veto: str = ""
    cost: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def mean(self) -> float:
        """Mean over the fresh seeds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Choice:
    """What a study answers.

    Attributes:
        study: our study's name.
        tasks: the tasks that the answer is for.
        answer: ``trial``; ``source-only`` where no configuration beat the model without adaptation; or
            ``none``, no confident choice: source-only's models are handed out then, as the safest.
        trial: the number of the trial whose models are handed out; None for source-only.
        params: the searched parameters and their chosen values, with a fork's ``lambda_schedule``; empty for
            source-only.
        objective: the validator that decided.
        score: the objective's mean over tasks and fresh seeds.
        scores: task → validator → mean over the fresh seeds.
        candidates: everything that was confirmed, best first.
        reason: why this one, for people.
        caveats: what to know before trusting it: parameters at a bound, an objective that the method trains,
            a change after an audit.
        vetoed: trial → why it was left out before the ranking.
        models: folder that holds one exported model for each task.
        members: task → keys of the jobs whose models are handed out, the best-scored first.
        retrained: task → validator → score of the first of them.
        agreement: task → how far the trained models agree on the target, as Cohen's κ: ``adapted`` of the
            better half of those with adaptation, ``source_only`` of those without.
        shares: task → class → its share of the source, its estimated share of the target, and how far the
            models differ in it.
        taught: whether the models were taught the labels that all trained models together give the target.
        fine_tuned: task → the objective of the models ``before`` and ``after`` their pretrained network was
            trained, too; the better one is handed out.
        few_shot: task → accuracy of the exported model on the labelled target samples that the user gave,
            in [0, 1], their number, and the 95 % interval ``low`` to ``high``; empty where none were given.
    """

    study: str
    tasks: tuple[str, ...]
    answer: Answer
    trial: int | None
    params: dict[str, Any]
    objective: str
    score: float
    scores: dict[str, dict[str, float]]
    candidates: tuple[Candidate, ...]
    reason: str
    caveats: tuple[str, ...] = ()
    vetoed: dict[str, str] = field(default_factory=dict)
    models: str = ""
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    retrained: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: dict[str, dict[str, int | float]] = field(default_factory=dict)
    agreement: dict[str, dict[str, float | None]] = field(default_factory=dict)
    shares: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    taught: bool = False
    fine_tuned: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def candidate(self) -> str:
        """The name of the candidate whose models are handed out."""
        return "source-only" if self.trial is None else f"trial-{self.trial}"

    @property
    def title(self) -> str:
        """The answer in a few words, for people."""
        if self.answer == "none":
            return f"no confident choice, {self.candidate} is handed out"
        return self.candidate

    @property
    def digest(self) -> str:
        """A hash of what was chosen and trained; reasons and caveats have no part in it."""
        candidates = [[candidate.name, candidate.scores] for candidate in self.candidates]
        content = [self.answer, self.trial, self.params, self.members, self.retrained, candidates]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"schema": CHOICE_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Choice":
        """Return what :meth:`to_json` made; earlier versions named ``caveats`` and parameters otherwise."""
        old = {"caveats": content.get("flags") or content.get("caveats", ())}
        return TypeAdapter(cls).validate_python(
            {**content, **old, "params": with_new_names(content["params"])}
        )
