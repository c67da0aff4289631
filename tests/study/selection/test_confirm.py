from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from iimt_search.records import Evaluation
from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import Scope
from iimt_search.study.search.sampling import SOURCE_ONLY, distributions
from iimt_search.study.search.trial_record import DEFAULT_ORIGIN, read_trials
from iimt_search.study.selection.confirm import candidate_settings, select_candidates

TASK = "a->b"
HEALTHY = {"source_accuracy": 0.9, "classes_predicted": 1.0, "embedding_spread": 0.5}
COLLAPSED = {**HEALTHY, "embedding_spread": 0.01}
OVER = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]


def make_scope(folder: Path, objective: str = "composite", top: int = 2, **more: Any) -> Scope:
    content = {
        "schema": 1,
        "study": "s",
        "tasks": [TASK],
        "search": {"alpha": {"low": 0.1, "high": 2.0}},
        "objective": objective,
        "confirm": {"top": top},
        **more,
    }
    space = Space.model_validate(content)
    direction = "minimize" if objective == "entropy" else "maximize"
    study = optuna.create_study(direction=direction)
    return Scope(space, space.tasks, study, StudyFolder(folder), "cpu")


def add(
    scope: Scope,
    value: float | None,
    alpha: float,
    state: TrialState = TrialState.COMPLETE,
    origin: str = "",
    checks: dict[str, float] = HEALTHY,
) -> None:
    attributes: dict[str, Any] = {"scores": {TASK: checks}}
    if origin:
        attributes["origin"] = origin
    trial = create_trial(
        state=state,
        value=value,
        params={"alpha": alpha},
        distributions=distributions(scope.space),
        user_attrs=attributes,
    )
    scope.study.add_trial(trial)


def names(scope: Scope) -> list[str]:
    return list(select_candidates(scope)[0])


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    return make_scope(tmp_path)


def test_the_best_first_and_of_equal_ones_the_earlier(scope: Scope) -> None:
    for value in (0.5, 0.9, 0.1, 0.9):
        add(scope, value, alpha=1.0)
    add(scope, None, 1.0, TrialState.PRUNED)
    assert [trial.number for trial in scope.rank(read_trials(scope.study))] == [1, 3, 0, 2]


def test_as_many_as_asked_for(scope: Scope) -> None:
    for index, value in enumerate((0.5, 0.9, 0.1, 0.7)):
        add(scope, value, alpha=0.2 + index / 10)
    assert names(scope) == ["trial-1", "trial-3"]
    assert select_candidates(scope)[0]["trial-3"].params == {"alpha": 0.5}


def test_where_lower_is_better(tmp_path: Path) -> None:
    scope = make_scope(tmp_path, objective="entropy")
    for index, value in enumerate((0.5, 0.9, 0.1)):
        add(scope, value, alpha=0.2 + index / 10)
    assert names(scope) == ["trial-2", "trial-0"]


def test_no_configuration_twice(scope: Scope) -> None:
    for value, alpha in ((0.9, 0.5), (0.8, 0.5), (0.7, 0.6)):
        add(scope, value, alpha)
    assert names(scope) == ["trial-0", "trial-2"]


@pytest.mark.parametrize("state", OVER)
def test_the_default_configuration_is_one_however_it_did(scope: Scope, state: TrialState) -> None:
    add(scope, 0.1 if state is TrialState.COMPLETE else None, 1.0, state, DEFAULT_ORIGIN)
    for index, value in enumerate((0.5, 0.9, 0.7)):
        add(scope, value, alpha=0.2 + index / 10)
    assert names(scope) == ["trial-2", "trial-3", "trial-0"]


def test_the_default_configuration_is_one_once(scope: Scope) -> None:
    add(scope, 0.8, 1.0, origin=DEFAULT_ORIGIN)
    add(scope, 0.9, 1.0)
    add(scope, 0.7, 0.5)
    assert names(scope) == ["trial-1", "trial-2"]


def test_a_default_configuration_that_has_not_ended_is_none(scope: Scope) -> None:
    add(scope, None, 1.0, TrialState.RUNNING, DEFAULT_ORIGIN)
    add(scope, 0.5, 0.5)
    assert names(scope) == ["trial-1"]


def test_a_row_of_the_space_file_is_no_default(scope: Scope) -> None:
    add(scope, None, 1.0, TrialState.PRUNED, origin="space file")
    add(scope, 0.5, 0.5)
    assert names(scope) == ["trial-1"]


def test_trials_that_did_not_complete_are_none(scope: Scope) -> None:
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        add(scope, None, 0.5, state)
    assert names(scope) == []


def test_what_a_veto_meets_makes_room_for_the_next(scope: Scope) -> None:
    add(scope, 0.9, 0.2, checks=COLLAPSED)
    add(scope, 0.8, 0.3)
    add(scope, 0.7, 0.4)
    trials, vetoed = select_candidates(scope)
    assert list(trials) == ["trial-1", "trial-2"]
    assert vetoed == {"trial-0": "a->b: the target embeddings have collapsed (spread 0.01)"}


def test_a_vetoed_default_configuration_stays_and_is_told(scope: Scope) -> None:
    add(scope, 0.9, 1.0, origin=DEFAULT_ORIGIN, checks=COLLAPSED)
    add(scope, 0.8, 0.3)
    trials, vetoed = select_candidates(scope)
    assert list(trials) == ["trial-1", "trial-0"] and list(vetoed) == ["trial-0"]


def test_a_trial_is_held_to_what_source_only_has(scope: Scope) -> None:
    add(scope, 0.9, 0.2, checks={**HEALTHY, "source_accuracy": 0.5})
    assert names(scope) == ["trial-0"]
    scope.store(scope.source_only_job(), Evaluation(4, {TASK: HEALTHY}))
    trials, vetoed = select_candidates(scope)
    assert list(trials) == [] and "source-only has 90 %" in vetoed["trial-0"]


def test_trials_of_an_earlier_version_have_no_checks_and_stay(scope: Scope) -> None:
    add(scope, 0.9, 0.2, checks={"entropy": 0.1})
    assert names(scope) == ["trial-0"]


def test_settings_of_each_and_source_only_last(tmp_path: Path) -> None:
    scope = make_scope(tmp_path, train={"steps": 7, "w_z": 0.5})
    add(scope, 0.5, 0.3)
    add(scope, 0.9, 0.4)
    found = candidate_settings(scope, select_candidates(scope)[0])
    assert list(found) == ["trial-1", "trial-0", "source-only"]
    assert [found["trial-1"].alpha, found["trial-0"].alpha] == [0.4, 0.3]
    assert found["trial-1"].w_z == 0.5 and all(each.steps == 7 for each in found.values())
    assert {name: getattr(found["source-only"], name) for name in SOURCE_ONLY} == SOURCE_ONLY


def test_without_any_trial_source_only_is_left(scope: Scope) -> None:
    trials, _ = select_candidates(scope)
    assert trials == {} and list(candidate_settings(scope, trials)) == ["source-only"]
