"""Where a study lives: its folder, its Optuna storage, and the lock of its one driver."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from iimt_search.errors import StudyError, StudyLockedError, UsageError
from iimt_search.files import write_beside

SCHEMA = 1
_OWN = "study.db"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study.

    Attributes:
        path: such as ``studies/digits``.
    """

    path: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name

    @property
    def database(self) -> Path:
        """The default storage."""
        return self.path / "study.db"

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

    def job(self, key: str) -> Path:
        """The folder of one job's checkpoint."""
        return self.path / "jobs" / key

    def storage_url(self) -> str:
        """Return the storage's URL as noted when the study was begun."""
        try:
            content = json.loads(self.description.read_text(encoding="utf-8"))
            url = str(content["storage"])
            return sqlite_url(self.database) if url == _OWN else url
        except FileNotFoundError as error:
            raise StudyError(f"there is no study in {self.path}") from error
        except (json.JSONDecodeError, KeyError) as error:
            raise StudyError(f"{self.description} is damaged: {error}") from error

    def choose_storage(self, given: str | None) -> str:
        """Return the URL of the storage to use: the given one, else the study's own, else the default.

        Raises:
            StudyError: the study lies in another storage than the given one, or its URL has a password,
                which is not kept.
        """
        known = self.storage_url() if self.description.exists() else None
        if given is None:
            return self._with_password(known) if known else sqlite_url(self.database)
        if known is not None and hide_password(given) != known:
            raise StudyError(f"study {self.name!r} lies in {known}; give that --storage, or another --study")
        return given

    def _with_password(self, url: str) -> str:
        if ":***@" in url:
            raise StudyError(f"study {self.name!r} lies in {url}; give --storage with the password")
        return url

    def describe(self, storage_url: str, space: dict[str, Any]) -> None:
        """Note the storage and the space, for people and for the verbs that only read."""
        self.path.mkdir(parents=True, exist_ok=True)
        own = storage_url == sqlite_url(self.database)  # noted without a path: the folder may be moved
        content = {"schema": SCHEMA, "storage": _OWN if own else hide_password(storage_url), "space": space}
        write_beside(self.description, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @property
    def _holder(self) -> Path:
        return self.path / "driver.json"

    def _lock(self) -> FileLock:
        return FileLock(self.path / "driver.lock")

    def driver(self) -> dict[str, Any] | None:
        """Return the ``pid`` and ``host`` of the driver that runs the study now, or None."""
        lock = self._lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            try:
                found: dict[str, Any] = json.loads(self._holder.read_text(encoding="utf-8"))
            except (OSError, json.JSONDecodeError):
                return {"pid": "?", "host": "?"}
            return found
        lock.release()
        return None

    @contextmanager
    def driver_lock(self) -> Iterator[None]:
        """Hold the study as its only driver.

        Raises:
            StudyLockedError: another driver holds it; says which.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            lock.acquire(timeout=1)  # who only asks for the driver holds it for a moment
        except Timeout as error:
            who = self.driver() or {"pid": "?", "host": "?"}
            raise StudyLockedError(
                f"study {self.name!r} is being run by process {who['pid']} on {who['host']}; "
                f"wait for it, or stop it with Ctrl-C"
            ) from error
        try:
            self._holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            yield
        finally:
            self._holder.unlink(missing_ok=True)
            lock.release()


def hide_password(url: str) -> str:
    """Return a database URL that may be shown."""
    return make_url(url).render_as_string(hide_password=True)


def sqlite_url(path: Path) -> str:
    """Return the storage URL of a database file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def open_storage(url: str) -> RDBStorage:
    """Open an Optuna storage; SQLite in WAL mode, so that readers never wait for the driver.

    Raises:
        UsageError: ``url`` is not a database URL.
        StudyError: the database cannot be opened.
    """
    try:
        sqlite = make_url(url).get_backend_name() == "sqlite"
    except ArgumentError as error:
        raise UsageError(f"--storage must be a database URL such as sqlite:///FILE, got {url!r}") from error
    engine: dict[str, Any] = {}
    if sqlite:
        engine = {"connect_args": {"timeout": 60}, "pool_events": [(_set_pragmas, "connect")]}
    try:
        return RDBStorage(url, engine_kwargs=engine)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(f"cannot open the storage {hide_password(url)}: {reason}") from error


def optuna_study_names(storage: RDBStorage, name: str) -> list[str]:
    """Return the Optuna studies of our study: its name, or one ``name:task`` for each task."""
    names = optuna.study.get_all_study_names(storage)
    return [found for found in names if found == name or found.startswith(f"{name}:")]


def count_trials(storage: RDBStorage, study_name: str) -> dict[TrialState, int]:
    """Count a study's trials by state, in the database: Optuna itself would read every one of them."""
    study_id = storage.get_study_id_from_name(study_name)
    query = text("SELECT state, COUNT(*) FROM trials WHERE study_id = :study GROUP BY state")
    with storage.engine.connect() as connection:
        return {TrialState[state]: count for state, count in connection.execute(query, {"study": study_id})}


def newest_study(root: Path) -> StudyFolder:
    """Return the study under ``root`` that was written last.

    Raises:
        StudyError: there is none.
    """
    found = [StudyFolder(path.parent) for path in root.glob("*/study.json")]
    if not found:
        raise StudyError(f"there is no study in {root}/; start one with: iimt-search run --space FILE")

    def written(folder: StudyFolder) -> float:
        files = (folder.description, folder.database, folder.path / "study.db-wal")
        return max(file.stat().st_mtime for file in files if file.exists())

    return max(found, key=written)
