"""Which of a configuration's trained models are exported for a task.

Those that were trained as long as the retrained ones and that no veto meets, as an ensemble: trainings that
differ in their seeds only differ by several points of target accuracy, and their mean prediction is better
than most of them (``benchmarks.validators``). Shorter trainings beside a longer one made it worse. The one
with the best objective comes first, for those who want one model. Among the checkpoints of one training the
last is best as long as it is healthy: picking an earlier one by its score lost half a point where it
changed anything. So an earlier one is taken only where a veto meets all the last ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iimt_search.records import Choice, Job, Scores
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.trial_record import read_trial
from iimt_search.study.veto import veto
from iimt_search.training.kept import KeptCheckpoint, load_kept_predictions
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import VALIDATORS, at_the_end


@dataclass(frozen=True)
class TrainedModel:
    """A model that may be exported.

    Attributes:
        kept: its checkpoint.
        scores: validator → score.
    """

    kept: KeptCheckpoint
    scores: Mapping[str, float]


def vetoed(model: TrainedModel, baseline: Scores | None) -> str:
    """Return why a model is not handed out, or ""."""
    return veto({model.kept.task: model.scores}, baseline)


def choose_models(
    last: Sequence[TrainedModel],
    earlier: Sequence[KeptCheckpoint],
    objective: str,
    baseline: Scores | None,
) -> tuple[list[TrainedModel], str]:
    """Choose the models of a task.

    Args:
        last: each training's last model, a retrained one first.
        earlier: checkpoints of the retraining before its last.
        objective: the validator to compare by.
        baseline: source-only's scores.

    Returns:
        The models, best first, and what to know of them, or "".
    """
    task = last[0].kept.task
    sign = 1.0 if VALIDATORS[objective].higher_is_better else -1.0
    sound = [model for model in last if not vetoed(model, baseline)]
    if sound:
        steps = {model.kept.step for model in sound}
        wanted = retrained if (retrained := last[0].kept.step) in steps else max(steps)
        equals = [model for model in sound if model.kept.step == wanted]
        ranked = sorted(equals, key=lambda model: -sign * model.scores[objective])
        out = [model.kept.job for model in last if model not in sound]
        return ranked, f"{task}: left out of the ensemble by a veto: {', '.join(out)}" if out else ""
    reason = vetoed(last[0], baseline)
    costs = {name: VALIDATORS[name].cost for name in last[0].scores if not at_the_end(name)}
    names = [name for name, cost in costs.items() if cost != "reference"]
    for kept in sorted(earlier, key=lambda kept: kept.step, reverse=True):
        model = TrainedModel(kept, score_all(names, load_kept_predictions(kept.path)))
        if not vetoed(model, baseline):
            return [model], f"the model of {task} is taken after step {kept.step}: {reason}"
    return [last[0]], f"the retrained model has gone wrong: {reason}"


def trained_models(
    scope: Scope, choice: Choice, candidate: str, retrained: Sequence[Job], *, alone: bool = False
) -> list[TrainedModel]:
    """Return a candidate's models of one task: the retrained ones first.

    Args:
        scope: the study.
        choice: what was chosen.
        candidate: the chosen candidate, or source-only.
        retrained: its retrainings on one task.
        alone: leave out its other trainings, which were not taught.

    Returns:
        Those whose kept checkpoint is there, each at its training's end.
    """
    task, settings = retrained[0].tasks[0].name, retrained[0].settings
    seeds = range(len(choice.candidates[0].scores))
    jobs = list(retrained)
    if not alone:
        jobs += [scope.confirm_job(candidate, settings, index) for index in seeds]
    if candidate == SOURCE_ONLY_KEY:
        jobs.append(scope.source_only_job())
    ended = [(job, e.step, e.scores[task]) for job in jobs if (e := scope.stored(job.key)) is not None]
    if candidate != SOURCE_ONLY_KEY and choice.trial is not None and not alone:
        trial = read_trial(scope.study, scope.study.get_trials(deepcopy=False)[choice.trial])
        if trial.state == "complete" and trial.curve:
            job = scope.trial_job(trial.number, trial.params)
            ended.append((job, max(trial.curve), trial.scores.get(task, {})))
    models = [
        TrainedModel(KeptCheckpoint(job.key, task, step, job.kept_file(task, step)), scores)
        for job, step, scores in ended
    ]
    return [model for model in models if model.kept.path.exists()]
