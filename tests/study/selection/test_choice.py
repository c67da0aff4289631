import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from iimt_search.records import CHOICE_SCHEMA as SCHEMA
from iimt_search.records import Candidate, Choice
from iimt_search.study.selection.choice import ATTRIBUTE, read_choice, write_choice
from iimt_search.study.storage.database import open_storage, sqlite_url

CHOICE = Choice(
    study="s",
    tasks=("a->b", "c->d"),
    answer="trial",
    trial=3,
    params={"alpha": 0.1 + 0.2, "k": 2, "network": "small", "ramp": True},
    objective="composite",
    score=0.75,
    scores={"a->b": {"composite": 0.7}, "c->d": {"composite": 0.8}},
    candidates=(
        Candidate("trial-3", (0.5, 1.0), 0.9),
        Candidate("trial-1", (0.7, 0.7), None, "a->b: collapsed"),
        Candidate("source-only", (0.1, 0.2), 0.5),
    ),
    reason="best mean",
    caveats=("alpha is at its bound", "another"),
    vetoed={"trial-5": "collapsed"},
    models="/models/trial-3",
    retrained={"a->b": {"composite": 0.6}, "c->d": {"composite": 1 / 3}},
)
BARE = Choice("s", ("a->b",), "source-only", None, {}, "entropy", 0.1, {"a->b": {}}, (), "nothing better")


def study() -> optuna.Study:
    return optuna.create_study()


@pytest.mark.parametrize("choice", [CHOICE, BARE], ids=["everything", "little"])
def test_what_is_written_is_read_back(choice: Choice) -> None:
    there = study()
    assert read_choice(there) is None
    write_choice(there, choice)
    assert read_choice(there) == choice
    assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


def test_it_outlives_the_process(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "a.db"))
    write_choice(optuna.create_study(study_name="s", storage=storage), CHOICE)
    storage.engine.dispose()
    storage = open_storage(sqlite_url(tmp_path / "a.db"))
    found = read_choice(optuna.load_study(study_name="s", storage=storage))
    storage.engine.dispose()
    assert found == CHOICE and found.digest == CHOICE.digest


def test_a_choice_can_be_taken_back() -> None:
    there = study()
    write_choice(there, CHOICE)
    write_choice(there, None)
    assert read_choice(there) is None


@pytest.mark.parametrize("schema", [1, SCHEMA + 1])
def test_a_choice_of_another_version_is_none(schema: int) -> None:
    there = study()
    there.set_user_attr(ATTRIBUTE, {**CHOICE.to_json(), "schema": schema})
    assert read_choice(there) is None
    assert CHOICE.to_json()["schema"] == SCHEMA == 2


def test_the_mean_over_the_fresh_seeds() -> None:
    assert Candidate("trial-0", (0.25, 0.5, 1.5)).mean == 0.75


def test_titles() -> None:
    assert (CHOICE.candidate, CHOICE.title) == ("trial-3", "trial-3")
    assert (BARE.candidate, BARE.title) == ("source-only", "source-only")
    unsure = replace(BARE, answer="none")
    assert unsure.title == "no confident choice, source-only is handed out"
    assert replace(CHOICE, answer="none").title == "no confident choice, trial-3 is handed out"


def test_the_digest_is_of_what_was_chosen_and_trained() -> None:
    same = replace(CHOICE, reason="other", caveats=(), vetoed={}, models="", score=0.0, scores={})
    assert same.digest == CHOICE.digest
    others = [
        replace(CHOICE, answer="none"),
        replace(CHOICE, trial=4),
        replace(CHOICE, params={**CHOICE.params, "k": 3}),
        replace(CHOICE, retrained={**CHOICE.retrained, "c->d": {"composite": 0.3}}),
        BARE,
    ]
    assert len({each.digest for each in (CHOICE, *others)}) == 6


def test_the_digest_does_not_hang_on_the_order_of_parameters() -> None:
    turned = dict(reversed(CHOICE.params.items()))
    assert list(turned) != list(CHOICE.params)
    assert replace(CHOICE, params=turned).digest == CHOICE.digest
