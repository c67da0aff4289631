"""Which of a configuration's trained models is handed out for a task.

The retrained one, unless a training of the same configuration with a fresh seed scores better, or a veto
meets it. Among the checkpoints of one training the last is best as long as it is healthy: on the pool of
``benchmarks.validators`` picking an earlier one by its score lost half a point where it changed anything. So
an earlier one is taken only where a veto meets all the last ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iimt_search.study.keeping import KeptCheckpoint
from iimt_search.study.veto import Scores, veto
from iimt_search.training.kept import load_kept_predictions
from iimt_search.validators.contract import score_all


@dataclass(frozen=True)
class TrainedModel:
    """A model that may be handed out.

    Attributes:
        kept: its checkpoint.
        scores: validator → score.
    """

    kept: KeptCheckpoint
    scores: Mapping[str, float]


def _vetoed(model: TrainedModel, baseline: Scores | None) -> str:
    return veto({model.kept.task: model.scores}, baseline)


def choose_model(
    last: Sequence[TrainedModel],
    earlier: Sequence[KeptCheckpoint],
    objective: str,
    higher_is_better: bool,
    baseline: Scores | None,
) -> tuple[TrainedModel, str]:
    """Choose one model of a task.

    Args:
        last: the retrained model first, then those of the same configuration with fresh seeds.
        earlier: checkpoints of the retraining before its last.
        objective: the validator's name.
        higher_is_better: its direction.
        baseline: source-only's scores.

    Returns:
        The model, and what to know of it where it is not the retrained one, or "".
    """
    retrained, sign = last[0], 1.0 if higher_is_better else -1.0
    reason = _vetoed(retrained, baseline)
    sound = [model for model in last if not _vetoed(model, baseline)]
    if sound:
        best = max(sound, key=lambda model: sign * model.scores[objective])
        if best is retrained:
            return best, ""
        why = (
            reason or f"{objective} {best.scores[objective]:.4f}, retrained {retrained.scores[objective]:.4f}"
        )
        return best, f"the model of {best.kept.task} is that of {best.kept.job}: {why}"
    names = [name for name in retrained.scores if name in last[-1].scores]
    for each in sorted(earlier, key=lambda kept: kept.step, reverse=True):
        model = TrainedModel(each, score_all(names, load_kept_predictions(each.path)))
        if not _vetoed(model, baseline):
            return model, f"the model of {each.task} is taken after step {each.step}: {reason}"
    return retrained, f"the retrained model has gone wrong: {reason}"
