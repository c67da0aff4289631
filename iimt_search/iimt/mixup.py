"""Mixing coefficients and mixtures (Yan et al. 2020, sections 3.1 to 3.4)."""

import numpy as np
import torch
from torch import Tensor


def mixing_coefficients(alpha: float, count: int, rng: np.random.Generator) -> Tensor:
    """Draw λ' = max(λ, 1 − λ) with λ ~ Beta(α, α), one for each sample.

    Args:
        alpha: α > 0; near 1 makes middle values likelier, near 0 makes 1 likelier.
        count: how many, B.
        rng: source of randomness.

    Returns:
        float32 (B,) in [0.5, 1], so that the first operand of a mixture always dominates.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"`alpha > 0` must hold, got {alpha}")
    drawn = rng.beta(alpha, alpha, size=count)
    return torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32))


def mix(dominant: Tensor, other: Tensor, coefficients: Tensor) -> Tensor:
    """Return λ' · dominant + (1 − λ') · other, row by row.

    Args:
        dominant: float (B, ...).
        other: float, same shape.
        coefficients: λ', float (B,).
    """
    weight = coefficients.to(dominant.dtype).reshape(-1, *[1] * (dominant.dim() - 1))
    return torch.lerp(other, dominant, weight)
