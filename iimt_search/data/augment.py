"""Stochastic augmentation of whole batches, on the device that holds them. It is the task's (paper).

Every augmentation takes normalised samples float (B, ...), a strength that multiplies every range (0 returns
the samples themselves) and a generator on the samples' device, and returns a tensor of the same shape.
Sampling and applying are apart, so that what several trainings have sampled can be applied in one go.
Their names and the kinds of samples that they take stand in :data:`iimt_search.kinds.AUGMENTATIONS`. The
ranges are ours.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

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
# Degrees.
_TURN = 30.0
# Vectors: standard deviations of the normalised data.
_NOISE = 0.1

Sampled = tuple[Tensor, ...]


class Augmentation(NamedTuple):
    """An augmentation in two halves.

    Attributes:
        sampler: random numbers for samples like ``x``: tensors (B, ...), one row for each sample.
        transform: makes the augmented samples of ``x``, a strength above 0 and what was sampled.
    """

    sampler: Callable[[Tensor, torch.Generator], Sampled]
    transform: Callable[[Tensor, float, Sampled], Tensor]

    def __call__(self, x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        """Return augmented samples, a new tensor of ``x``'s shape; ``x`` itself for strength 0."""
        return self.apply(x, strength, self.sample(x, strength, generator))

    def sample(self, x: Tensor, strength: float, generator: torch.Generator) -> Sampled:
        """Sample what ``apply`` needs, for samples like ``x``: nothing for strength 0."""
        return () if strength == 0 else self.sampler(x, generator)

    def apply(self, x: Tensor, strength: float, sampled: Sampled) -> Tensor:
        """Return augmented samples from what was sampled for them."""
        return x if strength == 0 else self.transform(x, strength, sampled)


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


def _sample_image(x: Tensor, generator: torch.Generator) -> Sampled:
    """Draw geometry, contrast and brightness (B, 8), and colours and a coin (B, channels + 1, 1, 1)."""
    count, channels = x.shape[:2]
    return _uniform(x, (count, 8), generator), _uniform(x, (count, channels + 1, 1, 1), generator)


def _vary(x: Tensor, strength: float, sampled: Sampled, colour: float) -> tuple[Tensor, Tensor]:
    """Vary the geometry and colours of each image; also toss a coin for it, bool (B, 1, 1, 1)."""
    u, v = sampled[0] * strength, sampled[1]
    moved = _move(x, u[:, :6])
    contrast = (1 + _CONTRAST * u[:, 6]).reshape(-1, 1, 1, 1)
    brightness = (_BRIGHTNESS * u[:, 7]).reshape(-1, 1, 1, 1)
    return moved * contrast + brightness + colour * strength * v[:, :-1], v[:, -1:] < 0


def _apply_digits(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    varied, inverted = _vary(x, strength, sampled, _INK)
    return torch.where(inverted, -varied, varied)


def _apply_image(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    return _vary(x, strength, sampled, _TINT)[0]


def _apply_objects(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    varied, mirrored = _vary(x, strength, sampled, _TINT)
    return torch.where(mirrored, varied.flip(-1), varied)


def _sample_series(x: Tensor, generator: torch.Generator) -> Sampled:
    """Draw factors (B, channels, 1), a roll (B, 1, 1) and noise of ``x``'s shape."""
    count, channels, _ = x.shape
    factor = _uniform(x, (count, channels, 1), generator)
    return factor, _uniform(x, (count, 1, 1), generator), _normal(x, generator)


def _apply_series(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    factor, roll, noise = sampled
    channels, length = x.shape[1:]
    # Every whole number of steps up to the furthest is as likely as the others.
    furthest = int(_ROLL * strength * length)
    steps = (roll * (furthest + 0.5)).round().clamp(-furthest, furthest).long()
    place = (torch.arange(length, device=x.device) - steps) % length
    rolled = (x * (1 + _AMPLITUDE * strength * factor)).gather(2, place.expand(-1, channels, -1))
    return rolled + _JITTER * strength * noise


def _sample_motion(x: Tensor, generator: torch.Generator) -> Sampled:
    """Draw what :func:`_sample_series` does, an axis (B, 3) and an angle (B, 1, 1)."""
    axis = torch.nn.functional.normalize(_normal(x[:, :1, :1].expand(-1, 3, 1), generator), dim=1)
    return *_sample_series(x, generator), axis, _uniform(x, (len(x), 1, 1), generator)


def _apply_motion(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    *of_series, axis, u = sampled
    count, channels, length = x.shape
    angle = u * math.radians(_TURN) * strength
    cross = torch.linalg.cross(axis.transpose(1, 2), torch.eye(3, device=x.device, dtype=x.dtype)[None])
    along = axis * axis.transpose(1, 2)
    turn = angle.cos() * torch.eye(3, device=x.device, dtype=x.dtype) + angle.sin() * cross
    turn = turn + (1 - angle.cos()) * along
    whole = channels // 3 * 3
    threes = x[:, :whole].reshape(count, -1, 3, length)
    # No matrix product: those may be bfloat16.
    turned = (turn[:, None, :, :, None] * threes[:, :, None]).sum(dim=3).reshape(count, whole, length)
    return _apply_series(torch.cat([turned, x[:, whole:]], dim=1), strength, tuple(of_series))


def _sample_noise(x: Tensor, generator: torch.Generator) -> Sampled:
    return (_normal(x, generator),)


def _apply_noise(x: Tensor, strength: float, sampled: Sampled) -> Tensor:
    return x + _NOISE * strength * sampled[0]


augment_image = Augmentation(_sample_image, _apply_image)
"""Shift, rotate, scale and shear each image, change its contrast and colours.

Takes images float (B, channels, H, W) in [−1, 1]; what it returns may leave that range a little.
"""

augment_digits = Augmentation(_sample_image, _apply_digits)
"""Do what :data:`augment_image` does in any colour, and invert every second image.

A digit stays what it is in any ink on any paper; mirrored it would not.
"""

augment_objects = Augmentation(_sample_image, _apply_objects)
"""Do what :data:`augment_image` does, and mirror every second image: a car has two sides."""

augment_series = Augmentation(_sample_series, _apply_series)
"""Scale each channel by 1 ± 0.1, roll each sample by up to 10 % of its length, add noise of deviation 0.05.

Takes series float (B, channels, length), about standard normal. A roll is the same for all channels of a
sample: what they say together stays together.
"""

augment_motion = Augmentation(_sample_motion, _apply_motion)
"""Turn each sample by up to 30°, about one axis for all, and do what :data:`augment_series` does.

Channels 1 to 3, 4 to 6, … are the axes of a sensor; a rest of one or two is not turned. What turns is what
differs from the data's mean, in units of its deviation.
"""

augment_noise = Augmentation(_sample_noise, _apply_noise)
"""Add Gaussian noise of standard deviation 0.1 to samples float (B, ...), about standard normal."""

augment_none = Augmentation(lambda x, generator: (), lambda x, strength, sampled: x)
"""Return the samples themselves."""
