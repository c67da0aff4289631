"""Reverse validation (Ganin et al. 2016, section 5.1.2; Zhong et al. 2010)."""

from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_accuracy import source_accuracy


def score(predictions: Predictions) -> float:
    """Score a model by the source validation accuracy of the model trained back from it.

    The reverse model learns from the target samples with this model's pseudo-labels as its source,
    and the source training samples without labels as its target. A model that predicts one class
    only teaches a constant, whose accuracy is that class's share.

    Raises:
        ValueError: the reverse training was not done.
    """
    if predictions.reverse_logits is None:
        raise ValueError("reverse_validation needs the logits of a reverse training")
    return source_accuracy(predictions.reverse_logits, predictions.source_labels)
