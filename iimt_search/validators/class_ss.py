"""ClassSS: how clear are the clusters of the embeddings? (Musgrave et al. 2022; Rousseeuw 1987)."""

import numpy as np
from sklearn.metrics import silhouette_score
from torch import Tensor

from iimt_search.validators.clusters import Clusters, kmeans_clusters
from iimt_search.validators.contract import Predictions, all_finite


def _silhouette(clusters: Clusters | None) -> float:
    if clusters is None:
        return float("nan")
    of = clusters.of[clusters.chosen]
    if not 2 <= len(np.unique(of)) < len(of):
        return -1.0
    return float(silhouette_score(clusters.embeddings, of))


def class_ss(embeddings: Tensor, classes: int) -> float:
    """Return the mean silhouette of the k-means clusters of the embeddings.

    Args:
        embeddings: float (N, D), on the target; each is scaled to length 1 first, and distances are
            Euclidean. Of more than 1 000, those are used that
            :func:`iimt_search.validators.clusters.kmeans_clusters` finds the clusters from.
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
    return _silhouette(kmeans_clusters(embeddings, classes))


def score(predictions: Predictions) -> float:
    """Score a model by ClassSS on its target embeddings; of its predictions only C is looked at."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return _silhouette(predictions.target_clusters)
