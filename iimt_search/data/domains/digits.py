"""Domain ``digits``: scikit-learn's 1 797 real handwritten digits (UCI optdigits, 8×8, 17 grey levels)."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from iimt_search.data.images import resize_grey
from iimt_search.data.task import Domain, Labelled

CLASSES = tuple("0123456789")
_TEST_SHARE = 0.25


def split_indices(y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the fixed (train, test) indices into scikit-learn's digits, stratified by class.

    ``digits`` and ``digits-m`` share this split, so that a digit in any test part is in no training part.
    """
    train, test = train_test_split(np.arange(len(y)), test_size=_TEST_SHARE, stratify=y, random_state=0)
    return train, test


def load_grey(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all digits as uint8 (1797, size, size), white on black, and labels int64 (1797,)."""
    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return resize_grey(grey, size), bunch.target.astype(np.int64)


def build(image_size: int) -> Domain:
    """Build the domain with samples (3, image_size, image_size), the grey value in every channel."""
    grey, y = load_grey(image_size)
    x = np.repeat(grey[:, None], 3, axis=1)
    train, test = split_indices(y)
    return Domain(Labelled(x[train], y[train]), Labelled(x[test], y[test]), CLASSES, augmentation="digits")
