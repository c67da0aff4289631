"""Predictions of files, folders and arrays, one batch at a time: memory does not grow with their number."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.cores import in_threads
from iimt_search.data.arrays import open_array, open_pair, stream_array
from iimt_search.data.images import SUFFIXES, read_image
from iimt_search.data.listing import LeftOut, walk
from iimt_search.data.task import Samples
from iimt_search.errors import DataError, UsageError, describe
from iimt_search.exporting.load import Predictor
from iimt_search.files import shown
from iimt_search.kinds import Kind
from iimt_search.models.network import batches_for

ARRAYS = frozenset({".npy", ".npz"})


@dataclass(frozen=True)
class Prediction:
    """What a model says of one sample.

    Attributes:
        path: the file that it came from.
        index: its row, where the file is an array; else None.
        probabilities: float32 (C,), summing to 1; None where the sample could not be read.
        error: why not, or "".
    """

    path: Path
    index: int | None
    probabilities: NDArray[np.float32] | None
    error: str = ""

    def ranked(self, count: int) -> list[int]:
        """Return the classes of the ``count`` highest probabilities, the highest first."""
        if self.probabilities is None:
            return []
        order: list[int] = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return order


class _Sample(NamedTuple):
    path: Path
    row: int | None
    x: Samples | None
    error: str = ""


def is_array(path: Path) -> bool:
    """Return whether a file is an array by its name."""
    return path.suffix.lower() in ARRAYS


def files_of(inputs: Sequence[Path], kind: str, left: LeftOut | None = None) -> Iterator[Path]:
    """Give the files that are meant: of a folder the images, or, for other kinds of samples, the arrays.

    Of a folder dead links and what else cannot be read come last.

    Args:
        inputs: files, and folders to search through.
        kind: of the samples.
        left: is told what else is in the folders.

    Raises:
        UsageError: a folder holds none.
    """
    suffixes = SUFFIXES if kind == "image" else ARRAYS
    for path in inputs:
        if not os.path.isdir(path):
            yield path
            continue
        here = LeftOut()
        files = walk(path, suffixes, here)
        first = next(files, None)
        if first is None and not here.wrong:
            wanted = ", ".join(sorted(suffixes))
            there = f"; there are {here.by_ending()}" if here.endings else ""
            raise UsageError(
                f"{shown(path)} holds nothing for this model, whose kind is {kind}: {wanted}{there}"
            )
        if first is not None:
            yield first
        yield from files
        yield from here.wrong
        if left is not None:
            left.add(here)


def _count(path: Path) -> int:
    try:
        member = "x" if path.suffix.lower() == ".npz" else ""
        return open_array(path, member).shape[0] if is_array(path) else 1
    except DataError:
        return 1


def count_samples(inputs: Sequence[Path], kind: str, left: LeftOut | None = None) -> int:
    """Count the samples of all inputs, without reading them.

    Args:
        inputs: as in :func:`files_of`.
        kind: of the samples.
        left: is told what else is in the folders.

    Raises:
        UsageError: a folder holds none.
    """
    return sum(_count(path) for path in files_of(inputs, kind, left))


def _white_level(model: Predictor) -> int | float | None:
    """Return which value was white in the training's target, where its images were not of 8 bits."""
    level: int | float | None = model.metadata["preprocessing"].get("white_level")
    return level


def _rows(path: Path, model: Predictor) -> Iterator[_Sample]:
    """Read an array's rows in pieces; labels beside them are not looked at."""
    array, _ = open_pair(path, None, labelled=False)
    # As in the training, where the values are of the same type.
    level = _white_level(model)
    alike = isinstance(level, float) == (array.dtype.kind == "f")
    if array.dtype.kind == "b" or (array.dtype == np.uint8 and level is not None and level >= 255):
        alike = False
    # A model of series that were saved (N, length, channels) takes them so.
    turned = model.kind == "series" and array.shape[1:] == model.sample_shape[::-1] != model.sample_shape
    part = stream_array(
        array,
        cast(Kind, model.kind),
        model.sample_shape[-1],
        None,
        channels="last" if turned else None,
        white_level=level if alike else None,
    )
    if part.sample_shape != model.sample_shape:
        raise DataError(f"{array}: samples of {part.sample_shape}, but the model takes {model.sample_shape}")
    for index, x in enumerate(chain.from_iterable(part.chunks())):
        yield _Sample(path, index, x)


def _unread(path: Path, error: Exception) -> _Sample:
    if isinstance(error, DataError):
        return _Sample(path, None, None, str(error))
    return _Sample(path, None, None, f"{shown(path)} cannot be read: {describe(error, debug=False)}")


def _samples(files: Iterable[Path], model: Predictor) -> Iterator[_Sample]:
    """Read samples in order, images on every core; one file must not end the others, whatever is wrong."""

    def read(path: Path) -> _Sample | Path:
        try:
            if is_array(path):
                return path
            if model.kind != "image":
                raise DataError(
                    f"{shown(path)} is no .npy or .npz file; the model classifies {model.kind} data"
                )
            size, level = model.sample_shape[1], _white_level(model)
            return _Sample(path, None, read_image(path, size, level, True, model.interpolation))
        except Exception as error:
            return _unread(path, error)

    for found in in_threads(read, files):
        if isinstance(found, _Sample):
            yield found
            continue
        try:
            yield from _rows(found, model)
        except Exception as error:
            yield _unread(found, error)


def predict_inputs(model: Predictor, inputs: Sequence[Path], batch_size: int) -> Iterator[Prediction]:
    """Predict images and arrays, in the order in which they are given; folders in the order of names.

    Args:
        model: in evaluation mode, on the device to use.
        inputs: images, ``.npy`` and ``.npz`` files (its array ``x``), and folders of them.
        batch_size: samples at once, at least 1.

    Yields:
        One prediction for each sample; one with an error for each file that cannot be read.

    Raises:
        UsageError: a folder holds none.
    """
    device = next(model.parameters()).device
    size, each = batches_for(model.model, batch_size)

    def predicted(x: Tensor) -> Tensor:
        with torch.no_grad():  # each thread has its own mode
            logits: Tensor = model(x.to(device))
            return logits

    samples = _samples(files_of(inputs, model.kind), model)
    while batch := list(islice(samples, batch_size)):
        read = [sample.x for sample in batch if sample.x is not None]
        rows: Iterator[NDArray[np.float32]] = iter(())
        if read:
            logits = torch.cat(list(each(predicted, torch.from_numpy(np.stack(read)).split(size))))
            rows = iter(logits.softmax(dim=1).cpu().numpy())
        for path, index, x, error in batch:
            probabilities = None if x is None else next(rows)
            if probabilities is not None and not np.isfinite(probabilities).all():
                probabilities, error = None, f"{shown(path)}: its probabilities are not finite"
            yield Prediction(path, index, probabilities, error)
