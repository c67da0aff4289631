"""Stochastic augmentation of whole batches, on the device that holds them. It is the task's (paper)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_SHIFT, _ANGLE, _SCALE, _SHEAR = 0.12, 12.0, 0.12, 0.1
_CONTRAST, _BRIGHTNESS, _COLOUR = 0.3, 0.2, 0.4

Augmentation = Callable[[Tensor, float, torch.Generator], Tensor]


def augment_digits(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift, rotate, scale and shear each image, change its contrast and colours, invert every second.

    A digit stays what it is under these, in any ink on any paper; mirrored it would not.

    Args:
        x: float (B, channels, H, W) in [−1, 1].
        strength: multiplies every range; 0 returns ``x``.
        generator: source of randomness, on ``x``'s device.

    Returns:
        A new tensor of the same shape; values may leave [−1, 1] a little.
    """
    if strength == 0:
        return x
    count = len(x)
    u = torch.rand(count, 8, generator=generator, device=x.device).mul_(2).sub_(1).mul_(strength)
    angle = u[:, 0] * math.radians(_ANGLE)
    cos, sin = angle.cos(), angle.sin()
    sx, sy = 1 + _SCALE * u[:, 1], 1 + _SCALE * u[:, 2]
    shear = _SHEAR * u[:, 3]
    theta = torch.stack(
        [
            torch.stack([sx * cos, sy * (shear * cos - sin), 2 * _SHIFT * u[:, 4]], dim=1),
            torch.stack([sx * sin, sy * (shear * sin + cos), 2 * _SHIFT * u[:, 5]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    contrast = (1 + _CONTRAST * u[:, 6]).reshape(-1, 1, 1, 1)
    brightness = (_BRIGHTNESS * u[:, 7]).reshape(-1, 1, 1, 1)
    v = torch.rand(count, x.shape[1] + 1, 1, 1, generator=generator, device=x.device).mul_(2).sub_(1)
    colour = _COLOUR * strength * v[:, :-1]
    ink = torch.where(v[:, -1:] < 0, -1.0, 1.0)
    return (moved * contrast + brightness + colour) * ink


AUGMENTATIONS: dict[str, Augmentation] = {
    "digits": augment_digits,
}
