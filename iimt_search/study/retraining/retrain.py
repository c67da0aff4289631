"""Retrains the chosen configuration on every task with the full budget, and exports the models."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from iimt_search.errors import NoChoiceError
from iimt_search.exporting.model_folder import export_kept
from iimt_search.kinds import is_pretrained
from iimt_search.records import Choice, Job
from iimt_search.settings import TrainSettings
from iimt_search.study.executors.runner import FixedJobs, Steps
from iimt_search.study.kept import kept_checkpoints
from iimt_search.study.retraining.members import TrainedModel, choose_models, trained_models, vetoed
from iimt_search.study.retraining.teacher import Teacher
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.selection.caveats import untrained
from iimt_search.study.selection.trained import TrainedModels
from iimt_search.training.kept import KeptCheckpoint, load_kept_predictions
from iimt_search.validators.few_shot import wilson_interval
from iimt_search.validators.registry import at_the_end


def _few_shot(models: Sequence[TrainedModel]) -> dict[str, float] | None:
    """Return the models' accuracy together on the few-shot samples with its interval, None without any."""
    kept = [load_kept_predictions(model.kept.path).few_shot for model in models]
    known = [few_shot for few_shot in kept if few_shot is not None]
    if not known:
        return None
    together = torch.stack([few_shot.logits.softmax(dim=-1) for few_shot in known]).mean(dim=0)
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
        self._taught = scope.space.retrain.teach and choice.trial is not None
        self._jobs = {
            (name, task.name): scope.retrain_jobs(
                name, settings, task, taught=self._taught and name != SOURCE_ONLY_KEY
            )
            for name, settings in wanted.items()
            for task in scope.tasks
        }

    def missing(self) -> list[Job]:
        """Return the jobs whose training is not there: what is exported is made of their kept checkpoints."""
        return [job for jobs in self._jobs.values() for job in jobs if not self._scope.have(job)]

    def _cleared(self, jobs: list[Job]) -> list[Job]:
        """Delete what trainings under the keys of jobs have kept that were made with other settings."""
        for job in jobs:
            if self._scope.stored(job.key) is not None and self._scope.outdated(job):
                shutil.rmtree(job.kept, ignore_errors=True)
        return jobs

    def steps(self) -> Steps[Choice]:
        """Retrain what is missing and export; returns the choice with its models and their scores.

        Raises:
            NoChoiceError: a retraining of the chosen candidate failed, or what it has kept is gone.
            ModelFileError: what it has kept is damaged.
        """
        scope, chosen = self._scope, self._choice.candidate
        if self._taught and any(job.teacher for job in self.missing()):
            trained = TrainedModels(scope, [candidate.name for candidate in self._choice.candidates])
            for task, models in trained.tasks.items():
                count = len(models.adapted) + len(models.without)
                self._line(f"{task.name}: {count} trained models label the target together")
                Teacher(scope).write(task, models)
        retrainings = FixedJobs(self._cleared(self.missing()), scope.objective, scope.store, self._line)
        yield [retrainings]
        errors = retrainings.errors
        failed = {at for at, jobs in self._jobs.items() if any(job.key in errors for job in jobs)}
        # The baseline beside it may fail; the answer stands without.
        if any(candidate == chosen for candidate, _ in failed):
            raise NoChoiceError("retraining failed: " + "; ".join(f"{k}: {e}" for k, e in errors.items()))
        settled = {at: self._settle(at[0], jobs) for at, jobs in self._jobs.items() if at not in failed}
        mine = {task: settled_models for (name, task), settled_models in settled.items() if name == chosen}
        fine_tuned = yield from self._fine_tune(mine)
        few_shot = {task: _few_shot(models) for task, (models, _) in mine.items()}
        return replace(
            self._choice,
            models=str(scope.folder.models / chosen),
            taught=self._taught,
            fine_tuned=fine_tuned,
            members={task: tuple(model.kept.job for model in models) for task, (models, _) in mine.items()},
            retrained={task: dict(models[0].scores) for task, (models, _) in mine.items()},
            few_shot={task: measured for task, measured in few_shot.items() if measured is not None},
            caveats=(
                *self._choice.caveats,
                *(caveat for _, caveat in mine.values() if caveat),
                *untrained(errors),
            ),
        )

    def _fine_tune(
        self, settled: dict[str, tuple[list[TrainedModel], str]]
    ) -> Steps[dict[str, dict[str, float]]]:
        """Train the pretrained networks of the chosen models, too; in ``settled`` the better ones remain.

        Returns:
            Task → the objective ``before`` and ``after``.
        """
        scope, found = self._scope, dict[str, dict[str, float]]()
        if scope.space.retrain.freeze == "all" or self._choice.trial is None:
            return found
        jobs = {}
        for task, (models, _) in settled.items():
            retrained = self._jobs[self._choice.candidate, task][0]
            if is_pretrained(retrained.settings.network) and retrained.settings.freeze == "all":
                jobs[task] = scope.fine_tuning_job(retrained, models[0].kept)
        missing = self._cleared([job for job in jobs.values() if not scope.have(job)])
        tunings = FixedJobs(missing, scope.objective, scope.store, self._line)
        yield [tunings]
        for task, job in jobs.items():
            evaluation, models = scope.stored(job.key), settled[task][0]
            if evaluation is None:
                self._line(f"{task}: the fine-tuning failed: {tunings.errors.get(job.key, '')}")
                continue
            kept = KeptCheckpoint(job.key, task, evaluation.step, job.kept_file(task, evaluation.step))
            tuned, objective = TrainedModel(kept, evaluation.scores[task]), scope.objective
            before, after = models[0].scores[objective], tuned.scores[objective]
            found[task] = {"before": before, "after": after}
            better = scope.sign * (after - before) > 0 and not vetoed(tuned, scope.baseline())
            self._line(
                f"{task}: {objective} {before:.4f}, fine-tuned {after:.4f}; "
                f"{'the fine-tuned model' if better else 'the model before'} is handed out"
            )
            if better:
                settled[task] = ([tuned], settled[task][1])
                folder = scope.folder.models / self._choice.candidate / job.tasks[0].slug
                export_kept(kept, job.tasks[0], tuned.scores, folder, weights=scope.space.train.weights)
        return found

    def _settle(self, candidate: str, jobs: Sequence[Job]) -> tuple[list[TrainedModel], str]:
        """Choose a task's models, and export them as an ensemble.

        Args:
            candidate: the chosen one, or source-only.
            jobs: its retrainings on the task.

        Returns:
            The models, best first, and what to know of them, or "".
        """
        scope, job = self._scope, jobs[0]
        spec = job.tasks[0]
        for missing in (job for job in jobs if not scope.have(job)):
            raise NoChoiceError(
                f"what {missing.key} has kept is not in {missing.kept}/ any more; the same "
                f"`iimt-search run` trains it again"
            )
        earlier = [
            kept
            for kept in kept_checkpoints(scope.folder, [spec.name])
            if kept.job == job.key and kept.step < job.settings.steps
        ]
        models, caveat = choose_models(
            trained_models(scope, self._choice, candidate, jobs, alone=bool(job.teacher)),
            [] if at_the_end(scope.objective) else earlier,
            scope.objective,
            None if candidate == SOURCE_ONLY_KEY else scope.baseline(),
        )
        folder = scope.folder.models / candidate / spec.slug
        kept, *others = [model.kept for model in models]
        export_kept(kept, spec, models[0].scores, folder, others, scope.space.train.weights)
        if caveat:
            self._line(caveat)
        return models, caveat
