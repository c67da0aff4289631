"""Retrains the chosen configuration on every task with the full budget, and exports the models."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from iimt_search.errors import StudyError
from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.study.choice import Choice
from iimt_search.study.ensemble import confirmed
from iimt_search.study.job_runner import FixedJobs, JobRunner
from iimt_search.study.keeping import KeptCheckpoint, kept_checkpoints
from iimt_search.study.kept_export import export_kept
from iimt_search.study.model_choice import TrainedModel, choose_model
from iimt_search.study.proposals import settings_for, source_only_settings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.validators.registry import AT_THE_END, VALIDATORS


def _exported_step(folder: Path) -> int:
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return int(content["step"])


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
        found = [self._settled(job) for job in jobs]
        retrained = {job.tasks[0].name: scores for job, (scores, _) in zip(jobs, found, strict=True)}
        said = tuple(flag for _, flag in found if flag)
        return replace(
            self._choice, models=jobs[0].models, retrained=retrained, flags=(*self._choice.flags, *said)
        )

    def _settled(self, job: Job) -> tuple[dict[str, float], str]:
        """Choose the task's model, and see that it is the exported one.

        Returns:
            Its scores, and what to know of it, or "".
        """
        scope, spec = self._scope, job.tasks[0]
        stored = scope.stored(job.key)
        if stored is None:
            raise StudyError(f"{job.key} has no scores")
        kept = [each for each in kept_checkpoints(scope.folder, [spec.name]) if each.job == job.key]
        here = KeptCheckpoint(job.key, spec.name, stored.step, job.kept_file(spec.name, stored.step))
        last = [TrainedModel(here, stored.scores[spec.name])]
        for each in confirmed(scope.folder, self._choice, spec.name):
            if (evaluation := scope.stored(each.job)) is not None:
                last.append(TrainedModel(each, evaluation.scores[spec.name]))
        chosen, flag = choose_model(
            last,
            [each for each in kept if each.step < stored.step and self._can_rescue],
            scope.space.objective,
            scope.higher_is_better,
            scope.baseline(),
        )
        folder = Path(job.models) / spec.slug
        if flag or _exported_step(folder) != stored.step:
            export_kept(chosen.kept, spec, chosen.scores, folder)
        if flag:
            self._line(flag)
        return dict(chosen.scores), flag

    @property
    def _can_rescue(self) -> bool:
        """Whether the objective can be computed for a checkpoint before a training's end."""
        return VALIDATORS[self._scope.space.objective].cost not in AT_THE_END
