"""Domain ``svhn``: 73 257 + 26 032 digits cut from photographs of house numbers (Netzer et al. 2011)."""

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.download import RemoteFile, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, PartStream, data_root


def _part(split: str, image_size: int) -> PartStream:
    from torchvision.datasets import SVHN

    folder = data_root() / "torchvision"
    file = RemoteFile(*SVHN.split_list[split])
    fetch("svhn", [file], folder)
    data = read(folder / file.filename, lambda: SVHN(folder, split))
    return image_part(data.data, data.labels, image_size)


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size); the 531 131 extra samples are left out.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    train, test = (_part(split, image_size) for split in ("train", "test"))
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")
