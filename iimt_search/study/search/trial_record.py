"""A trial as a plain record: what selection ranks and the report shows."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from iimt_search.records import COSTS, Scores
from iimt_search.space.growth import earlier_values
from iimt_search.study.search.forks import configuration, forked_at

# The trial attribute that holds task → validator → score.
SCORES = "scores"
# The origin of the trial that has the method's default configuration.
DEFAULT_ORIGIN = "default"

_STATES = {**{state: state.name.lower() for state in TrialState}, TrialState.FAIL: "failed"}
# Every way in which a trial can stand, in the order of legends.
OUTCOMES = ("complete", "vetoed", "pruned", "failed", "running", "waiting")


def trial_name(number: int) -> str:
    """Return the name of a trial as a candidate."""
    return f"trial-{number}"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: Optuna's.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        params: searched parameter → value, also where it is searched only since then; for a fork
            ``lambda_schedule`` too.
        value: its objective, mean over the tasks; None unless complete.
        curve: training step → objective.
        scores: task → validator → last score.
        origin: ``default`` for the method's default configuration, else where it is from, or "".
        veto: why it was out at its end whatever its scores, or "".
        error: what went wrong, or "".
        forked_at: the step after which it branched off another trial, 0 for one of its own.
        cost: of its training, as :data:`~iimt_search.records.COSTS` names it, as far as it is known.
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
    cost: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """As the choice names it."""
        return trial_name(self.number)

    @property
    def ended(self) -> bool:
        """Whether it is complete, pruned or failed."""
        return self.state in ("complete", "pruned", "failed")

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
        values = [scores.get(validator) for scores in self.scores.values()]
        known = [value for value in values if value is not None]
        return fmean(known) if known and len(known) == len(values) else None


def not_a_number(objective: str, value: float, step: int) -> str:
    """Return the error of a trial whose objective is not finite."""
    return f"objective {objective} was {value} at step {step}"


def objective_of(trial: FrozenTrial) -> float | None:
    """Return a trial's objective, the first of its values; None unless complete."""
    return trial.values[0] if trial.state is TrialState.COMPLETE else None


def _earlier_values(study: optuna.Study) -> dict[str, Any]:
    return earlier_values(study.user_attrs.get("space", {}))


def read_trial(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    """Return the record of one of a study's trials."""
    return _record(trial, _earlier_values(study))


def _record(trial: FrozenTrial, earlier: Mapping[str, Any]) -> TrialRecord:
    attributes, params = trial.user_attrs, configuration(trial)
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        params={**params, **{n: v for n, v in earlier.items() if params and n not in params}},
        value=objective_of(trial),
        curve=dict(sorted(trial.intermediate_values.items())),
        scores=attributes.get(SCORES, {}),
        origin=attributes.get("origin", ""),
        veto=attributes.get("veto", ""),
        error=attributes.get("error", ""),
        forked_at=forked_at(trial),
        cost={name: attributes[name] for name in COSTS if name in attributes},
    )


def read_trials(study: optuna.Study, states: Container[TrialState] | None = None) -> tuple[TrialRecord, ...]:
    """Return a study's trials in the order of their numbers, those in some states or all."""
    earlier = _earlier_values(study)
    return tuple(_record(trial, earlier) for trial in study.get_trials(deepcopy=False, states=states))


def default_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the trial of the method's default configuration."""
    return next((trial for trial in trials if trial.origin == DEFAULT_ORIGIN), None)
