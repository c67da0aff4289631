"""The default objective: a bounded mean of validators that fail in different ways."""

import math

from iimt_search.validators import information_maximisation, reverse_probe, source_accuracy
from iimt_search.validators.contract import Predictions


def composite(source: float, information: float, probe: float, classes: int) -> float:
    """Return the geometric mean of three parts, each in [0, 1].

    Args:
        source: source validation accuracy, in [0, 1].
        information: information maximisation, in [0, ln C].
        probe: reverse probe accuracy, in [0, 1].
        classes: C.

    Returns:
        A value in [0, 1] that depends on no other candidate. Geometric, so that a part which has
        collapsed cannot be made up for by the others. NaN where a part is NaN.
    """
    parts = (source, information / math.log(classes), probe)
    if any(math.isnan(part) for part in parts):
        return float("nan")
    return float(math.prod(min(max(part, 0.0), 1.0) for part in parts) ** (1 / len(parts)))


def score(predictions: Predictions) -> float:
    """Score a model by :func:`composite`."""
    return composite(
        source_accuracy.score(predictions),
        information_maximisation.score(predictions),
        reverse_probe.score(predictions),
        predictions.target_logits.shape[1],
    )
