"""The k-means clusters of the embeddings, which ClassAMI and ClassSS look at."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from iimt_search.validators.canonical_order import canonical_order
from iimt_search.validators.contract import all_finite

MAX_SAMPLES = 1000


class Clusters(NamedTuple):
    """Clusters of N samples, found from n of them.

    Attributes:
        chosen: int64 (n,), the places of the samples that the clusters were found from.
        embeddings: float64 (n, D), theirs, of length 1.
        of: int64 (N,), the cluster of every sample.
    """

    chosen: NDArray[np.int64]
    embeddings: NDArray[np.float64]
    of: NDArray[np.int64]


def kmeans_clusters(embeddings: Tensor, classes: int) -> Clusters | None:
    """Cluster embeddings of length 1 into as many clusters as there are classes.

    Args:
        embeddings: float (N, D); each is scaled to length 1 first. Of more than 1 000, the clusters are
            found from 1 000 evenly spaced ones in canonical order.
        classes: C, the number of clusters; fewer where there are fewer distinct embeddings.

    Returns:
        The same clusters for every order of the samples; None where an embedding is not finite, and
        without samples.
    """
    if len(embeddings) == 0 or not all_finite(embeddings):
        return None
    given = embeddings.double().cpu().numpy()
    chosen = canonical_order(given, MAX_SAMPLES)
    f = given / np.maximum(np.linalg.norm(given, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        # Fewer distinct embeddings than clusters is a collapse: the score says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(min(classes, len(chosen)), n_init=3, random_state=0).fit(f[chosen])
    return Clusters(chosen, f[chosen], means.predict(f).astype(np.int64))
