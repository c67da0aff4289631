"""Reverse validation by a short training (ours, after Ganin et al. 2016, section 5.1.2)."""

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_accuracy import source_accuracy


def score(predictions: Predictions) -> float:
    """Score a model by the source validation accuracy of the model trained back from it for a while.

    As in :mod:`iimt_search.validators.reverse_validation`, but that model begins with this one's weights
    and trains a tenth of the steps: it shows what the pseudo-labels make this model forget. A share in
    [0, 1]; NaN where a logit is not finite.

    Raises:
        ValueError: the short reverse training was not done.
    """
    if predictions.short_reverse_logits is None:
        raise ValueError("reverse_validation_short needs the logits of a short reverse training")
    return source_accuracy(predictions.short_reverse_logits, predictions.source_labels)
