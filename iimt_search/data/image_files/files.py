"""Image files with what is known of each: what folders and lists give, and how it is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from iimt_search.cores import in_threads
from iimt_search.data.images import read_image
from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels, Note, Samples
from iimt_search.errors import DataError

# Of samples that are handed on at once.
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class ImageFiles:
    """Image files, and their labels where they have some.

    Attributes:
        where: what names them, for people.
        files: paths, N of them.
        classes: names of the classes that have an image, in order; None where there are no labels.
        y: index into ``classes`` for each file, int64 (N,), or None.
        known: names of classes that there are, with or without an image.
        notes: what is to be told of the files.
        labelling: what their labels depend on besides their paths; "" for nothing.
    """

    where: str
    files: list[Path]
    classes: tuple[str, ...] | None = None
    y: Labels | None = None
    known: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    labelling: str = ""

    def stream(
        self, size: int, white_level: float | None, broken: list[str], interpolation: str = "bicubic"
    ) -> PartStream:
        """Return the images, uint8 (3, size, size) each, read as they are asked for, on every core.

        Args:
            size: side in pixels.
            white_level: as :func:`~iimt_search.data.images.read_image`.
            broken: is told of each file that cannot be read, in order; a black image takes its place.
            interpolation: as :func:`~iimt_search.data.images.read_image`.
        """

        def read(path: Path) -> Samples | DataError:
            try:
                return read_image(path, size, white_level, interpolation=interpolation)
            except DataError as error:
                return error

        def chunks() -> Iterator[Samples]:
            shape = (max(1, _CHUNK_BYTES // (3 * size * size)), 3, size, size)
            images = in_threads(read, self.files)
            for start in range(0, len(self.files), shape[0]):
                chunk = np.zeros(shape, np.uint8)[: len(self.files) - start]
                for at, found in enumerate(islice(images, len(chunk))):
                    if isinstance(found, DataError):
                        broken.extend(found.causes)
                    else:
                        chunk[at] = found
                yield chunk

        return PartStream(len(self.files), (3, size, size), chunks, self.y)
