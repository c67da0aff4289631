"""Domains ``mnist`` and ``mnist-m``: handwritten digits, plain and blended with photographs.

MNIST has 60 000 + 10 000 digits (LeCun et al. 1998), 28×28, white on black. MNIST-M (Ganin et al. 2016) is
made of them and of photographs that are placed by hand; the original's are BSDS500's.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.domains.digits import CLASSES, PATCH, blend
from iimt_search.data.download import RemoteFile, decompress, fetch, read
from iimt_search.data.images import CHUNK, image_part, resize
from iimt_search.data.store import DomainStream, PartStream, data_root
from iimt_search.data.task import Labels
from iimt_search.errors import DataError

_SEED = 20_010_067
_SUFFIXES = (".jpg", ".jpeg", ".png")


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
    """Build ``mnist`` with samples (3, image_size, image_size), the grey value in every channel.

    Raises:
        DataError: a file can neither be found nor downloaded, or is damaged.
    """
    train = image_part(*read_split("train"), image_size)
    test = image_part(*read_split("t10k"), image_size)
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")


def _load_photo(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))


def load_photos() -> list[NDArray[np.uint8]]:
    """Return the photographs in ``data_root()/photos`` in the order of their names, uint8 (H, W, 3), RGB.

    Raises:
        DataError: there is none, or one is damaged or smaller than a digit.
    """
    folder = data_root() / "photos"
    names = folder.iterdir() if folder.is_dir() else ()
    paths = sorted(path for path in names if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DataError(
            f"mnist-m needs photographs, and there is no .jpg or .png file in {folder}: put some there, such "
            f"as those of BSDS500 (the original's), or set IIMT_DATA to a folder that has them in photos/"
        )
    photos = [read(path, partial(_load_photo, path)) for path in paths]
    for path, (height, width, _) in zip(paths, (photo.shape for photo in photos), strict=True):
        if min(height, width) < PATCH:
            raise DataError(
                f"{path} has {width}×{height} pixels, and at least {PATCH}×{PATCH} are needed: remove it"
            )
    return photos


def build_m(image_size: int) -> DomainStream:
    """Build ``mnist-m`` with samples (3, image_size, image_size); the same pixels from the same photographs.

    Digits are blended at their own 28×28 pixels, as the original's, and resized then.

    Raises:
        DataError: MNIST or the photographs are missing or damaged.
    """
    photos = load_photos()

    def part(split: Literal["train", "t10k"], seed: np.random.SeedSequence) -> PartStream:
        grey, y = read_split(split)

        def chunks() -> Iterator[NDArray[np.uint8]]:
            rng = np.random.default_rng(seed)
            for start in range(0, len(grey), CHUNK):
                yield resize(blend(grey[start : start + CHUNK], photos, rng, PATCH), image_size)

        return PartStream(len(grey), (3, image_size, image_size), chunks, y)

    seeds = np.random.SeedSequence(_SEED).spawn(2)
    train, test = part("train", seeds[0]), part("t10k", seeds[1])
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")
