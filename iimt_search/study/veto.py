"""What is out before any ranking: models that have plainly gone wrong, whatever a validator says of them."""

import math
from collections.abc import Mapping

from iimt_search.records import Scores

# Scored with every evaluation, whatever a space file names: vetoes look at nothing else. How many classes are
# predicted is no reason for one; checkpoints of earlier versions know their jobs by it.
CHECKS = ("source_accuracy", "classes_predicted", "embedding_spread")

# Healthy models of six digit tasks spread by 0.4 and more, collapsed ones by less than 0.1.
LEAST_SPREAD = 0.1
# Of source-only's: a model that has lost so much has lost what it was taught, too.
LEAST_SOURCE_ACCURACY = 0.8
_ROUNDING = 1e-9


def reasons_against(scores: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return why a model is out by the scores of one task: by those of :data:`CHECKS` that are there.

    Args:
        scores: validator → score.
        baseline: the same of source-only, empty where it is not known.
    """
    reasons = [f"{name} is not finite" for name in CHECKS if not math.isfinite(scores.get(name, 0.0))]
    if reasons:
        return reasons
    accuracy, known = (each.get("source_accuracy", math.nan) for each in (scores, baseline))
    if accuracy < LEAST_SOURCE_ACCURACY * known - _ROUNDING:
        left = f"{100 * accuracy:.0f} % is the source validation accuracy left"
        reasons.append(f"{left}, source-only has {100 * known:.0f} %")
    if scores.get("embedding_spread", 1.0) < LEAST_SPREAD:
        reasons.append(f"the target embeddings have collapsed (spread {scores['embedding_spread']:.2f})")
    return reasons


def veto(scores: Scores, baseline: Scores | None) -> str:
    """Return why a model is out, or "" where it is not.

    Args:
        scores: task → validator → score, :data:`CHECKS` among them.
        baseline: the same of source-only; None where it is not known: only what is wrong in itself is
            a reason then.

    Returns:
        One reason for each task that has one: scores that are not finite, source accuracy fallen away,
        collapsed embeddings. Classes that are missing from the target predictions are none: the target
        need not have them.
    """
    reasons = []
    for task, values in scores.items():
        if any(name not in values for name in CHECKS):
            continue  # scored by an earlier version
        of_task = reasons_against(values, {} if baseline is None else baseline.get(task, {}))
        if of_task:
            reasons.append(f"{task}: {'; '.join(of_task)}")
    return " | ".join(reasons)
