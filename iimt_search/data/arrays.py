"""A domain from ``.npz`` or ``.npy`` files, read in pieces, and what their shapes and types are taken for."""

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.images import regular_size, scaled, to_square, white_level_of
from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels, Note, Samples
from iimt_search.errors import DataError
from iimt_search.files import shown
from iimt_search.kinds import Kind
from iimt_search.plain_text import clipped
from iimt_search.space.task_spec import ChannelOrder

_CHUNK_BYTES = 1 << 24
# No sample is larger; a small archive may announce, and unpack to, one that no memory holds.
_SAMPLE_BYTES = 1 << 28


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
        fortran: whether its first index varies fastest on disk.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    def __str__(self) -> str:
        return f"{shown(self.path)} ({self.member})" if self.member else shown(self.path)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Read the rows in pieces of about 16 MB; a member in Fortran order is unpacked to disk first.

        Raises:
            DataError: the file is cut short or damaged.
        """
        if self.fortran:
            yield from self._turned()
            return
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        count = max(1, _CHUNK_BYTES // max(row, 1))
        with _opened(self.path, self.member) as (file, _):
            _header(file)
            for start in range(0, self.shape[0], count):
                rows = min(count, self.shape[0] - start)
                data = file.read(rows * row)
                if len(data) != rows * row:
                    raise DataError(
                        f"{self} is cut short: {self.shape[0]} rows announced, about {start} there"
                    )
                yield np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])

    def raw(self, limit: int) -> bytes:
        """Return at most ``limit`` of the bytes behind the header."""
        with _opened(self.path, self.member) as (file, _):
            _header(file)
            return file.read(limit)

    def _turned(self) -> Iterator[NDArray[Any]]:
        with _opened(self.path, self.member) as (file, _), tempfile.TemporaryFile() as unpacked:
            _header(file)
            whole: NDArray[Any]
            if self.member:
                shutil.copyfileobj(file, unpacked, 1 << 20)
                whole = np.memmap(unpacked, self.dtype, "r", 0, self.shape, order="F")
            else:
                whole = np.memmap(self.path, self.dtype, "r", file.tell(), self.shape, order="F")
            count = max(1, _CHUNK_BYTES // max(1, whole.nbytes // len(whole)))
            for start in range(0, len(whole), count):
                yield np.ascontiguousarray(whole[start : start + count])

    def load(self) -> NDArray[Any]:
        """Read the whole array."""
        return np.concatenate(list(self.chunks())) if self.shape[0] else np.empty(self.shape, self.dtype)


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open an array's file; gives it and its size in bytes."""
    try:
        size = regular_size(path)
        if not member:
            with path.open("rb") as file:
                yield file, size
            return
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            yield file, archive.getinfo(f"{member}.npy").file_size
    except FileNotFoundError as error:
        raise DataError(f"there is no file {shown(path)}") from error
    except KeyError as error:
        raise DataError(
            f"{shown(path)} holds no array {member!r}; an .npz needs x, and y where there are labels"
        ) from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zlib, zipfile and numpy raise whatever they meet in a damaged file
        reason = clipped(error or type(error).__name__, 200)
        raise DataError(f"{shown(path)} is no whole .npz or .npy file: {reason}") from error


def open_array(path: Path, member: str = "") -> ArrayFile:
    """Read an array's header.

    Raises:
        DataError: no such file or member, damaged, or empty.
    """
    with _opened(path, member) as (file, size):
        shape, fortran, dtype = _header(file)
        held = size - file.tell()
    array = ArrayFile(path, member, shape, dtype, fortran)
    if not shape or math.prod(shape) == 0:
        raise DataError(f"{array} is empty: shape {shape}")
    sample = math.prod(shape[1:]) * dtype.itemsize
    if min(shape) < 0 or (not dtype.hasobject and shape[0] * sample > held):
        raise DataError(f"{array} is cut short: it announces {shape} of {dtype}, and holds {held} bytes")
    if sample > _SAMPLE_BYTES:
        raise DataError(f"{array}: a sample has at most {_SAMPLE_BYTES >> 20} MB, these have {sample >> 20}")
    return array


def open_samples(path: Path, member: str = "") -> ArrayFile:
    """Read the header of an array of samples, as :func:`open_array`.

    Raises:
        DataError: as there, or it holds Python objects.
    """
    array = open_array(path, member)
    if array.dtype.hasobject:
        raise DataError(f"{array} holds Python objects, not numbers; save it with a numeric dtype")
    return array


def open_pair(path: Path, labels: Path | None, labelled: bool = True) -> tuple[ArrayFile, ArrayFile | None]:
    """Return x and, where there is one, y of an ``.npz`` (members x and y) or of ``.npy`` files.

    Args:
        path: the file with x.
        labels: an ``.npy`` file with y.
        labelled: False: the y of an ``.npz`` is not looked at.
    """
    if path.suffix.lower() != ".npz":
        return open_samples(path), None if labels is None else open_array(labels)
    if labels is not None:
        raise DataError(
            f"{shown(path)} is an .npz, its labels are its own array y; {shown(labels)} goes with an .npy"
        )
    x = open_samples(path, "x")
    with zipfile.ZipFile(path) as archive:
        has_y = labelled and "y.npy" in archive.namelist()
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


def _axes(x: ArrayFile, kind: Kind, channels: ChannelOrder | None) -> tuple[int, ...] | None:
    """Return the axes of an array in the order of its kind's samples, those of images (N, H, W, C).

    None where it has one axis less, that of a single channel. Vectors may have any number.
    """
    dimensions = len(x.shape)
    if kind == "vector" and dimensions >= 2:
        return tuple(range(dimensions))
    if kind == "series" and dimensions in (2, 3):
        return None if dimensions == 2 else (0, 2, 1) if channels == "last" else (0, 1, 2)
    if kind == "image" and dimensions == 3:
        return None
    if kind == "image" and dimensions == 4:
        if channels != "first" and x.shape[3] in (1, 3):
            return 0, 1, 2, 3
        if channels != "last" and x.shape[1] in (1, 3):
            return 0, 2, 3, 1
    wanted = {
        "image": "images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)",
        "series": "series are (N, C, L), with `channels: last` (N, L, C), or (N, L) of one channel",
        "vector": "vectors are (N, F)",
    }
    raise DataError(f"{x} has shape {x.shape}; {wanted[kind]}")


def _lengths(x: ArrayFile, kind: Kind, channels: ChannelOrder | None) -> tuple[int, ...]:
    """Return the shape of one sample: (H, W, channels), (channels, length) or (features,)."""
    axes = _axes(x, kind, channels)
    if kind == "vector":
        return (math.prod(x.shape[1:]),)
    if axes is None:
        return (*x.shape[1:], 1) if kind == "image" else (1, *x.shape[1:])
    return tuple(x.shape[axis] for axis in axes[1:])


def _arranged(chunk: NDArray[Any], kind: Kind, axes: tuple[int, ...] | None) -> NDArray[Any]:
    """Return rows of an array as samples (M, …) of the kind, as :func:`_lengths` says."""
    if kind == "vector":
        return chunk.reshape(len(chunk), -1)
    if axes is None:
        return chunk[..., None] if kind == "image" else chunk[:, None]
    return chunk.transpose(axes)


def taken_for(
    x: ArrayFile, kind: Kind, channels: ChannelOrder | None, given: bool, low: float, high: float
) -> Note:
    """Tell what an array was taken for and how to say otherwise; a warning where it is likely something else.

    Args:
        x: the samples.
        kind: what they were taken for.
        channels: what was said of the channels' place.
        given: whether the kind was said, too.
        low: their smallest value.
        high: their largest value.
    """
    lengths = _lengths(x, kind, channels)
    pixels = 0 <= low and high <= 255
    if kind == "vector":
        (features,) = lengths
        side = math.isqrt(features)
        likely = not given and pixels and side >= 8 and side * side == features
        what = f"vectors of {features} features"
        other = f"save images as (N, {side}, {side}); " if likely else ""
        other += f"`kind: series` says series of one channel with {features} steps"
    elif kind == "series":
        count, steps = lengths
        more = count > steps and channels is None
        square = count == steps and count >= 8
        near = pixels and min(lengths) >= 8 and max(lengths) <= 2 * min(lengths)
        alike = not given and (square or near)
        likely = more or alike
        what = f"series of {count} channels with {steps} steps"
        turned, where = f"{steps} channels with {count} steps", "first" if channels == "last" else "last"
        other = (
            f"`channels: {where}` says {turned}, `kind: image` says grey images of {count} × {steps} pixels"
        )
    else:
        height, width, depth = lengths
        likely = not given and len(x.shape) == 3 and max(height, width) >= 4 * min(height, width)
        what = f"images of {height} × {width} pixels in {'grey' if depth == 1 else 'colour'}"
        if len(x.shape) == 3:
            other = f"`kind: series` says series of {height} channels with {width} steps"
        else:
            other = "`channels: first` or `last` says where the channels are"
    likely_so = "; this is likely a mistake" if likely else ""
    return Note(
        "taken-for", f"{x}: {x.shape} of {x.dtype} taken for {what}{likely_so}; {other}", warning=likely
    )


def value_range(x: ArrayFile) -> tuple[float, float]:
    """Return the smallest and the largest value of an array; of uint8 what it may hold, 0 and 255.

    Raises:
        DataError: it is not of numbers, or some are not finite or too large for float32.
    """
    if x.dtype.kind not in "iufb":
        raise DataError(f"{x} has type {x.dtype}; samples are of integers or floats")
    if x.dtype == np.uint8:
        return 0, 255
    stat = x.path.stat()
    return _range(x, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _range(x: ArrayFile, _size: int, _changed: int) -> tuple[float, float]:
    """Read an array once for its range, as long as its file is the same."""
    low, high, start, first, wrong = np.inf, -np.inf, 0, "", 0
    for chunk in x.chunks():
        if chunk.dtype.kind == "f":
            outside = ~np.isfinite(chunk)
            if chunk.dtype.itemsize > 4:
                outside |= np.abs(chunk) > np.finfo(np.float32).max
            if outside.any():
                at = np.argwhere(outside)[0].tolist()
                first = first or f"sample {start + at[0]} holds NaN or infinity, at {at[1:]}"
                wrong += int(outside.reshape(len(chunk), -1).any(axis=1).sum())
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        start += len(chunk)
    if wrong:
        raise DataError(f"{x}: {first}" + (f", and {wrong - 1} more samples do" if wrong > 1 else ""))
    return low, high


def array_white_level(parts: Sequence[ArrayFile], given: float | None) -> int | float | None:
    """Return which value is white in images, one for all parts of a domain; None for 8 bits as they are.

    Raises:
        DataError: the values say none, or there are values that no sample can have.
    """
    floats = parts[0].dtype.kind == "f"
    ranges = [value_range(x) for x in parts]
    if given is not None:
        return float(given) if floats else max(1, round(given))
    if all(x.dtype == np.uint8 for x in parts):
        return None
    if all(x.dtype.kind == "b" for x in parts):
        return 1
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    try:
        return white_level_of(low, high, floats)
    except ValueError as error:
        raise DataError(f"{parts[0]}: {error}, `kind: series` that these are no images") from error


def image_side(x: ArrayFile, channels: ChannelOrder | None = None) -> int:
    """Return the longer side of an array of images, in pixels."""
    return max(_lengths(x, "image", channels)[:2])


def stream_array(
    x: ArrayFile,
    kind: Kind,
    size: int,
    y: Labels | None,
    *,
    channels: ChannelOrder | None = None,
    white_level: float | None = None,
) -> PartStream:
    """Return an array's samples in the form of their kind.

    Args:
        x: the samples.
        kind: what they are.
        size: side of images in pixels.
        y: their labels.
        channels: where the channels are; by default images tell by their length, 1 or 3, and series have them
            first.
        white_level: of images, the value that becomes 255; None leaves uint8 as it is and else goes by the
            largest value.

    Raises:
        DataError: a shape, type or value that the kind cannot have.
    """
    axes, lengths = _axes(x, kind, channels), _lengths(x, kind, channels)
    if kind != "image":
        value_range(x)
        return PartStream(
            x.shape[0], lengths, lambda: (_arranged(c, kind, axes).astype(np.float32) for c in x.chunks()), y
        )
    if lengths[2] not in (1, 3):
        raise DataError(f"{x}: images have 1 or 3 channels, got {lengths[2]}")
    level = array_white_level([x], None) if white_level is None else white_level

    def chunks() -> Iterator[Samples]:
        for chunk in x.chunks():
            images = _arranged(chunk if level is None else scaled(chunk, level), kind, axes)
            rgb = np.broadcast_to(images, (*images.shape[:3], 3))
            yield np.stack([to_square(Image.fromarray(np.ascontiguousarray(image)), size) for image in rgb])

    return PartStream(x.shape[0], (3, size, size), chunks, y)
