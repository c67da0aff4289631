"""Retrains the chosen configuration on every task with the full budget, and exports the models."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from iimt_search.errors import StudyError
from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.study.choice import Choice
from iimt_search.study.ensemble import trained_models
from iimt_search.study.job_runner import FixedJobs, JobRunner
from iimt_search.study.keeping import kept_checkpoints
from iimt_search.study.kept_export import export_kept
from iimt_search.study.model_choice import Objective, TrainedModel, choose_models
from iimt_search.study.proposals import settings_for, source_only_settings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.training.export import add_members
from iimt_search.training.kept import load_kept_model, load_kept_predictions
from iimt_search.validators.few_shot import wilson_interval
from iimt_search.validators.registry import AT_THE_END, VALIDATORS


def _few_shot(models: Sequence[TrainedModel]) -> dict[str, float] | None:
    """Return the models' accuracy together on the few-shot samples with its interval, None without any."""
    found = [load_kept_predictions(model.kept.path).few_shot for model in models]
    known = [each for each in found if each is not None]
    if not known:
        return None
    together = torch.stack([each.logits.softmax(dim=-1) for each in known]).mean(dim=0)
    correct, count = int((together.argmax(dim=-1) == known[0].labels).sum()), len(known[0].labels)
    low, high = wilson_interval(correct, count)
    return {"accuracy": correct / count, "samples": count, "low": low, "high": high}


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
        settled = {
            name: [self._settle(name, job) for job in jobs if job.key not in errors]
            for name, jobs in self._jobs.items()
        }
        found = settled[self._choice.candidate]
        return replace(
            self._choice,
            models=self._jobs[self._choice.candidate][0].models,
            retrained={models[0].kept.task: dict(models[0].scores) for models, _ in found if models},
            few_shot={
                models[0].kept.task: measured
                for models, _ in found
                if models and (measured := _few_shot(models)) is not None
            },
            flags=(*self._choice.flags, *(flag for _, flag in found if flag)),
        )

    def _settle(self, candidate: str, job: Job) -> tuple[list[TrainedModel], str]:
        """Choose a task's models, and export them as an ensemble.

        Returns:
            The models, best first, and what to know of them, or "". Without models where no kept
            checkpoint is there: what the retraining itself has exported stays.
        """
        scope, spec = self._scope, job.tasks[0]
        last = trained_models(scope, self._choice, candidate, job)
        if not last:
            return [], f"{spec.name}: no kept checkpoint is there; the model is the retrained one, unchecked"
        objective = scope.space.objective
        earlier = [
            each
            for each in kept_checkpoints(scope.folder, [spec.name])
            if each.job == job.key and each.step < job.settings.steps
        ]
        can_score = VALIDATORS[objective].cost not in AT_THE_END
        models, flag = choose_models(
            last,
            earlier if can_score else [],
            Objective(objective, scope.higher_is_better),
            None if candidate == SOURCE_ONLY_KEY else scope.baseline(),
        )
        folder = Path(job.models) / spec.slug
        export_kept(models[0].kept, spec, models[0].scores, folder)
        add_members(folder, [load_kept_model(model.kept.path).model for model in models[1:]])
        if flag:
            self._line(flag)
        return models, flag
