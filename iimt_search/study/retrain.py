"""Retrains the chosen configuration on every task with the full budget, and exports the models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from iimt_search.errors import StudyError
from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.study.choice import Choice
from iimt_search.study.job_runner import FixedJobs, JobRunner
from iimt_search.study.proposals import settings_for, source_only_settings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope


class Retraining:
    """The retraining of one scope's choice, and of source-only with the same budget beside it.

    Args:
        scope: the study.
        choice: what was chosen.
        line: takes a line of text for each finished job.
    """

    def __init__(self, scope: Scope, choice: Choice, line: Callable[[str], None]) -> None:
        self._scope, self._choice, self._line = scope, choice, line
        wanted: dict[str, TrainSettings] = {}
        if choice.trial is not None:
            wanted[choice.candidate] = settings_for(scope.space, choice.params)
        wanted[SOURCE_ONLY_KEY] = source_only_settings(scope.space)
        self._jobs = {
            name: [scope.retrain_job(name, settings, task) for task in scope.tasks]
            for name, settings in wanted.items()
        }

    def _have(self, job: Job) -> bool:
        exported = Path(job.models) / job.tasks[0].slug / "model.json"
        stored = self._scope.stored(job.key)
        return stored is not None and stored.step == job.settings.steps and exported.exists()

    def missing(self) -> list[Job]:
        """Return the jobs whose model or scores are not there yet."""
        return [job for jobs in self._jobs.values() for job in jobs if not self._have(job)]

    def run(self, runner: JobRunner) -> Choice:
        """Retrain what is missing; returns the choice with its models and their scores.

        Raises:
            StudyError: a retraining of the chosen candidate failed.
        """
        scope = self._scope
        retrainings = FixedJobs(self.missing(), scope.space.objective, scope.store, self._line)
        runner.run(retrainings)
        errors = retrainings.errors
        # The baseline beside it may fail; the answer stands without.
        lost = [
            f"{job.key}: {errors[job.key]}" for job in self._jobs[self._choice.candidate] if job.key in errors
        ]
        if lost:
            raise StudyError("retraining failed: " + "; ".join(lost))
        jobs = self._jobs[self._choice.candidate]
        retrained: dict[str, dict[str, float]] = {}
        for job in jobs:
            evaluation = self._scope.stored(job.key)
            if evaluation is not None:
                retrained.update({task: dict(scores) for task, scores in evaluation.scores.items()})
        return replace(self._choice, models=jobs[0].models, retrained=retrained)
