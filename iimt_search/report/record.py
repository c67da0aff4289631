"""What a report shows of one Optuna study, read once, as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import optuna

from iimt_search.auditing.record import AuditRecord, read_audit
from iimt_search.records import Choice, Scores
from iimt_search.space import Space
from iimt_search.study.open import OpenStudy
from iimt_search.study.scope import SOURCE_ONLY_KEY, StudyTasks, stored_evaluation
from iimt_search.study.search.trial_record import TrialRecord, default_trial, read_trials
from iimt_search.study.selection.choice import read_choice


@dataclass(frozen=True)
class StudyRecord(StudyTasks):
    """One Optuna study.

    Attributes:
        name: its name in the storage: our study's, with ``scope: per_task`` followed by the task's.
        trials: in the order of their numbers.
        choice: what it has come to, None so far.
        baseline: source-only's scores from beside the search, None so far.
        fresh: candidate → its scores with each fresh seed.
        data: task → fingerprint of its data.
        audit: what an audit has measured, None where there was none.
        url: of the study in the dashboard, without host.
    """

    name: str
    trials: tuple[TrialRecord, ...]
    choice: Choice | None = None
    baseline: Scores | None = None
    fresh: Mapping[str, tuple[Scores, ...]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    audit: AuditRecord | None = None
    url: str = ""

    @property
    def params(self) -> tuple[str, ...]:
        """The searched parameters."""
        return tuple(self.space.search)

    @cached_property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """Complete trials that no veto meets, best first; of equal ones the earlier."""
        return tuple(trial for trial in self.rank(self.trials) if not trial.veto)

    @property
    def default(self) -> TrialRecord | None:
        """The trial of the method's default configuration."""
        return default_trial(self.trials)

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


def _fresh(record: StudyRecord, attributes: Mapping[str, Any]) -> dict[str, tuple[Scores, ...]]:
    """Return what confirmations have stored: also of candidates and of more seeds than there are now."""
    most = max(record.space.confirm.seeds, sum(key.startswith("job ") for key in attributes))
    by_name: dict[str, tuple[Scores, ...]] = {}
    for name in (SOURCE_ONLY_KEY, *(trial.name for trial in record.trials)):
        keys = (record.key("confirmation", name, index) for index in range(most))
        stored = (stored_evaluation(attributes, key) for key in keys)
        if scores := tuple(evaluation.scores for evaluation in stored if evaluation is not None):
            by_name[name] = scores
    return by_name


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
        trials=read_trials(study),
        choice=read_choice(study),
        data=attributes.get("data", {}),
        audit=audit,
        url=f"/dashboard/studies/{study._study_id}",
    )
    stored = stored_evaluation(attributes, record.key("baseline", SOURCE_ONLY_KEY))
    return replace(
        record, baseline=None if stored is None else stored.scores, fresh=_fresh(record, attributes)
    )


def read_records(opened: OpenStudy) -> list[StudyRecord]:
    """Read an opened study: one record, or one for each task.

    Raises:
        ModelFileError: its stored audit is damaged.
    """
    space = Space.model_validate(opened.space)
    audit = read_audit(opened.folder.path)
    return [read_study(study, space, audit) for study in opened.studies]
