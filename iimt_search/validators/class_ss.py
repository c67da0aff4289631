"""ClassSS: how clear are the clusters of the embeddings? (Musgrave et al. 2022; Rousseeuw 1987)."""

import numpy as np
from sklearn.metrics import silhouette_score
from torch import Tensor

from iimt_search.validators.class_ami import kmeans_clusters
from iimt_search.validators.contract import Predictions, all_finite

MAX_SAMPLES = 2000


def class_ss(embeddings: Tensor, classes: int) -> float:
    """Return the mean silhouette of the k-means clusters of the embeddings.

    Args:
        embeddings: float (N, D), on the target; each is scaled to length 1 first, and distances are
            Euclidean. Of more than 2 000, evenly spaced ones in canonical order are used, to find
            the clusters too.
        classes: C, the number of clusters.

    Returns:
        A value in [−1, 1]: 1 for tight clusters far apart, about 0 for none. Where no silhouette is
        defined (all embeddings the same, or no more samples than clusters), −1: a collapse is the
        worst that there is. NaN where an embedding is not finite, and without samples.

    >>> import torch
    >>> round(class_ss(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), 2), 2)
    0.93
    >>> class_ss(torch.ones(4, 2), 2)
    -1.0
    """
    if len(embeddings) == 0 or not all_finite(embeddings):
        return float("nan")
    _, f, clusters = kmeans_clusters(embeddings, classes, MAX_SAMPLES)
    found = len(np.unique(clusters))
    if not 2 <= found < len(f):
        return -1.0
    return float(silhouette_score(f, clusters))


def score(predictions: Predictions) -> float:
    """Score a model by ClassSS on its target embeddings; of its predictions only C is looked at."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return class_ss(predictions.target_embeddings, predictions.target_logits.shape[1])
