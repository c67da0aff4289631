"""Stochastic augmentation of whole batches, on the device that holds them. It is the task's (paper).

Every augmentation takes normalised samples float (B, ...), a strength that multiplies every range (0 returns
the samples themselves) and a generator on the samples' device, and returns a tensor of the same shape. The
ranges are ours.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Images: shares of the side, degrees, and shares of half the range of values.
_SHIFT, _ANGLE, _SCALE, _SHEAR = 0.12, 12.0, 0.12, 0.1
_CONTRAST, _BRIGHTNESS = 0.3, 0.2
# A digit may have any ink; what a photograph shows is also known by its colour.
_INK, _TINT = 0.4, 0.1
# Series: standard deviations of the normalised data, a factor, and a share of the length.
_JITTER, _AMPLITUDE, _ROLL = 0.05, 0.1, 0.1
# Vectors: standard deviations of the normalised data.
_NOISE = 0.1

Augmentation = Callable[[Tensor, float, torch.Generator], Tensor]


def _uniform(x: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from [−1, 1), with the type and device of ``x``."""
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype).mul_(2).sub_(1)


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a standard normal value for each of ``x``'s."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _move(x: Tensor, u: Tensor) -> Tensor:
    """Rotate, scale, shear and shift each image by its row of ``u``, float (B, 6)."""
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
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _vary(x: Tensor, strength: float, generator: torch.Generator, colour: float) -> tuple[Tensor, Tensor]:
    """Vary the geometry and colours of each image; also toss a coin for it, bool (B, 1, 1, 1)."""
    u = _uniform(x, (len(x), 8), generator).mul_(strength)
    moved = _move(x, u[:, :6])
    contrast = (1 + _CONTRAST * u[:, 6]).reshape(-1, 1, 1, 1)
    brightness = (_BRIGHTNESS * u[:, 7]).reshape(-1, 1, 1, 1)
    v = _uniform(x, (len(x), x.shape[1] + 1, 1, 1), generator)
    return moved * contrast + brightness + colour * strength * v[:, :-1], v[:, -1:] < 0


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
    varied, inverted = _vary(x, strength, generator, _INK)
    return torch.where(inverted, -varied, varied)


def augment_image(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift, rotate, scale and shear each image, change its contrast and colours.

    Arguments and result are those of :func:`augment_digits`.
    """
    return x if strength == 0 else _vary(x, strength, generator, _TINT)[0]


def augment_objects(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Do what :func:`augment_image` does, and mirror every second image: a car has two sides."""
    if strength == 0:
        return x
    varied, mirrored = _vary(x, strength, generator, _TINT)
    return torch.where(mirrored, varied.flip(-1), varied)


def augment_series(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Scale each channel, roll each sample around in time, add noise.

    A roll is the same for all channels of a sample: what they say together stays together.

    Args:
        x: float (B, channels, length), about standard normal.
        strength: multiplies the ranges: a factor of 1 ± 0.1 for each channel, a roll of up to 10 % of the
            length either way, noise of standard deviation 0.05; 0 returns ``x``.
        generator: source of randomness, on ``x``'s device.

    Returns:
        A new tensor of the same shape.
    """
    if strength == 0:
        return x
    count, channels, length = x.shape
    factor = 1 + _AMPLITUDE * strength * _uniform(x, (count, channels, 1), generator)
    furthest = int(_ROLL * strength * length)
    steps = torch.randint(
        -furthest, furthest + 1, (count, 1, 1), generator=generator, device=x.device, dtype=torch.int64
    )
    place = (torch.arange(length, device=x.device) - steps) % length
    rolled = (x * factor).gather(2, place.expand(-1, channels, -1))
    return rolled + _JITTER * strength * _normal(x, generator)


def augment_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.1 · ``strength``.

    Args:
        x: float (B, ...), about standard normal.
        strength: multiplies the noise; 0 returns ``x``.
        generator: source of randomness, on ``x``'s device.

    Returns:
        A new tensor of the same shape.
    """
    return x if strength == 0 else x + _NOISE * strength * _normal(x, generator)


def augment_none(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return ``x`` itself."""
    return x


AUGMENTATIONS: dict[str, Augmentation] = {
    "digits": augment_digits,
    "image": augment_image,
    "objects": augment_objects,
    "series": augment_series,
    "noise": augment_noise,
    "none": augment_none,
}
