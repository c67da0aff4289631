"""Domain ``mnist-m``: MNIST blended with photographs (Ganin et al. 2016), BSDS500's in the original."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.domains.blend import blend
from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.domains.mnist import read_split
from iimt_search.data.download import read
from iimt_search.data.images import CHUNK, resize_colour
from iimt_search.data.store import DomainStream, PartStream, data_root
from iimt_search.data.task import Labels
from iimt_search.errors import DataError

_SEED = 20_010_067
_PATCH = 28
_SUFFIXES = (".jpg", ".jpeg", ".png")


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
    photos = []
    for path in paths:
        photo = read(path, partial(_load_photo, path))
        height, width, _ = photo.shape
        if min(height, width) < _PATCH:
            raise DataError(
                f"{path} has {width}×{height} pixels, and at least {_PATCH}×{_PATCH} are needed: remove it"
            )
        photos.append(photo)
    return photos


def _part(
    grey: NDArray[np.uint8],
    y: Labels,
    photos: Sequence[NDArray[np.uint8]],
    seed: np.random.SeedSequence,
    image_size: int,
) -> PartStream:
    def chunks() -> Iterator[NDArray[np.uint8]]:
        rng = np.random.default_rng(seed)
        for start in range(0, len(grey), CHUNK):
            blended = blend(grey[start : start + CHUNK], photos, rng, _PATCH)
            yield resize_colour(blended, image_size)

    return PartStream(len(grey), (3, image_size, image_size), chunks, y)


def build(image_size: int) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size); the same pixels from the same photographs.

    Digits are blended at their own 28×28 pixels, as the original's, and resized then.

    Raises:
        DataError: MNIST or the photographs are missing or damaged.
    """
    photos = load_photos()
    seeds = np.random.SeedSequence(_SEED).spawn(2)
    train = _part(*read_split("train"), photos, seeds[0], image_size)
    test = _part(*read_split("t10k"), photos, seeds[1], image_size)
    return DomainStream(train, test, CLASSES, kind="image", augmentation="digits")
