"""Domains ``motions`` and ``motions-turned``: four activities, as a smart watch feels them (BasicMotions).

A recording is ten seconds of an accelerometer's and a gyroscope's x, y and z, sampled ten times a second.
The two domains hold different recordings: those of the set's training file and those of its test file,
as if the watch's sensor had been mounted differently for the latter.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from iimt_search.data.download import read
from iimt_search.data.task import Domain, Labelled
from iimt_search.errors import DataError

CLASSES = ("Standing", "Running", "Walking", "Badminton")
_CHANNELS, _LENGTH = 6, 100
_TEST_SHARE = 0.3
# A quarter turn about x, then half a turn about z: (x, y, z) becomes (−x, z, y).
_TURN = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=np.float32)


def _load(part: str) -> Labelled:
    # Located, not imported: aeon costs seconds to import and only its files are wanted.
    spec = find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("motions needs the recordings that aeon packages: pip install 'iimt-search[series]'")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "BasicMotions"
    path = folder / f"BasicMotions_{part}.ts"
    if not path.is_file():
        raise DataError(f"this version of aeon has no {path}: pip install 'iimt-search[series]'")
    return read(path, lambda: parse(path.read_text(encoding="utf-8")))


def _sample(number: int, line: str) -> tuple[NDArray[np.float32], int]:
    *channels, label = line.split(":")
    if label not in CLASSES:
        raise ValueError(f"line {number}: class {label!r} is none of {', '.join(CLASSES)}")
    lengths = [len(channel.split(",")) for channel in channels]
    if lengths != [_LENGTH] * _CHANNELS:
        raise ValueError(f"line {number}: {_CHANNELS} channels of {_LENGTH} values expected, got {lengths}")
    x = np.array([channel.split(",") for channel in channels]).astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"line {number}: a value is missing or infinite")
    return x, CLASSES.index(label)


def parse(text: str) -> Labelled:
    """Return the samples of a ``.ts`` file: one a line after ``@data``, channels and label parted by colons.

    Returns:
        Samples float32 (N, 6, 100), in the file's units, with indices into :data:`CLASSES`.

    Raises:
        ValueError: there is no sample, or one is not of that form.
    """
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("@data") + 1
    samples = [_sample(number, line) for number, line in enumerate(lines[start:], start + 1) if line]
    if not samples:
        raise ValueError("no sample follows @data")
    return Labelled(np.stack([x for x, _ in samples]), np.array([y for _, y in samples], dtype=np.int64))


def turn(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the sensors would have felt, had they been turned: accelerometer and gyroscope alike.

    Args:
        x: float32 (N, 6, length): the accelerometer's x, y, z, then the gyroscope's.
    """
    sensors = x.reshape(len(x), 2, 3, -1)
    turned: NDArray[np.float32] = np.einsum("ij,nsjl->nsil", _TURN, sensors).reshape(x.shape)
    return turned


def _split(samples: Labelled) -> Domain:
    index = np.arange(len(samples))
    train, test = train_test_split(index, test_size=_TEST_SHARE, stratify=samples.y, random_state=0)
    return Domain(samples.subset(train), samples.subset(test), CLASSES, kind="series", augmentation="series")


def build(image_size: int) -> Domain:
    """Build ``motions`` with samples (6, 100); there are no images, so ``image_size`` does not matter.

    Raises:
        DataError: aeon is not installed, or its file is damaged.
    """
    return _split(_load("TRAIN"))


def build_turned(image_size: int) -> Domain:
    """Build ``motions-turned``, like :func:`build` and with the same errors."""
    samples = _load("TEST")
    return _split(Labelled(turn(samples.x), samples.y))
