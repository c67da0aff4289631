"""The record of what was chosen and why, and the mark that an audit leaves on it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import optuna

from iimt_search.records import CHOICE_SCHEMA, Choice

ATTRIBUTE = "choice"


def read_choice(study: optuna.Study) -> Choice | None:
    """Return the choice that a study holds, or None where it has not come to one (by this version)."""
    stored = study.user_attrs.get(ATTRIBUTE)
    return None if stored is None or stored["schema"] != CHOICE_SCHEMA else Choice.from_json(stored)


def write_choice(study: optuna.Study, choice: Choice | None) -> None:
    """Keep the choice in the study; None takes an earlier one back."""
    study.set_user_attr(ATTRIBUTE, None if choice is None else choice.to_json())


AUDITED = "audited"


@dataclass(frozen=True)
class AuditMark:
    """The first audit of a study.

    Attributes:
        at: when, UTC, as ISO 8601.
        digest: of the choice that it measured.
    """

    at: str
    digest: str


def read_mark(study: optuna.Study) -> AuditMark | None:
    """Return the study's first audit, None where there was none."""
    stored = study.user_attrs.get(AUDITED)
    return None if stored is None else AuditMark(stored["at"], stored["digest"])


def leave_mark(study: optuna.Study, choice: Choice) -> None:
    """Mark a study as audited; a later audit leaves the first one's mark as it is."""
    if read_mark(study) is None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        study.set_user_attr(AUDITED, {"at": at, "digest": choice.digest})


def note_change(study: optuna.Study, choice: Choice) -> Choice:
    """Return the choice with a caveat where it is another one than that which was audited."""
    mark = read_mark(study)
    if mark is None or mark.digest == choice.digest:
        return choice
    caveat = f"changed after the audit of {mark.at}: the test labels had been read by then"
    return replace(choice, caveats=(*choice.caveats, caveat))
