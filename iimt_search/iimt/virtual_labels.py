"""Virtual labels of target samples (Yan et al. 2020, section 3.1)."""

import torch
from torch import Tensor


def sharpen(probabilities: Tensor, temperature: float | Tensor) -> Tensor:
    """Sharpen distributions: q[c] = p[c]^(1/T) / Σ_c' p[c']^(1/T).

    Args:
        probabilities: float (..., C), rows in [0, 1] that sum to 1.
        temperature: T > 0; below 1 sharpens, 1 changes nothing, above 1 flattens. A tensor of several
            must fit the probabilities' shape; it is not checked, which would wait for the device.

    Returns:
        float (..., C), rows that sum to 1. Computed from logarithms, so that a small T does not
        underflow every class to 0.

    Raises:
        ValueError: ``temperature`` is a number and not positive.
    """
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"`temperature > 0` must hold, got {temperature}")
    tiny = torch.finfo(probabilities.dtype).tiny
    logs = probabilities.clamp_min(tiny).log()
    # Relative to the greatest first: divided by a small T, every logarithm alone would be −inf.
    return torch.softmax((logs - logs.amax(dim=-1, keepdim=True)) / temperature, dim=-1)


def mean_prediction(logits: Tensor) -> Tensor:
    """Average the predictions over K augmentations: (1/K) Σ_k softmax(h(x̂_ik)).

    Args:
        logits: float (K, B, C), the model's logits for each of K augmentations of B target samples.

    Returns:
        float (B, C), rows that sum to 1, detached: no gradient flows through virtual labels.
    """
    return torch.softmax(logits.detach(), dim=-1).mean(dim=0)
