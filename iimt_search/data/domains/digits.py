"""Domains ``digits`` and ``digits-m``: handwritten digits, plain and blended with photographs, as MNIST-M.

They are scikit-learn's 1 797 real ones (UCI optdigits, 8×8, 17 grey levels).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from iimt_search.data.images import resize
from iimt_search.data.task import Domain, Labelled

CLASSES = tuple("0123456789")
PATCH = 28
_TEST_SHARE = 0.25


def blend(
    grey: NDArray[np.uint8], photos: Sequence[NDArray[np.uint8]], rng: np.random.Generator, patch: int
) -> NDArray[np.uint8]:
    """Blend each digit with a random patch of a random photograph, as MNIST-M was made.

    The recipe is |patch − digit| per colour channel (Ganin et al. 2016, section 5.2.4).

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


def split_indices(y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the fixed (train, test) indices into scikit-learn's digits, stratified by class.

    Both domains share this split, so that a digit in any test part is in no training part.
    """
    train, test = train_test_split(np.arange(len(y)), test_size=_TEST_SHARE, stratify=y, random_state=0)
    return train, test


def load_grey(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all digits as uint8 (1797, size, size), white on black, and labels int64 (1797,)."""
    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return resize(grey, size), bunch.target.astype(np.int64)


def _domain(x: NDArray[np.uint8], y: NDArray[np.int64]) -> Domain:
    train, test = (Labelled(x[part], y[part]) for part in split_indices(y))
    return Domain(train, test, CLASSES, augmentation="digits")


def build(image_size: int) -> Domain:
    """Build ``digits`` with samples (3, image_size, image_size), the grey value in every channel."""
    grey, y = load_grey(image_size)
    return _domain(np.repeat(grey[:, None], 3, axis=1), y)


def build_m(image_size: int) -> Domain:
    """Build ``digits-m`` with samples (3, image_size, image_size); the same pixels on every machine."""
    grey, y = load_grey(image_size)
    photos = load_sample_images().images
    return _domain(blend(grey, photos, np.random.default_rng(20_010_067), PATCH), y)
