"""What a report shows of one Optuna study, read once, as plain records."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from iimt_search.auditing.record import AuditRecord, read_audit
from iimt_search.records import Choice
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.open import OpenStudy
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.forks import configuration, forked_at
from iimt_search.study.search.trials import DEFAULT_ORIGIN, SCORES
from iimt_search.study.selection.choice import read_choice
from iimt_search.validators.registry import VALIDATORS

Scores = Mapping[str, Mapping[str, float]]

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
# Every way in which a trial can stand, in the order of legends.
OUTCOMES = ("complete", "vetoed", "pruned", "failed", "running", "waiting")


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: Optuna's.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        params: searched parameter → value; for a fork ``lambda_schedule`` too.
        value: its objective, mean over the tasks; None unless complete.
        curve: training step → objective.
        scores: task → validator → last score.
        origin: ``default`` for the method's default configuration, else where it is from, or "".
        veto: why it is out whatever its scores, or "".
        error: what went wrong, or "".
        forked_at: the step after which it branched off another trial, 0 for one of its own.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    curve: Mapping[int, float] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    origin: str = ""
    veto: str = ""
    error: str = ""
    forked_at: int = 0

    @property
    def name(self) -> str:
        """As the choice names it."""
        return f"trial-{self.number}"

    @property
    def outcome(self) -> str:
        """One of :data:`OUTCOMES`: a complete trial that a veto meets is ``vetoed``."""
        return "vetoed" if self.veto and self.state == "complete" else self.state

    @property
    def reached(self) -> float | None:
        """Its objective, or where it did not come to its end the last one reported."""
        if self.value is not None or not self.curve:
            return self.value
        return self.curve[max(self.curve)]

    @property
    def reason(self) -> str:
        """Why it ended as it did, or ""."""
        parts = [self.error]
        if self.state == "pruned":
            parts.append(f"pruned after step {max(self.curve)}" if self.curve else "pruned")
        parts.append(f"vetoed: {self.veto}" if self.veto else "")
        return "; ".join(part for part in parts if part)

    def mean(self, validator: str) -> float | None:
        """Return a validator's last score, mean over the tasks; None where a task has none."""
        found = [scores.get(validator) for scores in self.scores.values()]
        known = [value for value in found if value is not None]
        return fmean(known) if known and len(known) == len(found) else None


@dataclass(frozen=True)
class StudyRecord:
    """One Optuna study.

    Attributes:
        name: its name in the storage: our study's, with ``scope: per_task`` followed by the task's.
        space: the space file.
        tasks: the tasks that it searches for.
        trials: in the order of their numbers.
        choice: what it has come to, None so far.
        baseline: source-only's scores from beside the search, None so far.
        fresh: candidate → its scores with each fresh seed.
        data: task → fingerprint of its data.
        audit: what an audit has measured, None where there was none.
        url: of the study in the dashboard, without host.
        direction: +1 where a higher objective is better, else −1.
    """

    name: str
    space: Space
    tasks: tuple[TaskSpec, ...]
    trials: tuple[TrialRecord, ...]
    choice: Choice | None = None
    baseline: Scores | None = None
    fresh: Mapping[str, tuple[Scores, ...]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    audit: AuditRecord | None = None
    url: str = ""

    @property
    def objective(self) -> str:
        """The validator that decides."""
        return self.space.objective

    @property
    def sign(self) -> int:
        """+1 where a higher objective is better, else −1."""
        return 1 if VALIDATORS[self.objective].higher_is_better else -1

    @property
    def prefix(self) -> str:
        """What the keys of its jobs begin with."""
        return "" if self.space.scope == "joint" else f"{self.tasks[0].slug}-"

    @property
    def params(self) -> tuple[str, ...]:
        """The searched parameters."""
        return tuple(self.space.search)

    @cached_property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """Complete trials that no veto meets, best first; of equal ones the earlier."""
        complete = [trial for trial in self.trials if trial.outcome == "complete"]
        return tuple(sorted(complete, key=lambda trial: (-self.sign * (trial.value or 0.0), trial.number)))

    @property
    def default(self) -> TrialRecord | None:
        """The trial of the method's default configuration."""
        return next((trial for trial in self.trials if trial.origin == DEFAULT_ORIGIN), None)

    @property
    def shown(self) -> str:
        """The candidate whose models are shown: the chosen one, so far the best trial, or source-only."""
        if self.choice is not None:
            return self.choice.candidate
        return self.ranked[0].name if self.ranked else SOURCE_ONLY_KEY

    @property
    def baseline_mean(self) -> float | None:
        """Source-only's objective, mean over the tasks."""
        if not self.baseline or any(self.objective not in scores for scores in self.baseline.values()):
            return None
        return fmean(scores[self.objective] for scores in self.baseline.values())


def _trial(trial: FrozenTrial) -> TrialRecord:
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        params=dict(configuration(trial)),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        curve=dict(sorted(trial.intermediate_values.items())),
        scores=attributes.get(SCORES, {}),
        origin=attributes.get("origin", ""),
        veto=attributes.get("veto", ""),
        error=attributes.get("error", ""),
        forked_at=forked_at(trial),
    )


def _fresh(attributes: Mapping[str, Any], prefix: str) -> dict[str, tuple[Scores, ...]]:
    pattern = re.compile(rf"job {re.escape(prefix)}confirm-(source-only|trial-\d+)-(\d+)")
    found = [(m, value) for key, value in attributes.items() if (m := pattern.fullmatch(key))]
    by_name: dict[str, list[Scores]] = {}
    for match, value in sorted(found, key=lambda each: (each[0][1], int(each[0][2]))):
        by_name.setdefault(match[1], []).append(value["scores"])
    return {name: tuple(scores) for name, scores in by_name.items()}


def read_study(study: optuna.Study, space: Space, audit: AuditRecord | None) -> StudyRecord:
    """Read one Optuna study of ours."""
    attributes = study.user_attrs
    tasks = space.tasks
    if space.scope == "per_task":
        tasks = tuple(task for task in tasks if study.study_name == f"{space.study}:{task.name}")
    record = StudyRecord(
        name=study.study_name,
        space=space,
        tasks=tasks,
        trials=tuple(_trial(trial) for trial in study.get_trials(deepcopy=False)),
        choice=read_choice(study),
        data=attributes.get("data", {}),
        audit=audit,
        url=f"/dashboard/studies/{study._study_id}",
    )
    stored = attributes.get(f"job {record.prefix}{SOURCE_ONLY_KEY}")
    return replace(
        record,
        baseline=None if stored is None else stored["scores"],
        fresh=_fresh(attributes, record.prefix),
    )


def read_records(opened: OpenStudy) -> list[StudyRecord]:
    """Read an opened study: one record, or one for each task.

    Raises:
        ModelFileError: its stored audit is damaged.
    """
    space = Space.model_validate(opened.space)
    audit = read_audit(opened.folder.path)
    return [read_study(study, space, audit) for study in opened.studies]
