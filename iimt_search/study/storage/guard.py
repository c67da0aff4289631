"""Transactions of the one driver: guarded by its lock, tried again over a short outage."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar
from uuid import uuid4

from optuna.exceptions import StorageInternalError
from sqlalchemy import bindparam, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from iimt_search.errors import StudyError, StudyInterruptedError, StudyLockedError
from iimt_search.study.storage import sql
from iimt_search.study.storage.database import database_error, reason
from iimt_search.study.storage.lock import DriverSession, Holder

T = TypeVar("T")

# The study's attribute that says which driver has begun or continued it last.
DRIVER = "driver"
# A restart of a server, or of the network between, takes seconds; longer than this is for people.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)

_DRIVERS = text(
    "SELECT value_json FROM study_user_attributes WHERE key = :key AND study_id IN :studies"
).bindparams(bindparam("studies", expanding=True))


_TRANSIENT = (OperationalError, InterfaceError)


class GuardedWrites:
    """Runs transactions in a driver's session; each is written whole or not at all.

    Args:
        session: holds the study.
        line: takes a line of text when the database does not answer, and when it answers again.
        wait: waits so many seconds; True where the run is to stop instead.
    """

    def __init__(
        self, session: DriverSession, line: Callable[[str], None], wait: Callable[[float], bool]
    ) -> None:
        self._session, self._line, self._wait = session, line, wait
        self._holder, self._run = Holder.me(), uuid4().hex
        self._signed: list[int] = []
        self._checked = session.opened

    def sign(self, study_id: int) -> None:
        """Note in a study that this driver runs it; who finds another name there has lost the study."""
        row = sql.attribute("study", study_id, "user", DRIVER, {"run": self._run, **asdict(self._holder)})
        self.run(lambda connection, _: sql.write(connection, [row]))
        self._signed.append(study_id)

    def _check(self, connection: Connection) -> None:
        """Check, in a session that was lost, that no other driver has run the study meanwhile."""
        if self._session.opened != self._checked and self._signed:
            values = connection.execute(_DRIVERS, {"key": DRIVER, "studies": self._signed}).scalars()
            others = [other for value in values if (other := json.loads(value)).pop("run") != self._run]
            if others:
                raise StudyLockedError(
                    f"{Holder(**others[0])} has gone on with the study while the database was out of reach; "
                    f"this run has stopped writing to it"
                )
        self._checked = self._session.opened

    def run(self, work: Callable[[Connection, bool], T]) -> T:
        """Run a transaction, again after a pause where the database does not answer.

        Args:
            work: takes the connection, and whether it may have been written before: a connection that is
                lost at a commit leaves that open.

        Raises:
            StudyError: the database does not answer for a minute, or refuses.
            StudyLockedError: another driver has taken the study.
            StudyInterruptedError: the run was stopped meanwhile.
        """
        for count, pause in enumerate((*PAUSES, None)):
            try:
                connection = self._session.connection()
                with connection.begin():
                    self._check(connection)
                    result = work(connection, count > 0)
            except (SQLAlchemyError, StorageInternalError) as error:
                lost = self._session.lost or isinstance(database_error(error), _TRANSIENT)
                self._session.close()
                if not lost:
                    raise StudyError(f"the database refuses to be written to: {reason(error)}") from error
                if pause is None:
                    raise StudyError(
                        f"the database has not answered for {sum(PAUSES):.0f} s: {reason(error)}; what is "
                        f"finished is in it, what is under way in its checkpoints: run again to continue"
                    ) from error
                if not count:
                    self._line(f"the database does not answer, trying again: {reason(error)}")
                if self._wait(pause):
                    raise StudyInterruptedError("stopped while the database did not answer") from error
            else:
                if count:
                    self._line("the database answers again")
                return result
        raise AssertionError("unreachable")
