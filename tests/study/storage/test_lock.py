import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from benchmarks.postgresql import PostgreSQL
from iimt_search.errors import StudyLockedError
from iimt_search.study.storage.database import open_storage, sqlite_url
from iimt_search.study.storage.lock import DriverSession, Holder, LockFile, database_holder, driver_session


def test_a_lock_file_says_who_holds_it(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "new" / "driver", "digits")
    assert lock.holder() is None and not (tmp_path / "new").exists()
    with lock.held():
        holder = LockFile(tmp_path / "new" / "driver", "digits").holder()
        assert holder is not None
        assert (holder.pid, holder.host) == (os.getpid(), socket.gethostname())
        expected = f"'digits' is being run by process {os.getpid()} on {socket.gethostname()} since 20"
        with pytest.raises(StudyLockedError, match=expected), lock.held():
            pass
    assert lock.holder() is None
    with lock.held():
        (tmp_path / "new" / "driver.json").write_text("{half")
        assert lock.holder() == Holder()
        with pytest.raises(StudyLockedError, match="a process that is not known"), lock.held():
            pass


def test_one_sqlite_file_and_two_folders(tmp_path: Path, other_driver: "OtherDriver") -> None:  # noqa: F821
    url = sqlite_url(tmp_path / "team.db")
    process = other_driver.hold(url, "digits")
    storage = open_storage(url)
    with (
        pytest.raises(StudyLockedError, match=f"process {process.pid} on"),
        driver_session(storage.engine, "digits", tmp_path / "here"),
    ):
        pass
    with driver_session(storage.engine, "letters", tmp_path / "here"):
        pass  # another study in the same file
    process.kill()
    process.wait()
    with driver_session(storage.engine, "digits", tmp_path / "here"):
        pass
    storage.engine.dispose()


def test_the_studys_own_database_is_guarded_by_its_folder(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "study.db"))
    with driver_session(storage.engine, "digits", tmp_path):
        assert not list(tmp_path.glob("*.lock"))
    storage.engine.dispose()


def test_one_postgresql_database_and_two_machines(
    server: PostgreSQL,
    tmp_path: Path,
    other_driver: "OtherDriver",  # noqa: F821
) -> None:
    storage = open_storage(server.url)
    assert database_holder(storage.engine, "digits") is None
    process = other_driver.hold(server.url, "digits")
    holder = database_holder(storage.engine, "digits")
    assert holder is not None and holder.since.startswith("20")
    assert (holder.pid, holder.host) == (process.pid, socket.gethostname())
    with (
        pytest.raises(StudyLockedError, match=f"process {process.pid} on {socket.gethostname()} since 20"),
        driver_session(storage.engine, "digits", tmp_path),
    ):
        pass
    with driver_session(storage.engine, "letters", tmp_path):
        assert (database_holder(storage.engine, "letters") or Holder()).pid == os.getpid()
    assert database_holder(storage.engine, "letters") is None
    process.kill()  # the lock goes with its holder
    process.wait()
    with storage.engine.connect() as connection:
        for _ in range(100):
            if database_holder(storage.engine, "digits") is None:
                break
            connection.execute(text("SELECT pg_sleep(0.05)"))
    with driver_session(storage.engine, "digits", tmp_path):
        pass
    storage.engine.dispose()


def test_a_lost_session_is_taken_up_again_unless_another_driver_has(server: PostgreSQL) -> None:
    storage = open_storage(server.url)
    session, other = DriverSession(storage.engine, "digits"), DriverSession(storage.engine, "digits")
    backend = session.connection().scalar(text("SELECT pg_backend_pid()"))
    session.connection().commit()
    assert session.opened == 1
    # The network between is cut: the server still believes in the session, we do not.
    abandoned, session._connection = session._connection, None
    assert abandoned is not None
    raw = abandoned.connection.dbapi_connection
    with storage.engine.connect() as connection:
        assert session.connection().scalar(text("SELECT pg_backend_pid()")) != backend
        found = connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE pid = :b"), {"b": backend}
        )
        assert found == 0 and session.opened == 2
    with pytest.raises(StudyLockedError, match=f"process {os.getpid()} on"):
        other.connection()
    session.close()
    other.connection()
    with pytest.raises(StudyLockedError):
        session.connection()
    other.close()
    assert raw is not None
    raw.close()
    storage.engine.dispose()
