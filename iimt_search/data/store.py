"""Prepared domains: made piece by piece, kept on disk, and mapped when they are used."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from iimt_search.data.task import SAMPLE_TYPES, Domain, Labelled, Labels, Note, Samples, Unlabelled
from iimt_search.errors import DataError
from iimt_search.files import atomic_write, shown, writable
from iimt_search.kinds import SampleKind


@dataclass(frozen=True)
class PartStream:
    """The training or test part of a domain.

    Attributes:
        count: number of samples N.
        sample_shape: shape of one sample.
        chunks: gives the samples in order, in arrays of M samples each, of the type of their kind.
        y: labels int64 (N,), or None.
    """

    count: int
    sample_shape: tuple[int, ...]
    chunks: Callable[[], Iterator[Samples]]
    y: Labels | None


@dataclass(frozen=True)
class Found:
    """What is known of a domain once all of its samples have been read.

    Attributes:
        notes: as in :class:`~iimt_search.data.task.Domain`.
        white_level: as in :class:`~iimt_search.data.task.Domain`.
    """

    notes: tuple[Note, ...] = ()
    white_level: int | float | None = None


@dataclass(frozen=True)
class DomainStream:
    """A domain to be prepared: as :class:`~iimt_search.data.task.Domain`, its parts read piece by piece.

    ``found`` is called when all parts have been read; it raises :class:`~iimt_search.errors.DataError` for
    what could not be.
    """

    train: PartStream
    test: PartStream | None
    classes: tuple[str, ...] | None
    kind: SampleKind
    augmentation: str
    found: Callable[[], Found] = Found


def stream_of(domain: Domain) -> DomainStream:
    """Return a domain that is in memory as a stream."""

    def part(whole: Labelled | Unlabelled) -> PartStream:
        y = whole.y if isinstance(whole, Labelled) else None
        return PartStream(len(whole), tuple(whole.x.shape[1:]), lambda: iter([whole.x]), y)

    test = None if domain.test is None else part(domain.test)
    return DomainStream(part(domain.train), test, domain.classes, domain.kind, domain.augmentation)


SCHEMA = 1


def data_root() -> Path:
    """Return the folder for data as it is downloaded or placed: ``$IIMT_DATA``, else in the cache."""
    return Path(os.environ.get("IIMT_DATA") or user_cache_path("iimt-search") / "data")


def prepared_root() -> Path:
    """Return the folder for prepared domains: ``$IIMT_CACHE``, else in the user's cache folder."""
    return Path(os.environ.get("IIMT_CACHE") or user_cache_path("iimt-search") / "prepared")


def array_hash(dtype: Any, shape: tuple[int, ...]) -> "hashlib._Hash":
    """Begin the hash of an array; its bytes in C order are to be added."""
    return hashlib.sha256(f"{np.dtype(dtype)}{shape}".encode())


def array_fingerprint(array: Samples | Labels) -> str:
    """Return the hash of an array's type, shape and values."""
    digest = array_hash(array.dtype, array.shape)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprint_of(classes: tuple[str, ...] | None, digests: list[str]) -> str:
    """Return a domain's fingerprint, of its classes and the hashes of its training arrays."""
    return hashlib.sha256("\x1f".join([*(classes or ()), *digests]).encode()).hexdigest()


def file_key(paths: Iterable[Path], more: str = "") -> str:
    """Return a hash that changes when a file is added, removed or changed, or ``more`` is another text.

    Raises:
        DataError: a file is not there or cannot be looked at; names it.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError as error:
            raise DataError(f"there is no file {shown(path)}") from error
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from error
        digest.update(os.fsencode(path) + f"\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\x1e".encode())
    digest.update(os.fsencode(more))
    return digest.hexdigest()[:16]


def _write_array(file: BinaryIO, shape: tuple[int, ...], dtype: Any, chunks: Iterable[Samples]) -> str:
    """Write an ``.npy`` file piece by piece; returns the SHA-256 of its content."""
    # Plain writes, not a memory map: on a full disk a map ends the process, a write raises.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    digest = array_hash(dtype, shape)
    written = 0
    for chunk in chunks:
        data = np.ascontiguousarray(chunk, dtype=dtype)
        digest.update(data.data)
        file.write(data.data)
        written += len(data)
    if written != shape[0]:
        raise DataError(f"{shape[0]} samples were announced and {written} came")
    return digest.hexdigest()


def _write_part(folder: Path, name: str, part: PartStream, dtype: Any) -> list[str]:
    digests = []
    with (folder / f"{name}_x.npy").open("wb") as file:
        digests.append(_write_array(file, (part.count, *part.sample_shape), dtype, part.chunks()))
    if part.y is not None:
        with (folder / f"{name}_y.npy").open("wb") as file:
            digests.append(_write_array(file, (part.count,), np.int64, [part.y]))
    return digests


def _write(folder: Path, stream: DomainStream) -> None:
    dtype = SAMPLE_TYPES[stream.kind]
    digests = _write_part(folder, "train", stream.train, dtype)
    if stream.test is not None:
        _write_part(folder, "test", stream.test, dtype)
    found = stream.found()
    meta = {
        "schema": SCHEMA,
        "classes": stream.classes,
        "kind": stream.kind,
        "augmentation": stream.augmentation,
        "fingerprint": fingerprint_of(stream.classes, digests),
        "sample_fingerprint": digests[0],
        **asdict(found),
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.glob("*.npy"))},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False), encoding="utf-8")


def _read_part(folder: Path, name: str) -> Labelled | Unlabelled | None:
    path = folder / f"{name}_x.npy"
    if not path.exists():
        return None
    # Copy-on-write: mapped as it is used, and nothing that a reader does reaches the file.
    x = np.load(path, mmap_mode="c", allow_pickle=False)
    labels = folder / f"{name}_y.npy"
    if not labels.exists():
        return Unlabelled(x)
    return Labelled(x, np.load(labels, allow_pickle=False))


def read_prepared(folder: Path) -> Domain | None:
    """Return the domain kept in ``folder``; None where it is absent, cut short or of another schema."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta["sizes"].items())
        if meta["schema"] != SCHEMA or not whole or (train := _read_part(folder, "train")) is None:
            return None
        fields = ("kind", "augmentation", "fingerprint", "sample_fingerprint")
        classes = None if meta["classes"] is None else tuple(meta["classes"])
        # Those of the named domains have no notes.
        notes = tuple(Note(**note) for note in meta.get("notes", ()))
        known = {"notes": notes, "white_level": meta.get("white_level")}
        return Domain(train, _read_part(folder, "test"), classes, **{n: meta[n] for n in fields}, **known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def prepared_folder(key: str) -> Path:
    """Return where the domain with this key is kept."""
    return prepared_root() / key


def prepared_sizes(name: str, version: str | int) -> list[int]:
    """Return the image sizes in pixels that a version of a named domain is kept in; 0 where it has none."""
    key = re.compile(rf"{re.escape(name)}-v{version}-(\d+)px(-\w+)?")
    names = [path.name for path in prepared_root().glob("*") if path.is_dir()]
    return sorted({int(match[1]) for match in map(key.fullmatch, names) if match is not None})


def cached(key: str, build: Callable[[], DomainStream]) -> Domain:
    """Return the domain kept under ``key``, building and keeping it first where it is not there.

    A lock makes concurrent processes build it once. It is written beside and renamed, so that a killed
    or failed build leaves nothing half-made.

    Raises:
        DataError: the disk is full, the folder cannot be written, or what ``build`` raises.
    """
    folder = prepared_folder(key)
    if (domain := read_prepared(folder)) is not None:
        return domain
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if (domain := read_prepared(folder)) is not None:
                return domain
            with atomic_write(folder, locked=True) as beside:
                beside.mkdir()
                _write(beside, build())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(
                f"the disk is full: no room for {key} in {folder.parent}; free some, or set IIMT_CACHE "
                f"to a folder on another disk"
            ) from error
        if not writable(folder.parent):
            raise DataError(
                f"prepared data cannot be written to {folder.parent}: {error.strerror or error}; set "
                f"IIMT_CACHE to a folder that can be written"
            ) from error
        raise
    if (domain := read_prepared(folder)) is None:
        raise DataError(f"what was just written to {folder} cannot be read back; is the disk in order?")
    return domain
