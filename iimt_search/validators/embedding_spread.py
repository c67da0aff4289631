"""How far the target embeddings spread over directions: a check, not a ranking."""

from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def embedding_spread(embeddings: Tensor) -> float:
    """Return 1 − ‖(1/N) Σ_i f_i / ‖f_i‖‖², the mean squared distance of directions from their mean.

    Args:
        embeddings: float (N, D).

    Returns:
        A value in [0, 1]: 0 where all embeddings point the same way, a total collapse; NaN where one
        is not finite. An embedding of length 0 points nowhere.

    >>> import torch
    >>> round(embedding_spread(torch.ones(3, 2)), 6)
    0.0
    >>> embedding_spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    1.0
    """
    if not all_finite(embeddings):
        return float("nan")
    f = embeddings.double()
    directions = f / f.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # Rounding may leave a square of 1 + 1e-16.
    return max(0.0, 1.0 - float(directions.mean(dim=0).square().sum()))


def score(predictions: Predictions) -> float:
    """Check the spread of the target embeddings."""
    return embedding_spread(predictions.target_embeddings)
