"""What is predicted where logits tie: nothing in it depends on the order of the classes."""

import torch
from torch import Tensor


def votes(logits: Tensor) -> Tensor:
    """Return each sample's vote, shared alike by the classes with its highest logit.

    Args:
        logits: float (N, C), finite.

    Returns:
        float64 (N, C), rows sum to 1: 1 for the predicted class, 1/m for each of m that tie.

    >>> votes(torch.tensor([[2.0, 0.0], [1.0, 1.0]])).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    highest = (logits == logits.amax(dim=-1, keepdim=True)).double()
    return highest / highest.sum(dim=-1, keepdim=True)


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class with the highest logit of each sample, −1 where several tie for it.

    Args:
        logits: float (N, C), finite.

    Returns:
        int64 (N,).

    >>> predicted_classes(torch.tensor([[0.0, 2.0], [1.0, 1.0]])).tolist()
    [1, -1]
    """
    share, predicted = votes(logits).max(dim=-1)
    return torch.where(share == 1, predicted, -1)
