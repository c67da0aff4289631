"""Files of public data sets: downloaded, checked and unpacked once; placed by hand, they are only checked."""

import errno
import gzip
import hashlib
import os
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, TypeVar

from filelock import FileLock

from iimt_search.errors import DataError
from iimt_search.files import remove

_PIECE = 1 << 20
_TIMEOUT_SECONDS = 60
_T = TypeVar("_T")


class RemoteFile(NamedTuple):
    """A file that can be downloaded.

    Attributes:
        url: where it is.
        filename: its name on disk.
        md5: of its content, in hexadecimal.
        mirrors: where else it is, tried in this order after ``url``.
    """

    url: str
    filename: str
    md5: str
    mirrors: tuple[str, ...] = ()


class _DownloadError(Exception):
    """One address did not give the file."""


def _make(path: Path, write: Callable[[Path], Path]) -> None:
    """Make ``path`` in one process at a time, and whole or not at all.

    ``write`` receives a temporary name beside it and returns what is to be renamed to ``path``. What the disk
    refuses becomes a :class:`DataError` that names ``path``.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if path.exists():
                return
            remove(part)
            try:
                os.replace(write(part), path)
            finally:
                remove(part)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"the disk is full: no room for {path}; free some, or set IIMT_DATA to a folder on "
                f"another disk"
            ) from error
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; set IIMT_DATA to a folder that can be written"
        ) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return DataError(
        f"{path} cannot be read, it is damaged or cut short ({reason}): delete it, or put the right "
        f"file there"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check(name: str, path: Path, md5: str, made_from: Path | None = None) -> None:
    """Check that the file at ``path`` is there and the right one.

    Args:
        name: the domain that needs it.
        path: the file.
        md5: of the right file, in hexadecimal.
        made_from: what to delete to have the file made again, where that is not the file itself.

    Raises:
        DataError: it is missing or another.
    """
    remedy = f"put the right file there, or delete {made_from or path} to have it made again"
    if not path.is_file():
        raise DataError(f"{name} needs {path} (md5 {md5}), which is missing: {remedy}")
    if (actual := _md5(path)) != md5:
        raise DataError(f"{name}: {path} has md5 {actual} instead of {md5}: {remedy}")


def _download(url: str) -> Iterator[bytes]:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "iimt-search"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            while piece := response.read(_PIECE):
                yield piece
    except (OSError, HTTPException) as error:
        raise _DownloadError(f"{url}: {str(error) or type(error).__name__}") from error


def _fetch_one(name: str, file: RemoteFile, path: Path, part: Path) -> Path:
    """Download what shall be at ``path`` to ``part``, from the first address that has the right file."""
    reasons = []
    for url in (file.url, *file.mirrors):
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with part.open("wb") as out:
                for piece in _download(url):
                    digest.update(piece)
                    out.write(piece)
        except _DownloadError as error:
            reasons.append(str(error))
            continue
        if digest.hexdigest() == file.md5:
            return part
        reasons.append(f"{url}: what came has md5 {digest.hexdigest()}")
    raise DataError(
        f"{name} needs {path}, which could not be downloaded ({'; '.join(reasons)}): download {file.url} "
        f"elsewhere and put it at {path} (md5 {file.md5}), or set IIMT_DATA to a folder that has it"
    )


def fetch(name: str, files: Sequence[RemoteFile], folder: Path) -> None:
    """Have every file in ``folder``: what is absent is downloaded, what is present only checked.

    Args:
        name: the domain that needs them.
        files: what is needed.
        folder: where they lie; nothing is written to it when they all do.

    Raises:
        DataError: a present file is not the right one, a file cannot be downloaded, or the disk refuses it.
    """
    for file in files:
        path = folder / file.filename
        if path.is_file():
            check(name, path, file.md5)
        else:
            _make(path, partial(_fetch_one, name, file, path))


def _gunzip(archive: Path) -> Iterator[bytes]:
    try:
        with gzip.open(archive) as file:
            while piece := file.read(_PIECE):
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(archive, error) from error


def decompress(archive: Path, path: Path) -> None:
    """Decompress a ``.gz`` file to ``path``, unless that is there.

    Raises:
        DataError: the file is damaged, or the disk refuses what is in it.
    """

    def write(part: Path) -> Path:
        with part.open("wb") as out:
            for piece in _gunzip(archive):
                out.write(piece)
        return part

    _make(path, write)


def extract_tar(archive: Path, folder: Path) -> None:
    """Extract the folder named as ``folder`` from a tar archive to ``folder``, unless that is there.

    Raises:
        DataError: the archive is damaged, has no such folder, or has a member that would lie or point
            outside; or the disk refuses what is in it.
    """

    def write(part: Path) -> Path:
        part.mkdir()
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
        except tarfile.FilterError as error:
            raise DataError(
                f"{archive} is refused: its member {error.tarinfo.name!r} would leave the folder that it is "
                f"extracted to"
            ) from error
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(archive, error) from error
        if not (part / folder.name).is_dir():
            raise DataError(f"{archive} has no folder {folder.name}: delete it, or put the right file there")
        return part / folder.name

    _make(folder, write)


def read(path: Path, load: Callable[[], _T]) -> _T:
    """Return what ``load`` reads from ``path``.

    Raises:
        DataError: ``load`` failed, whatever the parser's own exception is.
    """
    try:
        return load()
    except (DataError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise _damaged(path, error) from error
