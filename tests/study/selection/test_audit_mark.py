from dataclasses import replace
from datetime import UTC, datetime, timedelta

import optuna

from iimt_search.records import Choice
from iimt_search.study.selection.choice import AUDITED, leave_mark, note_change, read_mark

CHOICE = Choice(
    study="s",
    tasks=("a->b",),
    answer="trial",
    trial=3,
    params={"alpha": 0.5},
    objective="composite",
    score=0.75,
    scores={"a->b": {"composite": 0.7}},
    candidates=(),
    reason="best",
    caveats=("an earlier flag",),
)
OTHER = replace(CHOICE, trial=4, params={"alpha": 0.6})


def test_a_study_that_was_not_audited_has_no_mark() -> None:
    study = optuna.create_study()
    assert read_mark(study) is None
    assert note_change(study, CHOICE) is CHOICE


def test_the_mark_says_when_and_of_what() -> None:
    study = optuna.create_study()
    leave_mark(study, CHOICE)
    mark = read_mark(study)
    assert mark is not None and mark.digest == CHOICE.digest
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(mark.at) < timedelta(minutes=1)


def test_the_first_audits_mark_stays() -> None:
    study = optuna.create_study()
    study.set_user_attr(AUDITED, {"at": "2020-01-01T00:00:00+00:00", "digest": CHOICE.digest})
    leave_mark(study, OTHER)
    mark = read_mark(study)
    assert mark is not None and (mark.at[:4], mark.digest) == ("2020", CHOICE.digest)


def test_the_audited_choice_has_no_flag_and_another_one_has() -> None:
    study = optuna.create_study()
    study.set_user_attr(AUDITED, {"at": "2020-01-01T00:00:00+00:00", "digest": CHOICE.digest})
    assert note_change(study, CHOICE) == CHOICE
    assert note_change(study, replace(CHOICE, reason="told otherwise", caveats=())).caveats == ()
    flagged = note_change(study, OTHER)
    assert flagged.caveats == (
        "an earlier flag",
        "changed after the audit of 2020-01-01T00:00:00+00:00: the test labels had been read by then",
    )
    assert replace(flagged, caveats=OTHER.caveats) == OTHER


def test_a_changed_retraining_is_a_change_too() -> None:
    study = optuna.create_study()
    leave_mark(study, CHOICE)
    assert len(note_change(study, replace(CHOICE, retrained={"a->b": {"composite": 0.1}})).caveats) == 2
