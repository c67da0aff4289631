"""A domain from ``.npz`` or ``.npy`` files, read in pieces."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.images import to_square
from iimt_search.data.store import PartStream
from iimt_search.data.task import SAMPLE_DIMENSIONS, Labels, Samples
from iimt_search.errors import DataError
from iimt_search.kinds import Kind

_CHUNK_BYTES = 1 << 24


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(file) == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, fortran, dtype


@dataclass(frozen=True)
class ArrayFile:
    """One array on disk: an ``.npy`` file, or a member of an ``.npz`` file.

    Attributes:
        path: the file.
        member: name within an ``.npz``, or "".
        shape: of the array.
        dtype: of its values.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.path} ({self.member})" if self.member else str(self.path)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Read the rows in pieces of about 16 MB.

        Raises:
            DataError: the file is cut short or damaged.
        """
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        count = max(1, _CHUNK_BYTES // max(row, 1))
        with _opened(self.path, self.member) as file:
            _header(file)
            for start in range(0, self.shape[0], count):
                rows = min(count, self.shape[0] - start)
                data = file.read(rows * row)
                if len(data) != rows * row:
                    raise DataError(
                        f"{self} is cut short: {self.shape[0]} rows announced, about {start} there"
                    )
                yield np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])

    def load(self) -> NDArray[Any]:
        """Read the whole array."""
        return np.concatenate(list(self.chunks())) if self.shape[0] else np.empty(self.shape, self.dtype)


@contextmanager
def _opened(path: Path, member: str) -> Iterator[IO[bytes]]:
    try:
        if not member:
            with path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except KeyError as error:
        raise DataError(
            f"{path} holds no array {member!r}; an .npz needs x, and y where there are labels"
        ) from error
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{path} is no whole .npz or .npy file: {error}") from error


def open_array(path: Path, member: str = "") -> ArrayFile:
    """Read an array's header.

    Raises:
        DataError: no such file or member, damaged, or of Python objects.
    """
    with _opened(path, member) as file:
        shape, fortran, dtype = _header(file)
    array = ArrayFile(path, member, shape, dtype)
    if dtype.hasobject:
        raise DataError(f"{array} holds Python objects, not numbers; save it with a numeric dtype")
    if fortran:
        raise DataError(f"{array} is in Fortran order; save np.ascontiguousarray(x)")
    if not shape or shape[0] == 0:
        raise DataError(f"{array} is empty: shape {shape}")
    return array


def open_pair(path: Path, labels: Path | None) -> tuple[ArrayFile, ArrayFile | None]:
    """Return x and, where there is one, y of an ``.npz`` (members x and y) or of ``.npy`` files."""
    if path.suffix != ".npz":
        return open_array(path), None if labels is None else open_array(labels)
    if labels is not None:
        raise DataError(f"{path} is an .npz, its labels are its own array y; {labels} goes with an .npy")
    x = open_array(path, "x")
    with zipfile.ZipFile(path) as archive:
        has_y = "y.npy" in archive.namelist()
    return x, open_array(path, "y") if has_y else None


def kind_of(x: ArrayFile) -> Kind:
    """Tell the kind from shape and type: (N, F) vectors; (N, C, L) of floats series; else images."""
    dimensions = len(x.shape)
    if dimensions == 2:
        return "vector"
    if dimensions == 3 and x.dtype.kind == "f":
        return "series"
    if dimensions in (3, 4):
        return "image"
    raise DataError(f"{x} has shape {x.shape}; vectors are (N, F), series (N, C, L), images (N, H, W[, C])")


def read_labels(y: ArrayFile, count: int) -> tuple[Labels, tuple[str, ...]]:
    """Return class indices int64 (N,) and class names, numbers in the order of numbers.

    Raises:
        DataError: wrong shape, type or length, or a negative label.
    """
    if y.shape != (count,):
        raise DataError(f"{y} has shape {y.shape}, but there are {count} samples: labels are ({count},)")
    values = y.load()
    if values.dtype.kind not in "iuUSb":
        raise DataError(f"{y} has type {values.dtype}; labels are integers or strings")
    if values.dtype.kind == "i" and values.min() < 0:
        at = int(np.argmin(values))
        raise DataError(f"{y}: label {values[at]} at {at} is out of range, labels are 0 or more")
    names, index = np.unique(values, return_inverse=True)
    texts = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist())
    return index.astype(np.int64), texts


def _value_range(x: ArrayFile) -> tuple[float, float]:
    """Return the smallest and the largest value of an array, all of which are finite."""
    low, high, start = np.inf, -np.inf, 0
    for chunk in x.chunks():
        if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
            at = np.argwhere(~np.isfinite(chunk))[0].tolist()
            raise DataError(f"{x}: sample {start + at[0]} holds NaN or infinity, at {at[1:]}")
        low, high = min(low, chunk.min()), max(high, chunk.max())
        start += len(chunk)
    return low, high


def _image_scale(x: ArrayFile) -> float:
    """Return what to multiply values with so that they fill 0 to 255."""
    if x.dtype == np.uint8:
        return 1.0
    if x.dtype.kind not in "iuf":
        raise DataError(f"{x} has type {x.dtype}; images are of integers or floats")
    low, high = _value_range(x)
    if low >= 0 and x.dtype.kind == "f" and high <= 1:
        return 255.0
    if low >= 0 and high <= 255:
        return 1.0
    if x.dtype == np.uint16:
        return 1 / 257
    raise DataError(
        f"{x}: values from {low:g} to {high:g}; images are uint8 or 0 to 255, uint16, or floats in 0 to 1"
    )


def _images(x: ArrayFile, size: int, y: Labels | None) -> PartStream:
    last = len(x.shape) == 4 and x.shape[-1] in (1, 3)
    first = len(x.shape) == 4 and not last and x.shape[1] in (1, 3)
    if len(x.shape) == 4 and not (first or last):
        raise DataError(
            f"{x} has shape {x.shape}; images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)"
        )
    scale = _image_scale(x)

    def chunks() -> Iterator[Samples]:
        for chunk in x.chunks():
            images = chunk if chunk.dtype == np.uint8 else np.round(chunk * scale).astype(np.uint8)
            if images.ndim == 3:
                images = images[..., None]
            elif first:
                images = images.transpose(0, 2, 3, 1)
            rgb = np.broadcast_to(images, (*images.shape[:3], 3))
            yield np.stack([to_square(Image.fromarray(np.ascontiguousarray(image)), size) for image in rgb])

    return PartStream(x.shape[0], (3, size, size), chunks, y)


def image_side(x: ArrayFile) -> int:
    """Return the longer side of an array of images, in pixels."""
    sides = x.shape[1:3] if len(x.shape) == 3 or x.shape[-1] in (1, 3) else x.shape[2:4]
    return max(sides)


def stream_array(x: ArrayFile, kind: Kind, size: int, y: Labels | None) -> PartStream:
    """Return an array's samples in the form of their kind.

    Raises:
        DataError: a shape, type or value that the kind cannot have.
    """
    if kind == "image":
        return _images(x, size, y)
    if x.dtype.kind not in "fiu":
        raise DataError(f"{x} has type {x.dtype}; a {kind} is of numbers")
    if len(x.shape) != SAMPLE_DIMENSIONS[kind] + 1:
        raise DataError(
            f"{x} has shape {x.shape}; a {kind} has {SAMPLE_DIMENSIONS[kind]} dimensions a sample"
        )
    _value_range(x)
    return PartStream(x.shape[0], x.shape[1:], lambda: (c.astype(np.float32) for c in x.chunks()), y)
