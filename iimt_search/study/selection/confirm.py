"""Runs the best few configurations again with fresh seeds, and decides."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from iimt_search.errors import ModelFileError, NoChoiceError
from iimt_search.pooling.agreement import mean_agreement
from iimt_search.records import COSTS, Candidate, Choice, Evaluation, Job
from iimt_search.settings import TrainSettings
from iimt_search.study.executors.runner import FixedJobs, Steps
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.search.trial_record import TrialRecord, default_trial, read_trials
from iimt_search.study.selection.caveats import caveats, shifted_shares, untrained
from iimt_search.study.selection.decide import decide
from iimt_search.study.selection.trained import TrainedModels
from iimt_search.study.veto import veto
from iimt_search.training.kept import load_kept_predictions


def kept_agreement(files: Sequence[Path]) -> float:
    """Return the mean agreement of kept checkpoints of one task; NaN where one cannot be read."""
    try:
        logits = [load_kept_predictions(path).target_logits for path in files]
    except ModelFileError:
        return math.nan
    if not all(bool(each.isfinite().all()) for each in logits):
        return math.nan
    return mean_agreement([each.argmax(dim=-1) for each in logits], logits[0].shape[1])


def good_enough(scope: Scope, front: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the best of a Pareto front, then those within the tolerance of it, the cheapest first."""
    best, tolerance = front[0].value or 0.0 if front else 0.0, scope.space.cost.tolerance
    near = [trial for trial in front if scope.sign * (best - (trial.value or 0.0)) <= tolerance]
    return [*front[:1], *reversed(near)]


def select_candidates(scope: Scope) -> tuple[dict[str, TrialRecord], dict[str, str]]:
    """Select the best trials with different parameters that no veto meets, and the default configuration.

    Where cost is an objective: the best one, then the cheapest that are good enough, then others.
    The default configuration is a candidate however it did: a search whose scores mislead must not lose
    to it.

    Returns:
        Name → trial of the candidates, and name → why of complete trials that were left out by a veto.
    """
    baseline, trials = scope.baseline(), read_trials(scope.study)
    chosen: list[TrialRecord] = []
    vetoed: dict[str, str] = {}
    front = scope.pareto_front(trials)
    ordered = (*good_enough(scope, front), *front, *scope.rank(trials))
    for trial in {trial.number: trial for trial in ordered}.values():
        if reason := veto(trial.scores, baseline):
            vetoed[trial.name] = reason
        elif len(chosen) < scope.space.confirm.top and all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    default = default_trial(trials)
    if default is not None and default.ended and all(default.params != trial.params for trial in chosen):
        chosen.append(default)
    return {trial.name: trial for trial in chosen}, vetoed


def candidate_settings(scope: Scope, trials: Mapping[str, TrialRecord]) -> dict[str, TrainSettings]:
    """Return name → configuration of the candidates among the trials, and of source-only last."""
    settings = {name: settings_for(scope.space, trial.params) for name, trial in trials.items()}
    return {**settings, SOURCE_ONLY_KEY: source_only_settings(scope.space)}


def _mean_scores(evaluations: list[Evaluation]) -> dict[str, dict[str, float]]:
    """Return task → validator → mean over the evaluations, of the validators that all of them have."""
    shared = [name for name in evaluations[0].validators if all(name in e.validators for e in evaluations)]
    return {
        task: {name: fmean(e.scores[task][name] for e in evaluations) for name in shared}
        for task in evaluations[0].scores
    }


class Confirmation:
    """The confirmation of one scope: its candidates, their jobs, and the decision.

    The method's default configuration and source-only are always candidates, with the same fresh seeds
    as the best trials. Only fresh seeds decide: the score that brought a trial here was the best of many,
    hence too good. Source-only's trainings are there before.

    Args:
        scope: the study.
        line: takes a line of text for each finished job.
        failed: keys of jobs that have failed in this run, and are not tried again.
    """

    def __init__(self, scope: Scope, line: Callable[[str], None], failed: Container[str] = ()) -> None:
        self._scope, self._line, self._failed = scope, line, failed
        self._trials, self._vetoed = select_candidates(scope)
        seeds = range(scope.space.confirm.seeds)
        self._jobs = {
            name: [scope.confirm_job(name, settings, index) for index in seeds]
            for name, settings in candidate_settings(scope, self._trials).items()
        }

    def missing(self) -> list[Job]:
        """Return the jobs whose training is not there yet."""
        jobs = [job for jobs in self._jobs.values() for job in jobs if job.key not in self._failed]
        return [job for job in jobs if not self._scope.have(job)]

    def _candidate(self, name: str, evaluations: list[Evaluation]) -> Candidate:
        scope, jobs = self._scope, self._jobs[name]
        agreements = [
            kept_agreement([job.kept_file(task, e.step) for job, e in zip(jobs, evaluations, strict=True)])
            for task in scope.task_names
        ]
        baseline = None if name == SOURCE_ONLY_KEY else scope.baseline()
        reasons = dict.fromkeys(reason for e in evaluations if (reason := veto(e.scores, baseline)))
        known = set.intersection(*(set(e.cost) for e in evaluations))
        return Candidate(
            name=name,
            scores=tuple(e.mean(scope.objective) for e in evaluations),
            agreement=mean if math.isfinite(mean := fmean(agreements)) else None,
            veto=" | ".join(reasons),
            cost={name: fmean(e.cost[name] for e in evaluations) for name in COSTS if name in known},
        )

    def steps(self) -> Steps[Choice]:
        """Run what is missing and decide.

        Raises:
            NoChoiceError: every candidate failed.
        """
        scope, objective = self._scope, self._scope.objective
        missing = FixedJobs(self.missing(), objective, scope.store, self._line)
        yield [missing]
        confirmed: dict[str, list[Evaluation]] = {}
        for name, jobs in self._jobs.items():
            stored = [e for job in jobs if (e := scope.stored(job.key)) is not None]
            if len(stored) == len(jobs):  # a candidate that failed with any seed is out
                confirmed[name] = stored
        if not confirmed:
            listed = "; ".join(f"{key}: {error}" for key, error in missing.errors.items())
            raise NoChoiceError(f"every candidate failed when run again with fresh seeds: {listed}")
        candidates = [self._candidate(name, evaluations) for name, evaluations in confirmed.items()]
        candidates.sort(key=lambda c: c.mean, reverse=scope.higher_is_better)
        trained = TrainedModels(scope, confirmed)
        decision = decide(
            candidates,
            objective,
            scope.higher_is_better,
            trained.agreement,
            cost=scope.space.cost,
            taught=scope.space.retrain.teach,
        )
        winner = decision.winner
        trial = self._trials.get(winner.name)
        params = {} if trial is None else dict(trial.params)
        return Choice(
            study=scope.folder.name,
            tasks=scope.task_names,
            answer=decision.answer,
            trial=None if trial is None else trial.number,
            params=params,
            objective=objective,
            score=winner.mean,
            scores=_mean_scores(confirmed[winner.name]),
            candidates=tuple(candidates),
            reason=decision.reason,
            caveats=(
                *(caveats(scope.space, params) if decision.answer == "trial" else ()),
                *(filter(None, [trained.agreement.against_adaptation]) if decision.answer == "trial" else ()),
                *shifted_shares(trained.shares()),
                *untrained(missing.errors),
            ),
            vetoed=self._vetoed,
            agreement=trained.by_task(),
            shares=trained.shares(),
        )
