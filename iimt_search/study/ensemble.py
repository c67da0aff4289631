"""The trained models of one candidate and task: of its retraining, its fresh seeds, and its search."""

from collections.abc import Sequence

from optuna.trial import TrialState

from iimt_search.records import Job
from iimt_search.study.choice import Choice
from iimt_search.study.fork import configuration
from iimt_search.study.keeping import KeptCheckpoint
from iimt_search.study.model_choice import TrainedModel
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.trials import trial_scores


def _kept(job: Job, task: str, step: int) -> KeptCheckpoint:
    return KeptCheckpoint(job.key, task, step, job.kept_file(task, step))


def _of_job(scope: Scope, job: Job, task: str) -> TrainedModel | None:
    evaluation = scope.stored(job.key)
    if evaluation is None:
        return None
    return TrainedModel(_kept(job, task, evaluation.step), evaluation.scores[task])


def _of_trial(scope: Scope, number: int, task: str) -> TrainedModel | None:
    trial = scope.study.get_trials(deepcopy=False)[number]
    if trial.state is not TrialState.COMPLETE or trial.last_step is None:
        return None
    kept = _kept(scope.trial_job(number, configuration(trial)), task, trial.last_step)
    return TrainedModel(kept, trial_scores(trial, [task])[task])


def trained_models(
    scope: Scope, choice: Choice, candidate: str, retrained: Sequence[Job]
) -> list[TrainedModel]:
    """Return a candidate's models of one task: the retrained ones first.

    Args:
        scope: the study.
        choice: what was chosen.
        candidate: the chosen candidate, or source-only.
        retrained: its retrainings on one task.

    Returns:
        Those whose kept checkpoint is there, each at its training's end.
    """
    task, settings = retrained[0].tasks[0].name, retrained[0].settings
    seeds = range(len(choice.candidates[0].scores))
    found = [_of_job(scope, job, task) for job in retrained]
    found += [_of_job(scope, scope.confirm_job(candidate, settings, index), task) for index in seeds]
    if candidate == SOURCE_ONLY_KEY:
        found.append(_of_job(scope, scope.source_only_job(), task))
    elif choice.trial is not None:
        found.append(_of_trial(scope, choice.trial, task))
    return [model for model in found if model is not None and model.kept.path.exists()]
