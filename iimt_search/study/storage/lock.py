"""One driver a study: a lock file on one machine, an advisory lock in PostgreSQL across machines."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from iimt_search.errors import StudyError, StudyLockedError
from iimt_search.files import write_text

_APPLICATION = "iimt-search pid {pid} on {host}"
_APPLICATION_BYTES = 63  # PostgreSQL cuts an application's name there


@dataclass(frozen=True)
class Holder:
    """Who holds a study as its driver.

    Attributes:
        pid: the process's number on its host; 0 where it is not known.
        host: its host's name, "" where it is not known.
        since: UTC, ISO 8601; "" where it is not known.
    """

    pid: int = 0
    host: str = ""
    since: str = ""

    @classmethod
    def me(cls) -> "Holder":
        """This process, from now on."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        if not self.pid:
            return "a process that is not known"
        return f"process {self.pid} on {self.host}" + (f" since {self.since}" if self.since else "")


def _refuse(study: str, holder: Holder) -> StudyLockedError:
    return StudyLockedError(
        f"study {study!r} is being run by {holder}; wait for it, or stop it there with Ctrl-C"
    )


def _held_by_another(path: Path) -> bool:
    """Return whether a lock file that may be read only is held, where the system can tell."""
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # ended by closing it
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        pass
    return False


class LockFile:
    """A lock among the processes of one machine, with a note of who holds it.

    Args:
        path: without an ending: ``path.lock`` is locked, ``path.json`` says who by.
        study: the study's name.
    """

    def __init__(self, path: Path, study: str) -> None:
        self._lock = path.with_name(path.name + ".lock")
        self._note = path.with_name(path.name + ".json")
        self._study = study

    def holder(self) -> Holder | None:
        """Return who holds the lock now, None where nobody does."""
        if not self._lock.exists():
            return None
        try:
            with suppress(Timeout), FileLock(self._lock, timeout=0):
                return None
        except OSError:  # it may not be written here
            if not _held_by_another(self._lock):
                return None
        try:
            return Holder(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return Holder()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            StudyLockedError: somebody else holds it; says who.
            StudyError: its folder cannot be written.
        """
        lock = FileLock(self._lock)
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=1)  # who only asks for the driver holds it for a moment
        except Timeout as error:
            raise _refuse(self._study, self.holder() or Holder()) from error
        except OSError as error:
            raise StudyError(
                f"study {self._study!r} cannot be written in {self._lock.parent}/: "
                f"{error.strerror or error}; `studies_dir` says where else"
            ) from error
        try:
            write_text(self._note, json.dumps(asdict(Holder.me())))
            yield
        finally:
            self._note.unlink(missing_ok=True)
            lock.release()


def _key(study: str) -> int:
    """Return the study's advisory lock: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"iimt-search {study}".encode()).digest()[:8], signed=True)


_HOLDER = text(
    "SELECT a.pid, a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = :high AND l.objid = :low "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _session_holder(connection: Connection, study: str) -> tuple[int, Holder] | None:
    """Return the server's process number of the session that holds a study, and whose it is."""
    key = _key(study) % 2**64
    row = connection.execute(_HOLDER, {"high": key >> 32, "low": key % 2**32}).first()
    if row is None:
        return None
    name = re.fullmatch(_APPLICATION.format(pid=r"(\d+)", host="(.*)"), row[1] or "")
    # Only its own role and superusers see when a session began.
    since = row[2].astimezone(UTC).isoformat(timespec="seconds") if row[2] else ""
    return row[0], Holder(int(name[1]), name[2], since) if name else Holder()


def database_holder(engine: Engine, study: str) -> Holder | None:
    """Return who holds a study in its database; None where nobody does, and for SQLite always."""
    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as connection:
        session = _session_holder(connection, study)
    return None if session is None else session[1]


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Return what tells a file from another of its name; None where there is none."""
    try:
        stat = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if stat is None else (stat.st_dev, stat.st_ino)


class DriverSession:
    """The one database session that a driver writes through.

    In PostgreSQL it holds the study's advisory lock: the lock ends with the driver or its connection, and
    a session that has lost the lock has lost its connection too, hence can write nothing unguarded. SQLite
    has no such locks; there a :class:`LockFile` guards.

    A database file that is removed or replaced while it is open would take everything that is written from
    then on to nowhere: :meth:`connection` looks whether it is the one that was opened.

    Attributes:
        opened: how often the session was opened: above 1, it was lost in between.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine, self._study = engine, study
        self._connection: Connection | None = None
        self._backend = 0
        sqlite = engine.dialect.name == "sqlite"
        self._path = Path(engine.url.database).absolute() if sqlite and engine.url.database else None
        self._file: tuple[int, int] | None = None
        self.opened = 0

    @property
    def lost(self) -> bool:
        """Whether the session has been found to be broken."""
        return self._connection is None or self._connection.invalidated

    def connection(self) -> Connection:
        """Return the session, opened and locked where it is not.

        Raises:
            StudyLockedError: another driver holds the study; says which.
            StudyError: its file is gone, or another is in its place.
            SQLAlchemyError: the database does not answer.
        """
        if self._file is not None and _identity(self._path) != self._file:
            raise StudyError(
                f"the database {self._path} was removed or replaced while the study ran: what was finished "
                f"since is not in it; put it back, and run again to continue"
            )
        if self._connection is None:
            connection = self._engine.connect()
            connection.detach()  # a pool would keep it, and its lock, open
            try:
                if self._engine.dialect.name == "postgresql":
                    self._take(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._file = connection, _identity(self._path)
            self.opened += 1
        return self._connection

    def _take(self, connection: Connection) -> None:
        name = _APPLICATION.format(pid=os.getpid(), host=socket.gethostname())
        name = name.encode()[:_APPLICATION_BYTES].decode(errors="ignore")
        connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name})
        backend = connection.scalar(text("SELECT pg_backend_pid()")) or 0
        if not self._lock(connection):
            held_by, holder = _session_holder(connection, self._study) or (None, Holder())
            if held_by != self._backend:
                raise _refuse(self._study, holder)
            # Our own lost session, which the server still believes in.
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": self._backend})
            if not self._lock(connection, tries=50):
                raise _refuse(self._study, holder)
        self._backend = backend
        connection.commit()

    def _lock(self, connection: Connection, tries: int = 1) -> bool:
        for _ in range(tries):
            if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(self._study)}):
                return True
            if tries > 1:
                connection.execute(text("SELECT pg_sleep(0.1)"))
        return False

    def close(self) -> None:
        """End the session and its lock; :meth:`connection` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                connection.invalidate()


@contextmanager
def driver_session(engine: Engine, study: str, own: Path) -> Iterator[DriverSession]:
    """Hold a study in its database as its only driver; its ``own`` folder is locked already.

    Raises:
        StudyLockedError: another driver holds it; says which.
    """
    session = DriverSession(engine, study)
    guard: AbstractContextManager[None] = nullcontext()
    if engine.dialect.name == "sqlite" and engine.url.database:
        path = Path(engine.url.database).absolute()
        if path.parent != own.absolute():
            guard = LockFile(path.with_name(f"{path.name}.{study}.driver"), study).held()
    with guard:
        try:
            session.connection()
            yield session
        finally:
            session.close()
