"""A job's files on their way between its node and the study's folder, by way of shared storage.

A node works in a scratch folder of its own. After each evaluation it puts the checkpoint and what is
kept of it into the storage; the driver fetches what is kept when it hears the report, the models when it
hears the end, and then deletes them there. Prepared data goes the other way, once for each node.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from iimt_search.data.assemble import task_image_size
from iimt_search.data.open import open_domain
from iimt_search.data.store import prepared_folder, read_prepared
from iimt_search.records import Evaluation, Job
from iimt_search.study.ray.shared import SharedFolder
from iimt_search.training.checkpoint import checkpoint_path


def _checkpoint(job: Job) -> str:
    return f"jobs/{job.key}/checkpoint.pt"


def _kept(job: Job, task: str, step: int) -> str:
    return f"kept/{job.key}/{job.kept_file(task, step).relative_to(job.kept).as_posix()}"


def prepared_keys(job: Job) -> list[str]:
    """Return the keys of the prepared domains that a job reads.

    A domain that a Python function makes has none: every node calls the function.
    """
    keys = []
    for task in job.tasks:
        size = task_image_size(task, job.settings.image_size)
        for spec in (*task.source, task.target, *([task.few_shot] if task.few_shot else [])):
            samples = open_domain(spec, size).train.x
            if file := getattr(samples, "filename", None):  # a memory map of the prepared file
                keys.append(Path(file).parent.name)
    return list(dict.fromkeys(keys))


class DriverSide:
    """What the driver puts and fetches.

    Args:
        storage: path or URI; the study has a folder in it, prepared data is beside.
        study: the study's name.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._prepared = SharedFolder(f"{storage}/prepared")
        self._files = SharedFolder(f"{storage}/{study}")
        self._sent: set[str] = set()

    def send(self, job: Job) -> list[str]:
        """Put what a job begins with; returns the keys of its prepared data."""
        keys = prepared_keys(job)
        for key in keys:
            if key not in self._sent and not self._prepared.exists(f"{key}/meta.json"):
                for file in sorted(prepared_folder(key).iterdir(), reverse=True):
                    self._prepared.put(file, f"{key}/{file.name}")
            self._sent.add(key)
        own = checkpoint_path(Path(job.folder))
        if not self._files.exists(_checkpoint(job)):
            if own.exists():
                self._files.put(own, _checkpoint(job))
            elif job.kept:
                shutil.rmtree(job.kept, ignore_errors=True)  # of an earlier training under this key
        return keys

    def evaluated(self, job: Job, evaluation: Evaluation) -> None:
        """Fetch what is kept of an evaluation."""
        if job.kept:
            for task in evaluation.scores:
                name = _kept(job, task, evaluation.step)
                if self._files.get(name, job.kept_file(task, evaluation.step)):
                    self._files.delete(name)

    def complete(self, job: Job) -> None:
        """Fetch the models of a job that has ended by itself."""
        if job.models:
            self._files.get(f"models/{job.key}", Path(job.models))

    def checkpoint(self, job: Job) -> None:
        """Fetch the last checkpoint of a job under way, for its fork to go on from."""
        self._files.get(_checkpoint(job), checkpoint_path(Path(job.folder)))

    def forget(self, job: Job) -> None:
        """Delete a job's files in the storage."""
        for kind in ("jobs", "kept", "models"):
            self._files.delete(f"{kind}/{job.key}")

    def take_back(self, job: Job) -> None:
        """Fetch the checkpoint of a job under way, that any backend can go on from it."""
        self.checkpoint(job)
        self.forget(job)


class NodeSide:
    """What a node fetches and puts for one job.

    Attributes:
        job: the job, in the node's scratch folder.
    """

    def __init__(self, storage: str, study: str, job: Job, prepared: list[str]) -> None:
        self._prepared = SharedFolder(f"{storage}/prepared")
        self._files = SharedFolder(f"{storage}/{study}")
        self._scratch = Path(tempfile.mkdtemp(prefix=f"iimt-{job.key}-"))
        self._pushed = 0.0
        self.job = replace(
            job,
            folder=str(self._scratch / "job"),
            kept=job.kept and str(self._scratch / "kept"),
            models=job.models and str(self._scratch / "models"),
        )
        for key in prepared:
            self._fetch_prepared(key)
        if self._files.get(_checkpoint(job), checkpoint_path(Path(self.job.folder))):
            self._pushed = checkpoint_path(Path(self.job.folder)).stat().st_mtime_ns

    def _fetch_prepared(self, key: str) -> None:
        folder = prepared_folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):  # once, by the first of the node's processes
            if read_prepared(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                self._prepared.get(key, folder)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Put what is kept of an evaluation, then the checkpoint; one that was resent is there already."""
        for task in evaluation.scores if self.job.kept else ():
            path = self.job.kept_file(task, evaluation.step)
            if path.exists():
                self._files.put(path, _kept(self.job, task, evaluation.step))
                path.unlink()
        checkpoint = checkpoint_path(Path(self.job.folder))
        if (written := checkpoint.stat().st_mtime_ns) != self._pushed:
            self._files.put(checkpoint, _checkpoint(self.job))
            self._pushed = written

    def complete(self) -> None:
        """Put the exported models."""
        if self.job.models:
            self._files.put(Path(self.job.models), f"models/{self.job.key}")

    def close(self) -> None:
        """Delete the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)
