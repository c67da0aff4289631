"""SND: how densely do the target's neighbourhoods lie? (Saito et al. 2021)."""

import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite

TEMPERATURE = 0.05
CHUNK = 512


def snd(embeddings: Tensor) -> float:
    """Return the mean entropy of the samples' soft neighbourhoods.

    Row i of softmax(F Fᵀ / 0.05), without its diagonal, says how near every other sample is to sample i.

    Args:
        embeddings: float (N, D), on the target; each is scaled to length 1 first.

    Returns:
        Nats in [0, ln(N − 1)]: high where every sample has many near neighbours. A total collapse of
        the embeddings is perfect, ln(N − 1). NaN where an embedding is not finite, and for fewer than
        two samples, which have no neighbours.

    >>> round(snd(torch.ones(5, 2)), 4)  # ln 4, the most for 5 samples
    1.3863
    """
    if len(embeddings) < 2 or not all_finite(embeddings):
        return float("nan")
    f = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    total = 0.0
    for start in range(0, len(f), CHUNK):
        similarity = f[start : start + CHUNK] @ f.T / TEMPERATURE
        rows = torch.arange(len(similarity), device=f.device)
        similarity[rows, start + rows] = -torch.inf
        p = torch.softmax(similarity, dim=-1)
        total -= float(torch.xlogy(p, p).sum())
    return total / len(f)


def score(predictions: Predictions) -> float:
    """Score a model by the soft neighbourhood density of its target embeddings."""
    return snd(predictions.target_embeddings)
