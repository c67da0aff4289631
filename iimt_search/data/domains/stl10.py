"""Domain ``stl10``: the classes of STL-10 that CIFAR-10 has too (Coates et al. 2011).

4 500 + 7 200 labelled images of 96×96 pixels.
"""

from functools import partial
from pathlib import Path

from iimt_search.data.domains.cifar10 import CLASSES, shared_classes
from iimt_search.data.download import RemoteFile, check, extract_tar, fetch, read
from iimt_search.data.images import image_part
from iimt_search.data.store import DomainStream, PartStream, data_root

# In label order; the file that says so is optional and has no checksum.
_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def _part(root: Path, split: str, image_size: int) -> PartStream:
    from torchvision.datasets import STL10

    # torchvision would require the 2.8 GB of unlabelled images too, and hash them for every split.
    labelled = type("LabelledSTL10", (STL10,), {"train_list": STL10.train_list[:2]})
    data = labelled(root, split)
    return image_part(*shared_classes(data.data, data.labels, _NAMES), image_size)


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size) of the labelled parts.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    from torchvision.datasets import STL10

    root = data_root() / "torchvision"
    folder = root / STL10.base_folder
    if not folder.is_dir():
        fetch("stl10", [RemoteFile(STL10.url, STL10.filename, STL10.tgz_md5)], root)
        extract_tar(root / STL10.filename, folder)
    for filename, md5 in (*STL10.train_list[:2], *STL10.test_list):
        check("stl10", folder / filename, md5, made_from=folder)
    train, test = (read(folder, partial(_part, root, split, image_size)) for split in ("train", "test"))
    return DomainStream(train, test, CLASSES, kind="image", augmentation="objects")
