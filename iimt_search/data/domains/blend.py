"""The MNIST-M recipe: |photo patch − digit| per colour channel (Ganin et al. 2016, section 5.2.4)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def blend(
    grey: NDArray[np.uint8],
    photos: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    patch: int,
) -> NDArray[np.uint8]:
    """Blend each digit with a random patch of a random photograph.

    Args:
        grey: uint8 (N, S, S), white digits on black.
        photos: each uint8 (H, W, 3) with H and W at least ``patch``.
        rng: draws the photo and the place of every patch.
        patch: side of the square cut from the photo, in pixels; it is reduced or enlarged to S.

    Returns:
        uint8 (N, 3, S, S).
    """
    size = grey.shape[-1]
    out = np.empty((len(grey), 3, size, size), dtype=np.uint8)
    for i, digit in enumerate(grey):
        photo = photos[int(rng.integers(len(photos)))]
        top = rng.integers(photo.shape[0] - patch + 1)
        left = rng.integers(photo.shape[1] - patch + 1)
        cut = Image.fromarray(photo[top : top + patch, left : left + patch])
        background = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC)).astype(np.int16)
        out[i] = np.abs(background - digit[..., None].astype(np.int16)).astype(np.uint8).transpose(2, 0, 1)
    return out
