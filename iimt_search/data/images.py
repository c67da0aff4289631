"""Image files and arrays to square images of one size: the same way for training and for prediction."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels
from iimt_search.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an 8-bit RGB image: 16-bit grey is scaled, transparency is laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        # 16-bit files fill 0 to 65 535; PIL gives some of them as 32-bit integers.
        scaled = values / 257 if values.max(initial=0) > 255 else values
        image = Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        white = Image.new("RGBA", above.size, "white")
        image = Image.alpha_composite(white, above)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Cut the middle square of an RGB image and resize it, bicubic, to uint8 (3, size, size)."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image file as uint8 (3, size, size), turned as its EXIF says.

    Raises:
        DataError: the file is missing, truncated or no image; names it.
    """
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            return to_square(to_rgb(turned), size)
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


CHUNK = 1000


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize uint8 (N, h, w) or (N, 3, h, w) to sides of ``size`` pixels, bicubic."""
    if images.ndim == 4:
        return np.stack([resize(colour, size) for colour in images.transpose(1, 0, 2, 3)], axis=1)
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])


def image_part(images: NDArray[np.uint8], y: Labels, image_size: int) -> PartStream:
    """Return images as a part whose samples are resized while it is read.

    Args:
        images: uint8 (N, h, w), which are repeated in every channel, or (N, 3, h, w) in RGB.
        y: labels int64 (N,).
        image_size: side of the samples in pixels.
    """

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(images), CHUNK):
            chunk = resize(images[start : start + CHUNK], image_size)
            yield np.repeat(chunk[:, None], 3, axis=1) if chunk.ndim == 3 else chunk

    return PartStream(len(images), (3, image_size, image_size), chunks, y)
