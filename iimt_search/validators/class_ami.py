"""ClassAMI: do the predictions agree with the clusters of the embeddings? (Musgrave et al. 2022)."""

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from iimt_search.validators.clusters import Clusters, kmeans_clusters
from iimt_search.validators.contract import Predictions, all_finite


def _agreement(clusters: Clusters | None, predicted: Tensor) -> float:
    if clusters is None:
        return float("nan")
    labels = predicted.cpu().numpy()
    compared = labels >= 0
    if len(np.unique(labels[compared])) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(labels[compared], clusters.of[compared]))


def class_ami(embeddings: Tensor, predicted: Tensor, classes: int) -> float:
    """Return the adjusted mutual information of predictions and k-means clusters.

    Args:
        embeddings: float (N, D), on the target; see
            :func:`iimt_search.validators.clusters.kmeans_clusters`.
        predicted: int64 (N,), the predicted classes; samples with −1 (none) are clustered, not compared.
        classes: C, the number of clusters.

    Returns:
        At most 1; about 0 for predictions that have nothing to do with the clusters, and 0 for a
        collapse to one class, even where there is but one cluster. NaN where an embedding is not
        finite, and without samples.

    >>> import torch
    >>> clusters = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> class_ami(clusters, torch.tensor([0, 0, 1, 1]), 2)
    1.0
    >>> round(class_ami(clusters, torch.tensor([0, 1, 0, 1]), 2), 2) <= 0
    True
    """
    return _agreement(kmeans_clusters(embeddings, classes), predicted)


def score(predictions: Predictions) -> float:
    """Score a model by ClassAMI on its target embeddings."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return _agreement(predictions.target_clusters, predictions.target_classes)
