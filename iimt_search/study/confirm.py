"""Runs the best few configurations again with fresh seeds, and names one best."""

from collections.abc import Callable
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from iimt_search.errors import StudyError
from iimt_search.records import Evaluation, Job
from iimt_search.settings import TrainSettings
from iimt_search.study.choice import Candidate, Choice
from iimt_search.study.job_runner import FixedJobs, JobRunner
from iimt_search.study.proposals import settings_for, source_only_settings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope


def best_trials(scope: Scope) -> list[FrozenTrial]:
    """Return the complete trials, best objective first; of equal ones the earlier first."""
    trials = scope.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = -1.0 if scope.higher_is_better else 1.0
    return sorted(trials, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def _distinct(trials: list[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Return the first ``count`` trials, leaving out those with an earlier one's parameters."""
    found: list[FrozenTrial] = []
    for trial in trials:
        if len(found) < count and all(trial.params != other.params for other in found):
            found.append(trial)
    return found


def _mean_scores(evaluations: list[Evaluation]) -> dict[str, dict[str, float]]:
    """Return task → validator → mean over the evaluations, of the validators that all of them have."""
    shared = [name for name in evaluations[0].validators if all(name in e.validators for e in evaluations)]
    return {
        task: {name: fmean(e.scores[task][name] for e in evaluations) for name in shared}
        for task in evaluations[0].scores
    }


class Confirmation:
    """The confirmation of one scope: its candidates, their jobs, and the decision.

    Source-only is always a candidate, with the same fresh seeds as the configurations. Only fresh
    seeds decide: the score that brought a trial here was the best of many, hence too good.
    """

    def __init__(self, scope: Scope, line: Callable[[str], None]) -> None:
        self._scope, self._line = scope, line
        confirm = scope.space.confirm
        self._trials = {f"trial-{t.number}": t for t in _distinct(best_trials(scope), confirm.top)}
        candidates: dict[str, TrainSettings] = {
            name: settings_for(scope.space, trial.params) for name, trial in self._trials.items()
        }
        candidates[SOURCE_ONLY_KEY] = source_only_settings(scope.space)
        self._jobs = {
            name: [scope.confirm_job(name, settings, index) for index in range(confirm.seeds)]
            for name, settings in candidates.items()
        }
        self._errors: dict[str, str] = {}

    def missing(self) -> list[Job]:
        """Return the jobs whose result the study does not hold yet."""
        return [job for jobs in self._jobs.values() for job in jobs if self._scope.stored(job.key) is None]

    def run(self, runner: JobRunner) -> Choice:
        """Run what is missing and decide."""
        scope = self._scope
        jobs = FixedJobs(self.missing(), scope.space.objective, scope.store, self._line)
        runner.run(jobs)
        self._errors = jobs.errors
        return self._decide()

    def _decide(self) -> Choice:
        scope, objective = self._scope, self._scope.space.objective
        found: dict[str, list[Evaluation]] = {}
        for name, jobs in self._jobs.items():
            stored = [e for job in jobs if (e := scope.stored(job.key)) is not None]
            if len(stored) == len(jobs):  # a candidate that failed with any seed is out
                found[name] = stored
        candidates = [Candidate(n, tuple(e.mean(objective) for e in es)) for n, es in found.items()]
        candidates.sort(key=lambda c: c.mean, reverse=scope.higher_is_better)
        if not candidates:
            listed = "; ".join(f"{key}: {error}" for key, error in self._errors.items())
            raise StudyError(f"every candidate failed when run again with fresh seeds: {listed}")
        best = candidates[0]
        trial = self._trials.get(best.name)
        if trial is None:
            reason = "no configuration scored better than the model without adaptation, with fresh seeds"
        else:
            reason = f"best mean {objective} of {len(candidates)} candidates, with fresh seeds"
        return Choice(
            study=scope.folder.name,
            tasks=scope.task_names,
            answer="source-only" if trial is None else "trial",
            trial=None if trial is None else trial.number,
            params={} if trial is None else dict(trial.params),
            objective=objective,
            score=best.mean,
            scores=_mean_scores(found[best.name]),
            candidates=tuple(candidates),
            reason=reason,
        )
