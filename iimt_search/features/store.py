"""Features on disk: filled piece by piece, gone on with after a kill, mapped when they are used."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

CHUNK = 64

Features = NDArray[np.float16]


def kept_features(
    folder: Path,
    shape: tuple[int, int, int],
    compute: Callable[[int, int], Features],
    progress: Callable[[int, int], None],
) -> Features:
    """Return features (N, V, D), mapped from a file that is filled where it is not there yet.

    Args:
        folder: where they lie; its name says what they are of.
        shape: N samples, V views, D.
        compute: takes the first sample and the one after the last, returns (n, V, D).
        progress: takes how many of how many samples are done.
    """
    whole, partial, done = folder / "features.npy", folder / "partial.npy", folder / "done.npy"
    if not whole.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not whole.exists():
                _fill(partial, done, shape, compute, progress)
                os.replace(partial, whole)
                done.unlink(missing_ok=True)
    features: Features = np.load(whole, mmap_mode="r")
    return features


def _fill(
    partial: Path,
    done: Path,
    shape: tuple[int, int, int],
    compute: Callable[[int, int], Features],
    progress: Callable[[int, int], None],
) -> None:
    starts = range(0, shape[0], CHUNK)
    if partial.exists() and done.exists():
        file, filled = np.load(partial, mmap_mode="r+"), np.load(done, mmap_mode="r+")
    else:
        file = open_memmap(partial, "w+", np.float16, shape)
        filled = open_memmap(done, "w+", np.bool_, (len(starts),))
    for place, start in enumerate(starts):
        end = min(start + CHUNK, shape[0])
        if not filled[place]:
            file[start:end] = compute(start, end)
            file.flush()  # before it is said to be there
            filled[place] = True
            filled.flush()
        progress(end, shape[0])
