"""Which of a configuration's trained models are handed out for a task.

Those that were trained as long as the retrained ones and that no veto meets, as an ensemble: trainings that
differ in their seeds only differ by several points of target accuracy, and their mean prediction is better
than most of them (``benchmarks.validators``). Shorter trainings beside a longer one made it worse. The one
with the best objective comes first, for those who want one model. Among the checkpoints of one training the
last is best as long as it is healthy: picking an earlier one by its score lost half a point where it
changed anything. So an earlier one is taken only where a veto meets all the last ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iimt_search.study.keeping import KeptCheckpoint
from iimt_search.study.veto import Scores, veto
from iimt_search.training.kept import load_kept_predictions
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import at_the_end


@dataclass(frozen=True)
class TrainedModel:
    """A model that may be handed out.

    Attributes:
        kept: its checkpoint.
        scores: validator → score.
    """

    kept: KeptCheckpoint
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """What models are compared by.

    Attributes:
        name: the validator's.
        higher_is_better: its direction.
    """

    name: str
    higher_is_better: bool


def _vetoed(model: TrainedModel, baseline: Scores | None) -> str:
    return veto({model.kept.task: model.scores}, baseline)


def choose_models(
    last: Sequence[TrainedModel],
    earlier: Sequence[KeptCheckpoint],
    objective: Objective,
    baseline: Scores | None,
) -> tuple[list[TrainedModel], str]:
    """Choose the models of a task.

    Args:
        last: each training's last model, a retrained one first.
        earlier: checkpoints of the retraining before its last.
        objective: what to compare by.
        baseline: source-only's scores.

    Returns:
        The models, best first, and what to know of them, or "".
    """
    task = last[0].kept.task
    sign = 1.0 if objective.higher_is_better else -1.0
    sound = [model for model in last if not _vetoed(model, baseline)]
    if sound:
        steps = {model.kept.step for model in sound}
        wanted = retrained if (retrained := last[0].kept.step) in steps else max(steps)
        equals = [model for model in sound if model.kept.step == wanted]
        ranked = sorted(equals, key=lambda model: -sign * model.scores[objective.name])
        out = [model.kept.job for model in last if model not in sound]
        return ranked, f"{task}: left out of the ensemble by a veto: {', '.join(out)}" if out else ""
    reason = _vetoed(last[0], baseline)
    names = [name for name in last[0].scores if not at_the_end(name)]
    for each in sorted(earlier, key=lambda kept: kept.step, reverse=True):
        model = TrainedModel(each, score_all(names, load_kept_predictions(each.path)))
        if not _vetoed(model, baseline):
            return [model], f"the model of {task} is taken after step {each.step}: {reason}"
    return [last[0]], f"the retrained model has gone wrong: {reason}"
