"""Image files and arrays to square images of one size: the same way for training and for prediction."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from iimt_search.cores import in_threads
from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels, Note, Samples
from iimt_search.errors import DataError
from iimt_search.files import shown

SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp"),
        *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"),
        # Of Pillow 11.3 and later, where it was built with it.
        *((".avif",) if "avif" in features.modules and features.check("avif") else ()),
    }
)
# Depths that cameras and scanners have.
_WHITE_LEVELS = tuple((1 << bits) - 1 for bits in (8, 10, 12, 14, 16))
# Fewer grey values than this are few.
_FEW_LEVELS = 32


def white_level_of(low: float, high: float, floats: bool) -> int | float:
    """Return which value means white in images of values from ``low`` to ``high``.

    Of integers the largest of the smallest depth that holds them: 255, 1023, 4095, 16383 or 65535. Of floats
    1.0 or 255.0.

    Raises:
        ValueError: there are values below 0, or above all of these.
    """
    levels: tuple[int | float, ...] = (1.0, 255.0) if floats else _WHITE_LEVELS
    for level in levels:
        if 0 <= low and high <= level:
            return level
    raise ValueError(
        f"values from {low:g} to {high:g}; images are of integers from 0 to 65535, or floats in 0 to 1 or "
        f"0 to 255; `white_level` says which value is white"
    )


def scaled(values: NDArray[Any], white_level: float) -> NDArray[np.uint8]:
    """Return values as uint8, ``white_level`` and what is above it as 255, what is below 0 as 0."""
    return np.clip(np.round(values * (255 / white_level)), 0, 255).astype(np.uint8)


def watched(part: PartStream, seen: list[NDArray[Any]]) -> PartStream:
    """Return a part that adds the smallest and the largest value of each sample (M, 2) to ``seen``."""

    def chunks() -> Iterator[Samples]:
        for chunk in part.chunks():
            flat = chunk.reshape(len(chunk), -1)
            seen.append(np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1))
            yield chunk

    return replace(part, chunks=chunks)


def few_levels(where: str, extremes: NDArray[np.uint8], white_level: float | None) -> Iterator[Note]:
    """Warn of images that have few grey values.

    Args:
        where: what the images are of.
        extremes: uint8 (N, 2), the smallest and the largest value of each image.
        white_level: what they were scaled by; None where they were not.
    """
    low, high = int(extremes[:, 0].min()), int(extremes[:, 1].max())
    hint = "`white_level` says which value is white"
    if high - low + 1 < _FEW_LEVELS:
        message = f"{where}: only {high - low + 1} grey values are left, {low} to {high} of 0 to 255; {hint}"
        yield Note("few-levels", message)
    elif white_level is not None:
        few = int((np.ptp(extremes.astype(int), axis=1) + 1 < _FEW_LEVELS).sum())
        if few:
            message = f"{few} of {len(extremes)} images have fewer than {_FEW_LEVELS} grey values left"
            yield Note("few-levels", f"{where}: {message}; {hint}")


# The formats of these endings, whatever a file's ending: Pillow knows others, of which some start programs.
_FORMATS = (
    *("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM"),
    *(("AVIF",) if ".avif" in SUFFIXES else ()),
)
# A file may say in a few bytes that it holds gigabytes: so many pixels it may have in any case, so many for
# each of its bytes. Pillow refuses what is above 179 million.
_PIXELS, _PIXELS_A_BYTE = 1 << 25, 100


def regular_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is a folder, or a pipe or device, which may never end.
    """
    stat = path.stat()
    if not S_ISREG(stat.st_mode):
        if S_ISDIR(stat.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "it is no file, but a pipe or a device")
    return stat.st_size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file that is not larger than it may be."""
    size = regular_size(path)
    with Image.open(path, formats=_FORMATS) as image:
        pixels = image.width * image.height
        if pixels > max(_PIXELS, _PIXELS_A_BYTE * size):
            raise ValueError(f"{size} bytes that hold {pixels >> 20} million pixels are taken for an attack")
        yield image


def _is_deep(image: Image.Image) -> bool:
    """Return whether an image has more than 8 bits a channel."""
    return image.mode.startswith("I") or image.mode == "F"


def to_rgb(image: Image.Image, white_level: float | None = None, same_type: bool = False) -> Image.Image:
    """Return an 8-bit RGB image; transparency is laid on white.

    Args:
        image: as it is on disk.
        white_level: the value that becomes 255, an integer for images of integers, else a float. By default
            what its type holds: 65535, or of floats what :func:`white_level_of` says. Where it is above 255,
            or a float, images of 8 bits stay as they are.
        same_type: whether an integer level holds for images of integers alone, and a float for floats.
    """
    if _is_deep(image):
        if same_type and isinstance(white_level, float) != (image.mode == "F"):
            white_level = None
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity")
        if white_level is None:
            low, high = values.min(initial=0), values.max(initial=0)
            white_level = white_level_of(low, high, image.mode == "F") if image.mode == "F" else 65535
        image = Image.fromarray(scaled(values, white_level))
    elif isinstance(white_level, int) and white_level < 255:
        image = Image.fromarray(scaled(np.asarray(image.convert("RGB")), white_level))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        white = Image.new("RGBA", above.size, "white")
        image = Image.alpha_composite(white, above)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int, interpolation: str = "bicubic") -> NDArray[np.uint8]:
    """Cut the middle square of an RGB image and resize it, antialiased, to uint8 (3, size, size)."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling[interpolation.upper()])
    return np.asarray(image).transpose(2, 0, 1)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{shown(path)} is not an image that can be read") from error
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{shown(path)} cannot be read as an image: {reason}") from error


def read_image(
    path: Path,
    size: int,
    white_level: float | None = None,
    same_type: bool = False,
    interpolation: str = "bicubic",
) -> NDArray[np.uint8]:
    """Read an image file as uint8 (3, size, size), turned as its EXIF says.

    Args:
        path: the file.
        size: side in pixels.
        white_level: as :func:`to_rgb`.
        same_type: as :func:`to_rgb`.
        interpolation: ``bicubic`` or ``bilinear``.

    Raises:
        DataError: the file is missing, truncated or no image; names it.
    """
    with _reading(path), _opened(path) as image:
        turned = ImageOps.exif_transpose(image)
        return to_square(to_rgb(turned, white_level, same_type), size, interpolation)


def shorter_side(path: Path) -> int:
    """Return the shorter side of an image file in pixels, by its header.

    Raises:
        DataError: it is missing or no image; names it.
    """
    with _reading(path), _opened(path) as image:
        return min(image.size)


def _deep_range(path: Path) -> tuple[float, float, bool] | None:
    """Return the smallest and the largest value of an image of more than 8 bits, and whether of floats."""
    with suppress(DataError), _reading(path), _opened(path) as image:
        if _is_deep(image):
            values = np.asarray(image)
            if values.size and np.isfinite(values).all():
                return float(values.min()), float(values.max()), image.mode == "F"
    return None


def deep_values(paths: Iterable[Path]) -> tuple[int, float, float, bool] | None:
    """Look at the image files of more than 8 bits a channel; what cannot be read is passed by.

    Returns:
        How many there are, their smallest and largest value, and whether some are of floats; None where there
        are none.
    """
    found = [each for each in in_threads(_deep_range, paths) if each is not None]
    if not found:
        return None
    lows, highs, floats = zip(*found, strict=True)
    return len(found), min(lows), max(highs), any(floats)


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
