"""Information maximisation on the target: mutual information of sample and predicted class."""

from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.entropy import mean_entropy


def information_maximisation(probabilities: Tensor) -> float:
    """Return H((1/N) Σ_i p_i) − (1/N) Σ_i H(p_i).

    Args:
        probabilities: float (N, C), rows sum to 1.

    Returns:
        Nats in [0, ln C]; 0 for a collapse to one class and for uniform predictions, ln C for
        confident predictions spread evenly over the classes. NaN where an input is NaN, and without samples.

    >>> import torch
    >>> round(information_maximisation(torch.eye(2)), 4)
    0.6931
    >>> information_maximisation(torch.tensor([[1.0, 0.0], [1.0, 0.0]])) == 0
    True
    """
    p = probabilities.double()
    return mean_entropy(p.mean(dim=0, keepdim=True)) - mean_entropy(p)


def score(predictions: Predictions) -> float:
    """Score a model by the information its target predictions carry."""
    return information_maximisation(predictions.target_probabilities)
