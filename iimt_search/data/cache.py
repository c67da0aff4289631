"""Domains kept on disk, so that each is made once and shared by every process and run."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from iimt_search.data.task import Domain, Labelled


def data_root() -> Path:
    """Return the folder that holds prepared data: ``$IIMT_DATA``, else the user's cache folder."""
    override = os.environ.get("IIMT_DATA")
    return Path(override) if override else user_cache_path("iimt-search") / "data"


# Absent, cut short, damaged or foreign: the domain is made again. What a damaged zip raises depends on
# the byte that is wrong.
_UNUSABLE = (
    OSError,
    BadZipFile,
    KeyError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
)


def _read(path: Path) -> Domain | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Domain(
                Labelled(arrays["train_x"], arrays["train_y"]),
                Labelled(arrays["test_x"], arrays["test_y"]),
                tuple(str(c) for c in arrays["classes"]),
                str(arrays["augmentation"]),
            )
    except _UNUSABLE:
        return None


def cached(key: str, build: Callable[[], Domain]) -> Domain:
    """Return the domain kept under ``key``, building and keeping it first where it is not there.

    A lock makes concurrent processes build it once; it is written beside and renamed, so a killed
    build leaves nothing half-made.
    """
    path = data_root() / f"{key}.npz"
    if (found := _read(path)) is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (found := _read(path)) is not None:
            return found
        domain = build()
        beside = path.with_suffix(".tmp.npz")
        np.savez(
            beside,
            train_x=domain.train.x,
            train_y=domain.train.y,
            test_x=domain.test.x,
            test_y=domain.test.y,
            classes=np.array(domain.classes),
            augmentation=np.array(domain.augmentation),
        )
        os.replace(beside, path)
        return domain
