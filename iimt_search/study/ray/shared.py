"""Files on storage that every machine reaches, where the machines do not share a disk."""

import os
import shutil
from pathlib import Path

from pyarrow import fs  # type: ignore[import-untyped]

from iimt_search.errors import UsageError


class SharedFolder:
    """A folder on a mounted disk or in an object store.

    Args:
        root: a path, or a URI such as ``s3://bucket/folder``; made where absent.

    Raises:
        UsageError: ``root`` is neither.
    """

    def __init__(self, root: str) -> None:
        where = root if "://" in root else Path(root).absolute().as_uri()
        try:
            self._fs, self._root = fs.FileSystem.from_uri(where)
            self._fs.create_dir(self._root, recursive=True)
        except (OSError, ValueError, NotImplementedError) as error:
            raise UsageError(
                f"--ray-storage must be a path, or a URI such as s3://BUCKET/FOLDER, got {root!r}: {error}"
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Return whether there is such a file or folder."""
        return bool(self._fs.get_file_info(self._path(name)).type != fs.FileType.NotFound)

    def put(self, path: Path, name: str) -> None:
        """Copy a file or folder there; who looks meanwhile finds the old one, or a whole new file."""
        target = self._path(name)
        self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        # An object appears when it is whole; a file of a disk is written beside and renamed.
        on_disk = self._fs.type_name == "local" and path.is_file()
        beside = f"{target}.{os.getpid()}.tmp" if on_disk else target
        fs.copy_files(str(path), beside, fs.LocalFileSystem(), self._fs)
        if on_disk:
            self._fs.move(beside, target)

    def get(self, name: str, path: Path) -> bool:
        """Copy a file or folder from there; returns whether it was there."""
        found = self._fs.get_file_info(self._path(name)).type
        if found == fs.FileType.NotFound:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        if found == fs.FileType.Directory:
            beside.mkdir(exist_ok=True)
        fs.copy_files(self._path(name), str(beside), self._fs, fs.LocalFileSystem())
        if path.is_dir():
            shutil.copytree(beside, path, dirs_exist_ok=True)
            shutil.rmtree(beside)
        else:
            os.replace(beside, path)
        return True

    def delete(self, name: str) -> None:
        """Delete a file or folder, where there is one."""
        found = self._fs.get_file_info(self._path(name)).type
        if found == fs.FileType.Directory:
            self._fs.delete_dir(self._path(name))
        elif found == fs.FileType.File:
            self._fs.delete_file(self._path(name))
