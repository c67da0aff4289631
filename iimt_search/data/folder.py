"""A domain from a folder of images: one folder for each class, or, for a target, all in one."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from iimt_search.data.images import SUFFIXES, read_image
from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels, Samples
from iimt_search.errors import DataError

_CHUNK = 256


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


class ImageFolder:
    """The image files of a folder.

    Attributes:
        files: paths, class after class.
        classes: class names in order, or None where the images lie flat.
        y: index into ``classes`` for each file, int64 (N,), or None.

    Raises:
        DataError: no such folder, no image, an empty class, images beside class folders.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        flat = _images_in(folder)
        class_folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not flat and not class_folders:
            raise DataError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}) and no class folder")
        if flat and class_folders:
            raise DataError(
                f"{folder} holds images ({flat[0].name}) beside class folders ({class_folders[0].name}/); "
                f"put them all flat, or all into class folders"
            )
        members = [_images_in(path) for path in class_folders]
        for path, files in zip(class_folders, members, strict=True):
            if not files:
                raise DataError(f"class folder {path} holds no image")
        self.files = [*flat, *chain.from_iterable(members)]
        self.classes = tuple(path.name for path in class_folders) or None
        counts = [len(files) for files in members]
        self.y: Labels | None = np.repeat(np.arange(len(counts)), counts) if class_folders else None

    def stream(self, size: int) -> PartStream:
        """Return the images, uint8 (3, size, size) each, read as they are asked for."""

        def chunks() -> Iterator[Samples]:
            for start in range(0, len(self.files), _CHUNK):
                yield np.stack([read_image(path, size) for path in self.files[start : start + _CHUNK]])

        return PartStream(len(self.files), (3, size, size), chunks, self.y)
