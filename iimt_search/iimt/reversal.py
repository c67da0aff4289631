"""Gradient reversal (Ganin & Lempitsky 2015)."""

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grad_outputs[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Return ``x`` unchanged; backward, its gradient times ``−strength``."""
    result: Tensor = _Reverse.apply(x, strength)
    return result
