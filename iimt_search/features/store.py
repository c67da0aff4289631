"""Features on disk: filled piece by piece, gone on with after a kill, mapped when they are used."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from iimt_search.files import write_text

CHUNK = 32

Features = NDArray[np.float16]
Each = Callable[[Callable[[int], Features], list[int]], Iterable[Features]]


def kept_features(
    folder: Path,
    shape: tuple[int, int, int],
    compute: Callable[[int, int], Features],
    each: Each,
    progress: Callable[[int, int], None],
    about: Mapping[str, Any],
) -> Features:
    """Return features (N, V, D), mapped from a file that is filled where it is not there yet.

    Args:
        folder: where they lie; its name says what they are of.
        shape: N samples, V views, D.
        compute: takes the first sample and the one after the last, returns (n, V, D).
        each: gives a function of each of some places, in order: ``map``, or one that uses several cores.
        progress: takes how many of how many samples are done.
        about: what they are, for people.
    """
    whole, partial, done = folder / "x.npy", folder / "partial.npy", folder / "done.npy"
    if not whole.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not whole.exists():
                _fill(partial, done, shape, compute, each, progress)
                write_text(folder / "meta.json", json.dumps(about))
                os.replace(partial, whole)
                done.unlink(missing_ok=True)
    features: Features = np.load(whole, mmap_mode="r")
    return features


def _fill(
    partial: Path,
    done: Path,
    shape: tuple[int, int, int],
    compute: Callable[[int, int], Features],
    each: Each,
    progress: Callable[[int, int], None],
) -> None:
    starts = range(0, shape[0], CHUNK)
    if partial.exists() and done.exists():
        file, filled = np.load(partial, mmap_mode="r+"), np.load(done, mmap_mode="r+")
    else:
        file = open_memmap(partial, "w+", np.float16, shape)
        filled = open_memmap(done, "w+", np.bool_, (len(starts),))
    missing = [place for place in range(len(starts)) if not filled[place]]

    def computed(place: int) -> Features:
        return compute(starts[place], min(starts[place] + CHUNK, shape[0]))

    for place, found in zip(missing, each(computed, missing), strict=True):
        file[starts[place] : starts[place] + len(found)] = found
        file.flush()  # before it is said to be there
        filled[place] = True
        filled.flush()
        progress(min(int(filled.sum()) * CHUNK, shape[0]), shape[0])
