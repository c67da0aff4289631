"""The folder of a study."""

import json
import os
from collections.abc import Container
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from iimt_search.errors import ModelFileError, StudyError
from iimt_search.files import json_text, remove, remove_half_files, write_text
from iimt_search.study.storage.database import database_file, hide_password, sqlite_url
from iimt_search.study.storage.lock import Holder, LockFile

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
_OWN = "study.db"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study, such as ``studies/digits``."""

    path: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name

    @property
    def database(self) -> Path:
        """The default storage."""
        return self.path / _OWN

    @property
    def description(self) -> Path:
        """JSON with the storage's URL and the space."""
        return self.path / "study.json"

    @property
    def models(self) -> Path:
        """The retrained models, one folder for each task."""
        return self.path / "models"

    @property
    def kept(self) -> Path:
        """The kept checkpoints: a folder for each job, in it one for each task."""
        return self.path / "kept"

    def reference(self, task_slug: str) -> Path:
        """The labels of a task that the first trials agree on."""
        return self.path / "reference" / f"{task_slug}.safetensors"

    def reference_part(self, task_slug: str, name: str) -> "Tensor | None":
        """Return a part of a task's reference, None where it has no such part.

        Args:
            task_slug: of the task.
            name: ``labels``, float32 (N_t, C), or ``shares``, (C,), in which the source's classes are drawn.

        Raises:
            ModelFileError: the file is gone or damaged.
        """
        path = self.reference(task_slug)
        try:
            with safe_open(path, "pt") as file:
                return file.get_tensor(name) if name in file.keys() else None
        except (OSError, SafetensorError) as error:
            raise ModelFileError(f"{path} is not a whole reference: {error}") from error

    def teacher(self, task_slug: str) -> Path:
        """The labels of a task that all trained models agree on: what the retraining is taught."""
        return self.path / "teacher" / f"{task_slug}.safetensors"

    def job(self, key: str) -> Path:
        """The folder of one job's checkpoint."""
        return self.path / "jobs" / key

    def clear(self, jobs: bool = False, keep: Container[str] = ()) -> None:
        """Delete what killed drivers have left: half files, and with ``jobs`` checkpoints of ended jobs.

        Not those of jobs whose keys are to ``keep``.

        Not those of reports, which anybody may be writing.
        """
        for name in ("driver.json", "study.json"):
            remove_half_files(self.path, name)
        for name in ("jobs", "kept", "models", "reference", "teacher"):
            remove_half_files(self.path / name)
        if jobs:
            for path in (self.path / "jobs").glob("*"):
                if path.name not in keep:
                    remove(path)

    def storage_url(self) -> str:
        """Return the storage's URL as noted when the study was begun."""
        try:
            content = json.loads(self.description.read_text(encoding="utf-8"))
            url, beside = str(content["storage"]), content.get("beside")
            if url == _OWN:
                return sqlite_url(self.database)
            file = database_file(url)
            if file is not None and beside is not None and not file.exists():
                moved = self.path / str(beside)  # with the folder, as it lay
                url = sqlite_url(Path(os.path.abspath(moved))) if moved.exists() else url
            return hide_password(url)
        except FileNotFoundError as error:
            raise StudyError(f"there is no study in {self.path}") from error
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise StudyError(f"{self.description} is damaged: {error}") from error

    def choose_storage(self, given: str | None) -> str:
        """Return the URL of the storage to use: the given one, else the study's own, else the default.

        Raises:
            StudyError: the study lies in another storage than the given one, or in a file that is not there.
        """
        known = self.storage_url() if self.description.exists() else None
        file = None if known is None else database_file(known)
        if file == self.database.absolute() and not file.exists() and any(self.kept.glob("*")):
            raise StudyError(
                f"the trials of study {self.name!r} lay in {file}, which is not there: put it back, or "
                f"delete {self.path}/ to begin anew"
            )
        if known is not None and file is not None and file != self.database.absolute() and not file.exists():
            other = None if given is None else database_file(given)
            if given is not None and other is not None and other.exists():
                return given  # it has been moved
            raise StudyError(
                f"study {self.name!r} lies in {file}, which is not there; `storage` says where it is now"
            )
        if given is None:
            return known or sqlite_url(self.database)
        if known is not None and hide_password(given) != known:
            raise StudyError(f"study {self.name!r} lies in {known}; give that `storage`, or another `study`")
        return given

    def describe(self, storage_url: str, space: dict[str, Any]) -> None:
        """Note the storage and the space, for people and for the verbs that only read."""
        self.path.mkdir(parents=True, exist_ok=True)
        own = storage_url == sqlite_url(self.database)  # noted without a path: the folder may be moved
        content = {"schema": SCHEMA, "storage": _OWN if own else hide_password(storage_url), "space": space}
        if not own and (file := database_file(storage_url)) is not None:
            with suppress(ValueError):  # on another drive
                content["beside"] = Path(os.path.relpath(file, self.path)).as_posix()
        write_text(self.description, json_text(content, indent=2) + "\n")

    def network(self) -> str:
        """Return the encoder that the study was begun with; "" where there is no study yet."""
        with suppress(FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            content = json.loads(self.description.read_text(encoding="utf-8"))
            return str(content["space"]["train"]["network"])
        return ""

    @property
    def _lock(self) -> LockFile:
        return LockFile(self.path / "driver", self.name)

    def driver(self) -> Holder | None:
        """Return the driver that runs the study on this machine now, or None."""
        return self._lock.holder()

    def driver_lock(self) -> AbstractContextManager[None]:
        """Hold the study as its only driver on this machine.

        Raises:
            StudyLockedError: another driver holds it; says which.
        """
        return self._lock.held()


def newest_study(root: Path) -> StudyFolder:
    """Return the study under ``root`` that was run last.

    By the file that every run writes at its beginning: who only reads leaves traces at a database, too.

    Raises:
        StudyError: there is none.
    """
    studies = [StudyFolder(path.parent) for path in root.glob("*/study.json")]
    if not studies:
        raise StudyError(f"there is no study in {root}/; start one with: iimt-search run --space FILE")

    return max(studies, key=lambda folder: folder.description.stat().st_mtime)
