"""Domain ``usps``: 7 291 + 2 007 digits from envelopes (Hull 1994), 16×16, white on black."""

import numpy as np

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.download import RemoteFile, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, PartStream, data_root


def _part(split: str, image_size: int) -> PartStream:
    from torchvision.datasets import USPS

    folder = data_root() / "torchvision"
    file = RemoteFile(*USPS.split_list[split])
    fetch("usps", [file], folder)
    data = read(folder / file.filename, lambda: USPS(folder, train=split == "train"))
    return image_part(data.data, np.array(data.targets, dtype=np.int64), image_size)


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size), the grey value in every channel.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    train, test = (_part(split, image_size) for split in ("train", "test"))
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")
