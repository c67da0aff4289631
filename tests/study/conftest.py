"""A listener that stops a run, and a PostgreSQL server for the session, where one can be started."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from benchmarks.postgresql import PASSWORD, NoServerError, PostgreSQL, postgresql
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.storage.database import PASSWORD_VARIABLE, open_storage


class StopAfter(Silent):
    """Stops the run at the nth snapshot."""

    def __init__(self, count: int, stop: threading.Event) -> None:
        self.left, self.stop = count, stop

    def snapshot(self, snapshot: Snapshot) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.set()


@pytest.fixture
def stop_after() -> type[StopAfter]:
    """The listener class that stops."""
    return StopAfter


@pytest.fixture(scope="session")
def _server() -> Iterator[PostgreSQL]:
    try:
        with postgresql(durable=False) as server:
            yield server
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def server(_server: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PostgreSQL:
    """The server with an empty database, its password in the environment."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    for name in ("PGPASSWORD", "PGHOST", "PGUSER", "PGPORT", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    storage = open_storage(_server.url)
    with storage.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    storage.engine.dispose()
    return _server


@pytest.fixture
def url_with_password(server: PostgreSQL) -> str:
    """The database's URL with the password in it, as nobody should write it."""
    return server.url.replace("@", f":{quote(PASSWORD, safe='')}@")


HOLD = """
import sys, time
from pathlib import Path
from iimt_search.study.storage.database import open_storage
from iimt_search.study.storage.lock import driver_session
storage = open_storage(sys.argv[1])
with driver_session(storage.engine, sys.argv[2], Path(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_driver(tmp_path: Path) -> Iterator["OtherDriver"]:
    """Starts processes that hold a study, each with a folder of its own."""
    others = OtherDriver(tmp_path)
    yield others
    others.end()


class OtherDriver:
    """Processes that hold studies in a database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def hold(self, url: str, study: str) -> subprocess.Popen[str]:
        """Start a process that holds the study, and wait until it does."""
        command = [sys.executable, "-c", HOLD, url, study, str(self._folder / "other machine" / study)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    def end(self) -> None:
        """Kill them all."""
        for process in self._processes:
            process.kill()
            process.communicate()


def database_of(url: str) -> str:
    """The path of a database file."""
    return make_url(url).database or ""
