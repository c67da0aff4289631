"""Domain ``cifar10``: the classes of CIFAR-10 that STL-10 has too (Krizhevsky 2009).

45 000 + 9 000 images of 32×32 pixels.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.exceptions import VisibleDeprecationWarning
from numpy.typing import NDArray

from iimt_search.data.download import RemoteFile, check, extract_tar, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, PartStream, data_root
from iimt_search.data.task import Labels

# In STL-10's names; CIFAR-10's frog and STL-10's monkey are in neither domain.
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "ship", "truck")
_RENAMED = {"automobile": "car"}


def shared_classes(
    images: NDArray[np.uint8], labels: NDArray[Any], names: Sequence[str]
) -> tuple[NDArray[np.uint8], Labels]:
    """Return the samples of :data:`CLASSES`, in their order, with indices into it as labels.

    Args:
        images: (N, ...).
        labels: integers (N,), indices into ``names``.
        names: the data set's own class names.
    """
    ours = [_RENAMED.get(name, name) for name in names]
    index = np.array([CLASSES.index(name) if name in CLASSES else -1 for name in ours], dtype=np.int64)
    y = index[labels]
    return images[y >= 0], y[y >= 0]


def _part(train: bool, image_size: int) -> PartStream:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The batches were pickled by a NumPy that wrote 0 for False, of which NumPy 2.4 may warn.
        warnings.filterwarnings("ignore", "dtype.*align should be passed", VisibleDeprecationWarning)
        data = CIFAR10(data_root() / "torchvision", train)
    images = data.data.transpose(0, 3, 1, 2)
    return image_part(*shared_classes(images, np.array(data.targets), data.classes), image_size)


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size) of :data:`CLASSES`.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    from torchvision.datasets import CIFAR10

    root = data_root() / "torchvision"
    folder = root / CIFAR10.base_folder
    if not folder.is_dir():
        fetch("cifar10", [RemoteFile(CIFAR10.url, CIFAR10.filename, CIFAR10.tgz_md5)], root)
        extract_tar(root / CIFAR10.filename, folder)
    # They are pickles: nothing of them is opened before all are known to be the original's.
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for filename, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        check("cifar10", folder / filename, md5, made_from=folder)
    train, test = (read(folder, partial(_part, train, image_size)) for train in (True, False))
    return DomainStream(train, test, CLASSES, kind="image", augmentation="objects")
