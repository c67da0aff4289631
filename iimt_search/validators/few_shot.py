"""Accuracy on labelled target samples that the user gave on purpose (interval: Wilson 1927)."""

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_accuracy import source_accuracy


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of an accuracy.

    Args:
        correct: how many predictions were right, in [0, count].
        count: of how many.
        confidence: how often such an interval holds the true accuracy, in (0, 1).

    Returns:
        Its lower and upper end, in [0, 1]; all of it where there is no sample.
    """
    if count == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # most of a second: only for those who have such samples

    found = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def score(predictions: Predictions) -> float:
    """Score a model by its accuracy on the labelled target samples, in [0, 1].

    NaN where a logit is not finite, and where there are no such samples.

    Raises:
        ValueError: the user gave no labelled target samples.
    """
    if predictions.few_shot is None:
        raise ValueError("few_shot needs labelled target samples")
    return source_accuracy(predictions.few_shot.logits, predictions.few_shot.labels)
