"""Domains that torchvision reads: ``usps``, ``svhn``, ``cifar10`` and ``stl10``.

Each builder gives samples (3, image_size, image_size), and raises DataError where a file can neither be
found nor downloaded, or is damaged.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.exceptions import VisibleDeprecationWarning
from numpy.typing import NDArray

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.download import RemoteFile, check, extract_tar, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, data_root
from iimt_search.data.task import Labels

# The classes that CIFAR-10 and STL-10 share, in STL-10's names: without frog (CIFAR-10) and monkey (STL-10).
OBJECTS = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "ship", "truck")
_RENAMED = {"automobile": "car"}
# In label order; the file that says so is optional and has no checksum.
_STL10_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

# Folder and split, "train" or "test" → images uint8 (N, h, w) or (N, 3, h, w), and labels int64 (N,).
_Load = Callable[[Path, str], tuple[NDArray[np.uint8], Labels]]


def _digits(name: str, files: dict[str, tuple[str, str, str]], load: _Load, image_size: int) -> DomainStream:
    """Build a set of digits that has one file for each split: (url, file name, md5)."""
    folder = data_root() / "torchvision"
    parts = []
    for split in ("train", "test"):
        file = RemoteFile(*files[split])
        fetch(name, [file], folder)
        images, y = read(folder / file.filename, partial(load, folder, split))
        parts.append(image_part(images, y, image_size))
    return DomainStream(parts[0], parts[1], CLASSES, kind="image", augmentation="digits")


def usps(image_size: int) -> DomainStream:
    """Build USPS: 7 291 + 2 007 digits from envelopes (Hull 1994), 16×16, the grey value in every channel."""
    from torchvision.datasets import USPS

    def load(folder: Path, split: str) -> tuple[NDArray[np.uint8], Labels]:
        data = USPS(folder, train=split == "train")
        return data.data, np.array(data.targets, dtype=np.int64)

    return _digits("usps", USPS.split_list, load, image_size)


def svhn(image_size: int) -> DomainStream:
    """Build SVHN: 73 257 + 26 032 digits cut from photographs of house numbers (Netzer et al. 2011).

    The 531 131 extra samples are left out.
    """
    from torchvision.datasets import SVHN

    def load(folder: Path, split: str) -> tuple[NDArray[np.uint8], Labels]:
        data = SVHN(folder, split)
        return data.data, data.labels

    return _digits("svhn", SVHN.split_list, load, image_size)


def _shared_classes(
    images: NDArray[np.uint8], labels: NDArray[Any], names: Sequence[str]
) -> tuple[NDArray[np.uint8], Labels]:
    """Return the samples of :data:`OBJECTS`, in their order, with indices into it as labels.

    Args:
        images: (N, ...).
        labels: integers (N,), indices into ``names``.
        names: the data set's own class names.
    """
    ours = [_RENAMED.get(name, name) for name in names]
    index = np.array([OBJECTS.index(name) if name in OBJECTS else -1 for name in ours], dtype=np.int64)
    y = index[labels]
    return images[y >= 0], y[y >= 0]


def _objects(
    name: str, dataset: Any, files: Iterable[Sequence[str]], load: _Load, image_size: int
) -> DomainStream:
    """Build one of the two sets of objects, of an archive that holds ``files``: (file name, md5)."""
    root = data_root() / "torchvision"
    folder = root / dataset.base_folder
    if not folder.is_dir():
        fetch(name, [RemoteFile(dataset.url, dataset.filename, dataset.tgz_md5)], root)
        extract_tar(root / dataset.filename, folder)
    # CIFAR-10's are pickles: nothing of them is opened before all are known to be the original's.
    for filename, md5 in files:
        check(name, folder / filename, md5, made_from=folder)
    parts = [read(folder, partial(load, root, split)) for split in ("train", "test")]
    train, test = (image_part(images, y, image_size) for images, y in parts)
    return DomainStream(train, test, OBJECTS, kind="image", augmentation="objects")


def cifar10(image_size: int) -> DomainStream:
    """Build CIFAR-10's share of :data:`OBJECTS`: 45 000 + 9 000 images of 32×32 pixels (Krizhevsky 2009)."""
    from torchvision.datasets import CIFAR10

    def load(root: Path, split: str) -> tuple[NDArray[np.uint8], Labels]:
        with warnings.catch_warnings():
            # The batches were pickled by a NumPy that wrote 0 for False, of which NumPy 2.4 may warn.
            warnings.filterwarnings("ignore", "dtype.*align should be passed", VisibleDeprecationWarning)
            data = CIFAR10(root, train=split == "train")
        return _shared_classes(data.data.transpose(0, 3, 1, 2), np.array(data.targets), data.classes)

    files = (*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"]))
    return _objects("cifar10", CIFAR10, files, load, image_size)


def stl10(image_size: int) -> DomainStream:
    """Build STL-10's share of :data:`OBJECTS`: 4 500 + 7 200 labelled images, 96×96 (Coates et al. 2011)."""
    from torchvision.datasets import STL10

    # torchvision would require the 2.8 GB of unlabelled images too, and hash them for every split.
    labelled = type("LabelledSTL10", (STL10,), {"train_list": STL10.train_list[:2]})

    def load(root: Path, split: str) -> tuple[NDArray[np.uint8], Labels]:
        data = labelled(root, split)
        return _shared_classes(data.data, data.labels, _STL10_NAMES)

    return _objects("stl10", STL10, (*STL10.train_list[:2], *STL10.test_list), load, image_size)
