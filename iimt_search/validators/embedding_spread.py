"""How far the target embeddings spread over directions: a check, not a ranking."""

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def embedding_spread(embeddings: Tensor) -> float:
    """Return (1/N) Σ_i ‖d_i − d̄‖² of the directions d_i = f_i / ‖f_i‖, with d̄ their mean.

    Args:
        embeddings: float (N, D).

    Returns:
        A value in [0, 1]: 1 − ‖d̄‖² where no embedding is 0. 0 where all point the same way or all
        are 0, a total collapse; an embedding of length 0 has the direction 0. NaN where one is not
        finite, and without samples.

    >>> import torch
    >>> round(embedding_spread(torch.ones(3, 2)), 6)
    0.0
    >>> embedding_spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    1.0
    >>> embedding_spread(torch.zeros(10, 4))
    0.0
    """
    if len(embeddings) == 0 or not all_finite(embeddings):
        return float("nan")
    f = embeddings.double()
    directions = f / f.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return float((directions - directions.mean(dim=0)).square().sum(dim=1).mean())


def score(predictions: Predictions) -> float:
    """Check the spread of the target embeddings."""
    return embedding_spread(predictions.target_embeddings)
