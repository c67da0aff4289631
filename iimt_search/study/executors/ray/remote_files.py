"""A job's files on their way between its node and the study's folder, by way of shared storage.

A node works in a scratch folder of its own. After each evaluation it uploads what is kept of it and the
checkpoint; at the report the driver downloads what is kept and deletes it there. Prepared data goes the
other way, once for each node.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from pyarrow import fs  # type: ignore[import-untyped]

from iimt_search.data.assemble import task_image_size
from iimt_search.data.open import open_domain
from iimt_search.data.store import prepared_folder, read_prepared
from iimt_search.errors import UsageError
from iimt_search.features.extract import featurizer_of
from iimt_search.files import atomic_write
from iimt_search.records import Evaluation, Job
from iimt_search.training.checkpoint import checkpoint_path


class RemoteFolder:
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
                f"`ray_storage` must be a path, or a URI such as s3://BUCKET/FOLDER, got {root!r}: {error}"
            ) from error

    def _look(self, name: str) -> tuple[str, Any]:
        """Return the path of a name, and what is there."""
        path = f"{self._root}/{name}"
        return path, self._fs.get_file_info(path).type

    def exists(self, name: str) -> bool:
        """Return whether there is such a file or folder."""
        return bool(self._look(name)[1] != fs.FileType.NotFound)

    def upload(self, path: Path, name: str) -> None:
        """Copy a file or folder there; who looks meanwhile finds the old one, or a whole new file."""
        target = f"{self._root}/{name}"
        self._fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        # An object appears when it is whole; a file of a disk is written beside and renamed.
        on_disk = self._fs.type_name == "local" and path.is_file()
        beside = f"{target}.{os.getpid()}.tmp" if on_disk else target
        fs.copy_files(str(path), beside, fs.LocalFileSystem(), self._fs)
        if on_disk:
            self._fs.move(beside, target)

    def download(self, name: str, path: Path) -> bool:
        """Copy a file or folder from there; returns whether it was there."""
        there, kind = self._look(name)
        if kind == fs.FileType.NotFound:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            if kind == fs.FileType.Directory:
                beside.mkdir()
                if path.is_dir():  # what is there already stays
                    shutil.copytree(path, beside, dirs_exist_ok=True)
            fs.copy_files(there, str(beside), self._fs, fs.LocalFileSystem())
        return True

    def delete(self, name: str) -> None:
        """Delete a file or folder, where there is one."""
        there, kind = self._look(name)
        if kind == fs.FileType.Directory:
            self._fs.delete_dir(there)
        elif kind == fs.FileType.File:
            self._fs.delete_file(there)


def _checkpoint(job: Job) -> str:
    return f"jobs/{job.key}/checkpoint.pt"


def _kept(job: Job, task: str, step: int) -> str:
    return f"kept/{job.key}/{job.kept_file(task, step).relative_to(job.kept).as_posix()}"


_INPUTS = ("teacher", "start")


def _inputs(job: Job) -> dict[str, str]:
    """Return field → name there, of the files that a job begins with."""
    return {
        field: f"{field}/{job.key}/{Path(getattr(job, field)).name}"
        for field in _INPUTS
        if getattr(job, field)
    }


def prepared_keys(job: Job) -> list[str]:
    """Return the keys of the prepared domains that a job reads.

    A domain that a Python function makes has none: every node calls the function.
    """
    keys, settings = [], job.settings
    form = settings.form
    for task in job.tasks:
        size, featurizer = task_image_size(task, form.size), featurizer_of(task, settings)
        for spec in (*task.source, task.target, *([task.few_shot] if task.few_shot else [])):
            domain = open_domain(spec, size, form.interpolation)
            for each in (domain, *([featurizer(domain)] if featurizer else [])):
                if file := getattr(each.train.x, "filename", None):  # a memory map of the prepared file
                    keys.append(Path(file).parent.name)
    return list(dict.fromkeys(keys))


class DriverFiles:
    """What the driver uploads and downloads.

    Args:
        storage: path or URI; the study has a folder in it, prepared data is beside.
        study: the study's name.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._prepared = RemoteFolder(f"{storage}/prepared")
        self._files = RemoteFolder(f"{storage}/{study}")
        self._uploaded: set[str] = set()

    def upload_inputs(self, job: Job) -> list[str]:
        """Upload what a job begins with; returns the keys of its prepared data."""
        keys = prepared_keys(job)
        for key in keys:
            if key not in self._uploaded and not self._prepared.exists(f"{key}/meta.json"):
                for file in sorted(prepared_folder(key).iterdir(), reverse=True):
                    self._prepared.upload(file, f"{key}/{file.name}")
            self._uploaded.add(key)
        for field, name in _inputs(job).items():
            self._files.upload(Path(getattr(job, field)), name)
        own = checkpoint_path(Path(job.folder))
        if not self._files.exists(_checkpoint(job)):
            if own.exists():
                self._files.upload(own, _checkpoint(job))
            elif job.kept:
                shutil.rmtree(job.kept, ignore_errors=True)  # of an earlier training under this key
        return keys

    def download_kept(self, job: Job, evaluation: Evaluation) -> None:
        """Download what is kept of an evaluation, and delete it there."""
        if job.kept:
            for task in evaluation.scores:
                name = _kept(job, task, evaluation.step)
                if self._files.download(name, job.kept_file(task, evaluation.step)):
                    self._files.delete(name)

    def download_checkpoint(self, job: Job) -> None:
        """Download the last checkpoint of a job under way, for a fork or another backend to go on from."""
        self._files.download(_checkpoint(job), checkpoint_path(Path(job.folder)))

    def delete(self, job: Job) -> None:
        """Delete a job's files in the storage."""
        for kind in ("jobs", "kept", *_INPUTS):
            self._files.delete(f"{kind}/{job.key}")


class NodeFiles:
    """What a node downloads and uploads for one job.

    Attributes:
        job: the job, in the node's scratch folder.
    """

    def __init__(self, storage: str, study: str, job: Job, prepared: list[str]) -> None:
        self._prepared = RemoteFolder(f"{storage}/prepared")
        self._files = RemoteFolder(f"{storage}/{study}")
        self._scratch = Path(tempfile.mkdtemp(prefix=f"iimt-{job.key}-"))
        self._uploaded_at = 0.0
        self.job = replace(
            job,
            folder=str(self._scratch / "job"),
            kept=job.kept and str(self._scratch / "kept"),
        )
        files = {field: self._scratch / f"{field}.safetensors" for field in _inputs(job)}
        for field, name in _inputs(job).items():
            self._files.download(name, files[field])
        self.job = replace(self.job, **{field: str(file) for field, file in files.items()})  # type: ignore[arg-type]
        for key in prepared:
            self._download_prepared(key)
        if self._files.download(_checkpoint(job), checkpoint_path(Path(self.job.folder))):
            self._uploaded_at = checkpoint_path(Path(self.job.folder)).stat().st_mtime_ns

    def _download_prepared(self, key: str) -> None:
        folder = prepared_folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):  # once, by the first of the node's processes
            if read_prepared(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                self._prepared.download(key, folder)

    def upload(self, evaluation: Evaluation) -> None:
        """Upload what is kept of an evaluation, then the checkpoint; one that was resent is there already."""
        for task in evaluation.scores if self.job.kept else ():
            path = self.job.kept_file(task, evaluation.step)
            if path.exists():
                self._files.upload(path, _kept(self.job, task, evaluation.step))
                path.unlink()
        checkpoint = checkpoint_path(Path(self.job.folder))
        if (written := checkpoint.stat().st_mtime_ns) != self._uploaded_at:
            self._files.upload(checkpoint, _checkpoint(self.job))
            self._uploaded_at = written

    def close(self) -> None:
        """Delete the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)
