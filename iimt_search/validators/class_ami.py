"""ClassAMI: do the predictions agree with the clusters of the embeddings? (Musgrave et al. 2022)."""

import math
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite

MAX_SAMPLES = 5000


def class_ami(embeddings: Tensor, predicted: Tensor, classes: int) -> float:
    """Return the adjusted mutual information of predictions and k-means clusters.

    Args:
        embeddings: float (N, D), on the target; each is scaled to length 1 first. Of more than
            5 000, evenly spaced ones are used, always the same.
        predicted: int64 (N,), the predicted classes.
        classes: C, the number of clusters.

    Returns:
        At most 1; about 0 for predictions that have nothing to do with the clusters, and 0 for a
        collapse to one class. NaN where an embedding is not finite.
    """
    chosen = slice(None, None, math.ceil(len(embeddings) / MAX_SAMPLES))
    f = embeddings[chosen].double().cpu().numpy()
    if not np.isfinite(f).all():
        return float("nan")
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        # Fewer distinct embeddings than clusters is a collapse: the score says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(min(classes, len(f)), n_init=3, random_state=0).fit_predict(f)
    return float(adjusted_mutual_info_score(predicted[chosen].cpu().numpy(), clusters))


def score(predictions: Predictions) -> float:
    """Score a model by ClassAMI on its target embeddings."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    logits = predictions.target_logits
    return class_ami(predictions.target_embeddings, logits.argmax(dim=-1), logits.shape[1])
