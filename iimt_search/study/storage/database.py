"""The database that holds studies: its URL, its password, and Optuna's storage in it."""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from iimt_search.errors import StudyError, UsageError
from iimt_search.files import writable
from iimt_search.plain_text import without_passwords

PASSWORD_VARIABLE = "IIMT_STORAGE_PASSWORD"
_EXAMPLES = "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
# libpq takes a password as an option of the URL, too.
_SECRET_OPTIONS = ("password", "sslpassword")
# A peer that is gone is found out within a minute, not within libpq's hours.
_KEEPALIVES = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_LIBPQ_DRIVERS = ("psycopg", "psycopg2")


def _parse(url: str) -> URL:
    """Parse a storage's URL.

    Raises:
        UsageError: it is none, or of a database that has no driver's lock here. A password in it is not
            repeated.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        shown = re.sub(r".*@", "…@", url)
        # Not chained: the parser's error may hold a piece of the password.
        raise UsageError(f"`storage` must be a database URL such as {_EXAMPLES}, got {shown!r}") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"`storage` takes {_EXAMPLES}, got {parsed.drivername!r}")
    return parsed


def has_password(url: str) -> bool:
    """Tell whether a URL carries a password, which then stands in process lists and shell histories."""
    parsed = _parse(url)
    return bool(parsed.password) or any(parsed.query.get(name) for name in _SECRET_OPTIONS)


def password_of(url: str) -> str:
    """Return the password in a URL, "" where there is none, or another secret, or it is no URL."""
    try:
        parsed = _parse(url)
    except UsageError:
        return ""
    in_query, other = (parsed.query.get(name) for name in _SECRET_OPTIONS)
    return "" if other else str(parsed.password or in_query or "")


def hide_password(url: str) -> str:
    """Return a database URL that may be shown and kept: without its password, a file's path absolute.

    Raises:
        UsageError: it is no database URL.
    """
    parsed = _parse(url)
    if (file := database_file(url)) is not None:
        parsed = parsed.set(database=str(file))
    return URL.create(
        parsed.drivername,
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query={name: value for name, value in parsed.query.items() if name not in _SECRET_OPTIONS},
    ).render_as_string()


def database_file(url: str) -> Path | None:
    """Return the file of an SQLite database, absolute; None where it is another database, or in no file."""
    parsed = _parse(url)
    name = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(os.path.abspath(name))


def sqlite_url(path: Path) -> str:
    """Return the storage URL of a database file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _postgresql_options(parsed: URL) -> dict[str, Any]:
    """Return what SQLAlchemy's engine is made with; the password comes from the environment."""
    arguments: dict[str, Any] = {}
    if parsed.get_driver_name() in _LIBPQ_DRIVERS:
        arguments = {name: value for name, value in _KEEPALIVES.items() if name not in parsed.query}
    password = os.environ.get(PASSWORD_VARIABLE)
    if password and not parsed.password and "password" not in parsed.query:
        arguments["password"] = password
    # Without a pool: a reader holds no connection between its questions, of which a server has about a
    # hundred for everyone, and finds no dead one after a restart. The driver writes through one of its own.
    return {"connect_args": arguments, "poolclass": NullPool}


def _with_driver(parsed: URL) -> URL:
    """Name the Python driver where the URL leaves it open: psycopg, or psycopg2 where only that is there.

    Raises:
        UsageError: the driver is not installed.
    """
    if "+" not in parsed.drivername:
        old = find_spec("psycopg") is None and find_spec("psycopg2") is not None
        parsed = parsed.set(drivername="postgresql+psycopg2" if old else "postgresql+psycopg")
    driver = parsed.get_driver_name()
    if find_spec(driver) is None:
        raise UsageError(
            f"{parsed.drivername} needs the package {driver}, which is not installed: "
            f"pip install 'iimt-search[postgresql]'"
        )
    return parsed


def database_error(error: BaseException) -> DBAPIError | None:
    """Return the database's own error beneath Optuna's, None where there is none."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return cause if isinstance(cause, DBAPIError) else None


def reason(error: BaseException) -> str:
    """Return what a database says of an error in one line, without the statement and its values."""
    own = database_error(error)
    text = str(error if own is None else own.orig).strip()
    return without_passwords(text.splitlines()[0]) if text else type(error).__name__


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what a database raises into one line that names it, without its password.

    Raises:
        StudyError: the database cannot be reached, or refuses.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StudyError(f"the storage {hide_password(url)} failed: {reason(error)}") from error


def _read_only_url(file: Path) -> tuple[str, tempfile.TemporaryDirectory[str] | None]:
    """Return the URL of a database that this process may not write, and the copy that it is of, if any.

    Readers of a WAL database write beside it, too. While a driver has it open, what it has there will do;
    after its end there is nothing there, and the file alone is whole; a log alone is read in a copy.
    """
    log, index = (file.with_name(file.name + ending) for ending in ("-wal", "-shm"))
    address = f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true"
    if log.exists() and index.exists():
        return address, None
    if not log.exists() or log.stat().st_size == 0:
        return f"{address}&immutable=1", None
    copy = tempfile.TemporaryDirectory(prefix="iimt-search-")
    for each in (file, log):
        shutil.copyfile(each, Path(copy.name) / each.name)
    return sqlite_url(Path(copy.name) / file.name), copy


def open_storage(url: str, to_read: bool = False) -> RDBStorage:
    """Open an Optuna storage; SQLite in WAL mode, so that readers never wait for the driver.

    A password that the URL leaves out is taken from $IIMT_STORAGE_PASSWORD, else from where PostgreSQL's
    own programs take it: $PGPASSWORD, or the user's password file.

    Args:
        url: the database.
        to_read: nothing need be written: a file will do that this process may not write, and none is made.

    Raises:
        UsageError: ``url`` is not a database URL, or its driver is not installed.
        StudyError: the database cannot be opened.
    """
    parsed = _parse(url)
    file = database_file(url)
    if to_read and file is not None and not file.is_file():
        raise StudyError(f"there is no database {file}")
    if to_read and file is not None and not _writable(file):
        return _open_read_only(url, file)
    if parsed.get_backend_name() == "sqlite":
        engine = {"connect_args": {"timeout": 60}, "pool_events": [(_set_pragmas, "connect")]}
    else:
        parsed = _with_driver(parsed)
        engine = _postgresql_options(parsed)
    whole = parsed.render_as_string(hide_password=False)
    try:
        # Optuna fills in what stands between braces.
        return RDBStorage(whole.replace("{", "{{").replace("}", "}}"), engine_kwargs=engine)
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, LookupError) as error:
        raise StudyError(f"cannot open the storage {hide_password(url)}: {reason(error)}") from error


def close_storage(storage: RDBStorage) -> None:
    """Close a storage's connections, that of this thread's session too."""
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def closed_after_errors(storage: RDBStorage) -> Iterator[None]:
    """Close a storage where the block raises."""
    try:
        yield
    except BaseException:
        close_storage(storage)
        raise


def _writable(file: Path) -> bool:
    return writable(file) and writable(file.parent)


def _open_read_only(url: str, file: Path) -> RDBStorage:
    try:
        read_only, copy = _read_only_url(file)
        storage = RDBStorage(read_only.replace("{", "{{").replace("}", "}}"), skip_table_creation=True)
    except (SQLAlchemyError, StorageInternalError, OSError, RuntimeError) as error:
        raise StudyError(f"cannot read the storage {hide_password(url)}: {reason(error)}") from error
    if copy is not None:
        weakref.finalize(storage, copy.cleanup)
    return storage


@contextmanager
def opened_storage(url: str) -> Iterator[RDBStorage]:
    """Open an Optuna storage, and close its connections at the end.

    Raises:
        UsageError: ``url`` is not a database URL, or its driver is not installed.
        StudyError: the database cannot be opened, or failed later on.
    """
    storage = open_storage(url)
    try:
        with database_errors(url):
            yield storage
    finally:
        close_storage(storage)


# The attribute of a task's Optuna study that says that the space has the task no more.
LEFT_OUT = "left_out"


def optuna_study_names(storage: RDBStorage, name: str) -> list[str]:
    """Return the Optuna studies of our study: its name, or one ``name:task`` for each task."""
    return [known for known in all_study_names(storage) if known == name or known.startswith(f"{name}:")]


def all_study_names(storage: RDBStorage) -> list[str]:
    """Return the Optuna studies in a storage by age; Optuna itself would read all they hold."""
    with storage.engine.connect() as connection:
        return list(connection.execute(text("SELECT study_name FROM studies ORDER BY study_id")).scalars())


def best_trial_id(storage: RDBStorage, study_name: str) -> int | None:
    """Return the complete trial with the best first objective, in the database; of equal ones the first."""
    study_id = storage.get_study_id_from_name(study_name)
    most = storage.get_study_directions(study_id)[0] is StudyDirection.MAXIMIZE
    query = text(
        "SELECT trials.trial_id FROM trials JOIN trial_values ON trials.trial_id = trial_values.trial_id "
        "WHERE study_id = :study AND state = 'COMPLETE' AND objective = 0 "
        f"ORDER BY value {'DESC' if most else 'ASC'}, number LIMIT 1"
    )
    with storage.engine.connect() as connection:
        return connection.execute(query, {"study": study_id}).scalar()


def total_of_trials(storage: RDBStorage, study_name: str, attribute: str) -> float | None:
    """Add up an attribute of a study's trials that is a number, in the database; None where none has it."""
    query = text(
        "SELECT SUM(CAST(value_json AS DOUBLE PRECISION)) FROM trial_user_attributes JOIN trials "
        "ON trials.trial_id = trial_user_attributes.trial_id WHERE study_id = :study AND key = :key"
    )
    with storage.engine.connect() as connection:
        known = {"study": storage.get_study_id_from_name(study_name), "key": attribute}
        return connection.execute(query, known).scalar()


def count_trials(storage: RDBStorage, study_name: str) -> dict[TrialState, int]:
    """Count a study's trials by state, in the database: Optuna itself would read every one of them."""
    study_id = storage.get_study_id_from_name(study_name)
    query = text("SELECT state, COUNT(*) FROM trials WHERE study_id = :study GROUP BY state")
    with storage.engine.connect() as connection:
        return {TrialState[state]: count for state, count in connection.execute(query, {"study": study_id})}
