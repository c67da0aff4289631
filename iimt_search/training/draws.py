"""What one training draws for one step."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.data.augment import Draws
from iimt_search.iimt.mixup import mixing_coefficients
from iimt_search.settings import TrainSettings


class StepDraws(NamedTuple):
    """Which samples a step takes and how it mixes them.

    Attributes:
        source: indices of source samples, int64 (B,).
        target: indices of target samples, int64 (B,).
        coefficients: λ' between the domains, within the source and within the target, float32 (3, B).
        orders: with which sample each is mixed, within the source and within the target, int64 (2, B).
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    coefficients: Tensor
    orders: Tensor


class AugmentationDraws(NamedTuple):
    """What the augmentations of a step have drawn, on the device.

    Attributes:
        virtual: for K times the target's samples.
        source: for the source's samples; nothing where inputs are not augmented.
        target: for the target's.
    """

    virtual: Draws
    source: Draws
    target: Draws


def draw_step(settings: TrainSettings, sources: int, targets: int, rng: np.random.Generator) -> StepDraws:
    """Draw a step's samples and mixtures.

    Args:
        settings: batch size B and α.
        sources: how many source samples there are.
        targets: how many target samples there are.
        rng: source of randomness.
    """
    size, alpha = settings.batch_size, settings.alpha
    source, target = (rng.integers(count, size=size) for count in (sources, targets))
    between = mixing_coefficients(alpha, size, rng)
    within_source, order_source = mixing_coefficients(alpha, size, rng), rng.permutation(size)
    within_target, order_target = mixing_coefficients(alpha, size, rng), rng.permutation(size)
    return StepDraws(
        source,
        target,
        torch.stack([between, within_source, within_target]),
        torch.from_numpy(np.stack([order_source, order_target])),
    )
