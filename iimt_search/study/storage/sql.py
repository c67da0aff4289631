"""Writes to Optuna's tables, many rows in one statement.

Optuna's own storage takes a session, a look for the trial and a statement for each attribute, about a
millisecond each; a finished trial has some twenty. Everything here may be written twice: a transaction
whose end was not heard is simply repeated. The statements are the same in SQLite and PostgreSQL.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, NamedTuple

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState
from sqlalchemy import DateTime, TextClause, bindparam, text
from sqlalchemy.engine import Connection

# The revision of Optuna's tables that these statements are for; the same since Optuna 3.2.
OPTUNA_TABLES = "v3.2.0.a"


Owner = Literal["study", "trial"]
Kind = Literal["user", "system"]

_ATTRIBUTES = {
    (owner, kind): text(
        f"INSERT INTO {owner}_{kind}_attributes ({owner}_id, key, value_json) VALUES (:owner, :key, :value) "
        f"ON CONFLICT ({owner}_id, key) DO UPDATE SET value_json = excluded.value_json"
    )
    for owner in ("study", "trial")
    for kind in ("user", "system")
}
_PARAM = text(
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
    "VALUES (:trial, :name, :value, :distribution) ON CONFLICT (trial_id, param_name) "
    "DO UPDATE SET param_value = excluded.param_value, distribution_json = excluded.distribution_json"
)
_REPORT = text(
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "VALUES (:trial, :step, :value, 'FINITE') ON CONFLICT (trial_id, step) DO UPDATE SET "
    "intermediate_value = excluded.intermediate_value, intermediate_value_type = 'FINITE'"
)
_VALUE = text(
    "INSERT INTO trial_values (trial_id, objective, value, value_type) "
    "VALUES (:trial, :at, :value, 'FINITE') "
    "ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = 'FINITE'"
)


_AT = bindparam("at", type_=DateTime())
_STARTED, _ENDED = (
    text(f"UPDATE trials SET state = :state, {column} = :at WHERE trial_id = :trial").bindparams(_AT)
    for column in ("datetime_start", "datetime_complete")
)
_NEW_TRIAL = text(
    "INSERT INTO trials (study_id, state, datetime_start, number) "
    "VALUES (:study, :state, :at, (SELECT COUNT(*) FROM trials WHERE study_id = :study)) "
    "RETURNING trial_id, number"
).bindparams(_AT)
_SAME_TRIAL = text("SELECT trial_id, number FROM trials WHERE study_id = :study AND number = :number")
_LOCK_STUDY = text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE")


class Row(NamedTuple):
    """One row to write: a statement and its values."""

    statement: TextClause
    values: dict[str, Any]


def attribute(owner: Owner, owner_id: int, kind: Kind, key: str, value: Any) -> Row:
    """An attribute of a study or a trial; its value is JSON-serialisable."""
    return Row(_ATTRIBUTES[owner, kind], {"owner": owner_id, "key": key, "value": json.dumps(value)})


def param(trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> Row:
    """A trial's parameter, in Optuna's internal representation."""
    stored = distribution_to_json(distribution)
    return Row(_PARAM, {"trial": trial_id, "name": name, "value": internal, "distribution": stored})


def report(trial_id: int, step: int, value: float) -> Row:
    """A finite intermediate value."""
    return Row(_REPORT, {"trial": trial_id, "step": step, "value": value})


def state(trial_id: int, new: TrialState, values: Sequence[float] | None, at: datetime) -> list[Row]:
    """A trial's new state, RUNNING or finished, and its finite values where it has some."""
    rows = [
        Row(_VALUE, {"trial": trial_id, "at": place, "value": value})
        for place, value in enumerate(values or ())
    ]
    statement = _STARTED if new is TrialState.RUNNING else _ENDED
    return [*rows, Row(statement, {"trial": trial_id, "state": new.name, "at": at})]


def new_trial(
    connection: Connection, study_id: int, state: TrialState, at: datetime | None, again: int | None
) -> tuple[int, int]:
    """Write a new trial, RUNNING since ``at`` or WAITING, within a transaction.

    ``again`` is the number that it had in an earlier try, which may have been written; None without one.

    Returns:
        Its id, and its number among the study's trials.
    """
    if connection.dialect.name == "postgresql":
        # As Optuna does, for somebody else may add a trial at the same moment; SQLite has one writer.
        connection.execute(_LOCK_STUDY, {"study": study_id})
    row = None
    if again is not None:
        row = connection.execute(_SAME_TRIAL, {"study": study_id, "number": again}).first()
    if row is None:
        row = connection.execute(_NEW_TRIAL, {"study": study_id, "state": state.name, "at": at}).one()
    return row[0], row[1]


def write(connection: Connection, rows: Iterable[Row]) -> None:
    """Write rows in order, those of one statement that follow each other together."""
    for statement, group in groupby(rows, key=lambda row: row.statement):
        connection.execute(statement, [row.values for row in group])
