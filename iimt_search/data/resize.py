"""Arrays of images to one size, bicubic."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.stream import PartStream
from iimt_search.data.task import Labels

CHUNK = 1000


def resize_grey(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize uint8 (N, h, w) to (N, size, size), bicubic."""
    return np.stack(
        [np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BICUBIC)) for i in images]
    )


def resize_colour(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize uint8 (N, 3, h, w) to (N, 3, size, size), bicubic."""
    resized = [
        Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC)
        for image in images
    ]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in resized])


def image_part(images: NDArray[np.uint8], y: Labels, image_size: int) -> PartStream:
    """Return images as a part whose samples are resized while it is read.

    Args:
        images: uint8 (N, h, w), which are repeated in every channel, or (N, 3, h, w) in RGB.
        y: labels int64 (N,).
        image_size: side of the samples in pixels.
    """

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            if chunk.ndim == 3:
                yield np.repeat(resize_grey(chunk, image_size)[:, None], 3, axis=1)
            else:
                yield resize_colour(chunk, image_size)

    return PartStream(len(images), (3, image_size, image_size), chunks, y)
