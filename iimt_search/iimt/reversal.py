"""Gradient reversal (Ganin & Lempitsky 2015)."""

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strength: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (strength,) = ctx.saved_tensors
        return -strength * grad_outputs[0], None


def reverse_gradient(x: Tensor, strength: float | Tensor) -> Tensor:
    """Return ``x`` unchanged; backward, its gradient times ``−strength``.

    Args:
        x: float, any shape.
        strength: a number, or a tensor of no dimension on any device, as one for each member under
            ``torch.vmap``.
    """
    result: Tensor = _Reverse.apply(x, torch.as_tensor(strength, dtype=x.dtype))
    return result
