"""Domain ``digits-m``: handwritten digits blended with scikit-learn's sample photographs, as MNIST-M."""

import numpy as np
from sklearn.datasets import load_sample_images

from iimt_search.data.domains.blend import blend
from iimt_search.data.domains.digits import CLASSES, load_grey, split_indices
from iimt_search.data.task import Domain, Labelled

_PATCH = 28


def build(image_size: int) -> Domain:
    """Build the domain with samples (3, image_size, image_size); the same pixels on every machine."""
    grey, y = load_grey(image_size)
    photos = load_sample_images().images
    x = blend(grey, photos, np.random.default_rng(20_010_067), _PATCH)
    train, test = split_indices(y)
    return Domain(Labelled(x[train], y[train]), Labelled(x[test], y[test]), CLASSES, augmentation="digits")
