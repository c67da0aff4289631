"""Samplers learn from the trials of a search that has grown, and Optuna's own readers read them."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from iimt_search.errors import StudyMismatchError
from iimt_search.space import Space
from iimt_search.space.growth import earlier_values, with_earlier_values
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import Scope
from iimt_search.study.search.going_on import go_on
from iimt_search.study.search.sampling import distributions, quiet_optuna
from iimt_search.study.search.trials import TrialSource
from iimt_search.study.storage.database import opened_storage, sqlite_url
from iimt_search.study.storage.driver import DriverStorage
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import DriverSession

CONTENT: dict[str, Any] = {
    "schema": 1,
    "study": "s",
    "tasks": ["digits->digits-m"],
    "search": {"alpha": {"low": 0.9, "high": 1.1}, "network": {"choices": ["auto", "small"]}},
    "train": {"dropout": 0.2},
    "objective": "entropy",
    "budget": {"trials": 60},
}
GROWN = {
    **CONTENT,
    "search": {
        "alpha": {"low": 0.1, "high": 2.0},
        "network": {"choices": ["conv9-small", "auto", "small"]},
        "dropout": {"low": 0.0, "high": 0.5},
    },
    "train": {},
}


def begun(url: str, trials: int = 20) -> optuna.Study:
    """A study of ours whose trials are better the smaller alpha is."""
    space = Space.model_validate(CONTENT)
    study = optuna.create_study(study_name="s", storage=url)
    study.set_user_attr("space", space.canonical())
    study.set_user_attr("data", {"digits->digits-m": "hash"})
    for at in range(trials):
        alpha = 0.9 + 0.2 * at / trials
        params = {"alpha": alpha, "network": ("auto", "small")[at % 2]}
        study.add_trial(create_trial(params=params, distributions=distributions(space), value=alpha))
    return study


def proposals(url: str, folder: Path, count: int, **more: Any) -> list[dict[str, Any]]:
    space = with_earlier_values(
        Space.model_validate(CONTENT).canonical(), Space.model_validate({**GROWN, **more})
    )
    quiet_optuna()
    with opened_storage(url) as storage:
        session = DriverSession(storage.engine, "s")
        writes = GuardedWrites(session, print, lambda _: True)
        driver = DriverStorage(storage, writes, distributions(space), earlier_values(space.canonical()))
        study = optuna.load_study(study_name="s", storage=driver)
        scope = Scope(space, space.tasks, study, StudyFolder(folder), "cpu")
        source = TrialSource(scope, lambda _: None, lambda: False, lambda _: None)
        found = []
        for _ in range(count):
            job = source.next_job()
            assert job is not None
            study.tell(int(job.candidate.removeprefix("trial-")), 5.0)
            found.append({name: getattr(job.settings, name) for name in space.search})
        # What the sampler proposes from together: all of it, with the ranges as they are now.
        last = study.get_trials(deepcopy=False)[-1]
        together = study.sampler.infer_relative_search_space(study, last)
        session.close()
    if more["sampler"] != "random":
        assert together == distributions(space)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_goes_on_in_the_grown_search(tmp_path: Path, sampler: str) -> None:
    url = sqlite_url(tmp_path / "s.db")
    before = begun(url).get_trials()
    found = proposals(url, tmp_path, 4 if sampler == "gp" else 16, sampler=sampler)
    assert any(not 0.9 <= params["alpha"] <= 1.1 for params in found)
    if sampler != "gp":
        assert any(params["network"] == "conv9-small" for params in found)
    after = optuna.load_study(study_name="s", storage=url).get_trials()
    assert after[: len(before)] == before
    assert after[-2].distributions == distributions(Space.model_validate(GROWN))
    assert after[-2].params.keys() == GROWN["search"].keys()


def test_earlier_trials_count_for_tpe(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "s.db")
    begun(url, 40)
    found = proposals(url, tmp_path, 12, sampler={"name": "tpe", "startup_trials": 8})
    # The new ones score 5, so the best known are those of the least alpha, and dropout 0.2.
    assert sum(params["alpha"] < 1.0 for params in found) >= 9
    assert sum(abs(params["dropout"] - 0.2) < 0.15 for params in found) >= 8


def test_what_waits_is_completed_by_what_is_searched_since(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "s.db")
    study = begun(url, 0)
    study.enqueue_trial({"alpha": 1.0, "network": "auto"}, user_attrs={"origin": "default"})
    (first,) = proposals(url, tmp_path, 1, sampler="random")
    assert first == {"alpha": 1.0, "network": "auto", "dropout": 0.0}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"seed": 3}, r"other seed \(seed: 0, now 3\); give"),
        ({"objective": "diversity"}, "other objective"),
        ({"scope": "per_task"}, "other scope"),
        ({"train": {"dropout": 0.2, "steps": 9}}, r"other train \(train.steps: 200, now 9\)"),
        ({"train": {}}, r"other train \(train.dropout: 0.2, now 0.0\)"),
        ({"search": {"alpha": {"low": 0.9, "high": 1.1}}}, r"other search .*; ranges may be widened"),
        ({"tasks": ["digits->syn-digits"]}, "other tasks"),
        ({"reference": {"trials": 9}}, "other reference"),
    ],
)
def test_what_cannot_change_is_told_with_the_difference(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    url = sqlite_url(tmp_path / "s.db")
    begun(url, 1)
    space = Space.model_validate({**CONTENT, **changes})
    with opened_storage(url) as storage, pytest.raises(StudyMismatchError, match=f"begun with {told}"):
        go_on(storage, space, {space.tasks[0].name: "hash"})


def test_other_data_is_told(tmp_path: Path) -> None:
    url, space = sqlite_url(tmp_path / "s.db"), Space.model_validate(CONTENT)
    begun(url, 1)
    with opened_storage(url) as storage:
        assert go_on(storage, space, {"digits->digits-m": "hash"}).told == []
        with pytest.raises(StudyMismatchError, match="other data of digits->digits-m"):
            go_on(storage, space, {"digits->digits-m": "other"})


def test_optuna_alone_takes_no_other_choices() -> None:
    """Why the driver shows trials to samplers as it does: documented, and to be seen when it changes."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=1))
    quiet_optuna()
    for _ in range(4):
        trial = study.ask()
        trial.suggest_float("a", 0.9, 1.1), trial.suggest_float("b", 0, 1)
        trial.suggest_categorical("c", ["x", "y"])
        study.tell(trial, 1.0)
    trial = study.ask()
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        trial.suggest_categorical("c", ["x", "y", "z"])
    trial.suggest_float("a", 0.1, 2.0)
    study.tell(trial, state=TrialState.FAIL)
    trial = study.ask()
    for name, high in (("a", 2.0), ("b", 1.0)):
        trial.suggest_float(name, 0.1 if name == "a" else 0.0, high)
    study.tell(trial, 1.0)
    frozen = study.get_trials()[-1]
    assert set(study.sampler.infer_relative_search_space(study, frozen)) == {"b"}
