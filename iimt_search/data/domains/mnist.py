"""Domain ``mnist``: 60 000 + 10 000 handwritten digits (LeCun et al. 1998), 28×28, white on black."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.download import RemoteFile, decompress, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, data_root
from iimt_search.data.task import Labels
from iimt_search.errors import DataError


def read_split(split: Literal["train", "t10k"]) -> tuple[NDArray[np.uint8], Labels]:
    """Return a split of MNIST as images uint8 (N, 28, 28) and labels int64 (N,).

    The idx files may lie there decompressed, compressed or not at all.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.mnist import read_image_file, read_label_file

    folder = data_root() / "torchvision" / "MNIST" / "raw"
    for filename, md5 in MNIST.resources:
        path = folder / filename.removesuffix(".gz")
        if filename.startswith(split) and not path.is_file():
            url, *mirrors = [mirror + filename for mirror in MNIST.mirrors]
            fetch("mnist", [RemoteFile(url, filename, md5, tuple(mirrors))], folder)
            decompress(folder / filename, path)
    image_path, label_path = (folder / f"{split}-{what}-ubyte" for what in ("images-idx3", "labels-idx1"))
    images: NDArray[np.uint8] = read(image_path, lambda: read_image_file(str(image_path)).numpy())
    y: Labels = read(label_path, lambda: read_label_file(str(label_path)).numpy())
    # Decompressed files have no published checksum.
    if len(images) != len(y):
        raise DataError(f"{image_path} has {len(images)} images and {label_path} {len(y)} labels")
    if y.max() >= len(CLASSES):
        raise DataError(f"{label_path} has the label {y.max()}, which is no digit")
    return images, y


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size), the grey value in every channel.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    train = image_part(*read_split("train"), image_size)
    test = image_part(*read_split("t10k"), image_size)
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")
