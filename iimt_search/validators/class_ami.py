"""ClassAMI: do the predictions agree with the clusters of the embeddings? (Musgrave et al. 2022)."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from iimt_search.validators.canonical_order import canonical_order
from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.ties import predicted_classes

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MAX_SAMPLES = 1000


def kmeans_clusters(embeddings: Tensor, classes: int, most: int) -> tuple[Indices, Floats, Indices]:
    """Cluster embeddings of length 1 into as many clusters as there are classes.

    Args:
        embeddings: float (N, D), finite, N at least 1; each is scaled to length 1 first.
        classes: C, the number of clusters; fewer where there are fewer distinct embeddings.
        most: of more samples than this, evenly spaced ones in canonical order are used.

    Returns:
        The places of the samples used, (n,); their embeddings of length 1, (n, D); the cluster of
        each, (n,). The same for every order of the samples.
    """
    given = embeddings.double().cpu().numpy()
    chosen = canonical_order(given, most)
    f = given[chosen]
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        # Fewer distinct embeddings than clusters is a collapse: the score says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(min(classes, len(f)), n_init=3, random_state=0).fit_predict(f)
    return chosen, f, clusters.astype(np.int64)


def class_ami(embeddings: Tensor, predicted: Tensor, classes: int) -> float:
    """Return the adjusted mutual information of predictions and k-means clusters.

    Args:
        embeddings: float (N, D), on the target; each is scaled to length 1 first. Of more than
            1 000, evenly spaced ones in canonical order are used.
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
    if len(embeddings) == 0 or not all_finite(embeddings):
        return float("nan")
    chosen, _, clusters = kmeans_clusters(embeddings, classes, MAX_SAMPLES)
    labels = predicted.cpu().numpy()[chosen]
    compared = labels >= 0
    if len(np.unique(labels[compared])) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(labels[compared], clusters[compared]))


def score(predictions: Predictions) -> float:
    """Score a model by ClassAMI on its target embeddings."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    logits = predictions.target_logits
    return class_ami(predictions.target_embeddings, predicted_classes(logits), logits.shape[1])
