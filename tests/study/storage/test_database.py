"""A database's URL, its password, and the driver's own view of a study."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import get_note, save_note

from benchmarks.postgresql import PASSWORD, PostgreSQL
from iimt_search.errors import StudyError, UsageError
from iimt_search.study.folder import StudyFolder
from iimt_search.study.search.budget import BudgetTracker
from iimt_search.study.storage import database
from iimt_search.study.storage.database import (
    has_password,
    hide_password,
    open_storage,
    opened_storage,
    sqlite_url,
)
from iimt_search.study.storage.driver import DriverStorage, flush, transaction
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import DriverSession

SECRET = "postgresql+psycopg://me:se%40cret@host:5433/db?sslmode=require&password=secret2"
SHOWN = "postgresql+psycopg://me@host:5433/db?sslmode=require"


def test_a_url_is_shown_without_its_password() -> None:
    assert hide_password(SECRET) == SHOWN
    assert hide_password("postgresql://me:***@host/db") == "postgresql://me@host/db"
    assert hide_password("sqlite:////a/b.db") == "sqlite:////a/b.db"
    assert [has_password(url) for url in (SECRET, SHOWN, f"{SHOWN}&password=x", "sqlite:///a")] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "url", ["me:secret@host", "postgresql://me:secret@host:x/db", "postgresql://me:s/secret@host:x/db"]
)
def test_what_is_no_url_is_not_repeated_with_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"such as sqlite.*, got '…@host") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_other_databases_are_refused() -> None:
    with pytest.raises(UsageError, match="takes sqlite:///FILE or postgresql.*got 'mysql'"):
        open_storage("mysql://me:secret@host/db")


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "find_spec", lambda name: None)
    for url in ("postgresql://me@host/db", "postgresql+psycopg://me@host/db"):
        with pytest.raises(UsageError, match=r"psycopg, which is not installed: pip install 'iimt-search\["):
            open_storage(url)


def test_the_folder_notes_the_url_without_its_password(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "digits")
    folder.describe(SECRET, {})
    assert "secret" not in folder.description.read_text() and "cret" not in folder.description.read_text()
    assert folder.choose_storage(None) == SHOWN
    assert folder.choose_storage(SECRET) == SECRET
    with pytest.raises(StudyError, match="lies in postgresql") as caught:
        folder.choose_storage("postgresql+psycopg://me:other@elsewhere/db")
    assert "other@" not in str(caught.value)
    content = json.loads(folder.description.read_text())
    folder.description.write_text(json.dumps({**content, "storage": "postgresql://me:***@host/db"}))
    assert folder.choose_storage(None) == "postgresql://me@host/db"  # as earlier versions noted it


def test_braces_in_a_path(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "{a}.db"))
    storage.engine.dispose()
    assert (tmp_path / "{a}.db").exists()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "study.db")
    server: PostgreSQL = request.getfixturevalue("server")
    return server.url


def use(study: optuna.Study, trials: int) -> None:
    """Do to a study whatever a driver does."""
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({"x": 0.5, "c": "b"}, user_attrs={"origin": "default"})
    for index in range(trials):
        with transaction(study):
            trial = study.ask()
            x = trial.suggest_float("x", 0.1, 1.0, log=True)
            n = trial.suggest_int("n", 1, 4)
            trial.suggest_categorical("c", ["a", "b", None])
        for step in (10, 20):
            trial.report(x * n + step, step)
            if trial.should_prune():
                break
        with transaction(study):
            trial.set_user_attr("scores", {"a->b": {"entropy": x, "none": float("nan")}})
            trial.set_user_attr("seed", 2**40)
            trial.set_constraint("memory", -1.0)
            save_note(trial, f"**trial {index}** " + "long " * 1000)
            state = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL][index % 3]
            study.tell(trial, x * n if state is TrialState.COMPLETE else None, state=state)
    study.ask()
    study.set_user_attr("space", {"a": [1, None]})
    study.set_user_attr("space", {"a": [2, None]})
    study.set_metric_names(["m"])
    save_note(study, "whole")


def content(study: optuna.Study) -> list[Any]:
    trials = [
        (t.number, t.state, t.value, t.params, t.distributions, str(t.user_attrs), t.intermediate_values)
        for t in study.get_trials()
    ]
    return [trials, {k: v for k, v in study.user_attrs.items() if k != "driver"}, study.metric_names]


@contextmanager
def driver_storage(url: str) -> Iterator[DriverStorage]:
    with opened_storage(url) as storage:
        session = DriverSession(storage.engine, "s")
        try:
            yield DriverStorage(storage, GuardedWrites(session, print, lambda _: True))
        finally:
            session.close()


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_driver_writes_what_optuna_itself_would(url: str, sampler: str) -> None:
    def study_of(name: str, storage: Any) -> optuna.Study:
        made = (
            optuna.samplers.TPESampler(seed=0, n_startup_trials=3)
            if sampler == "tpe"
            else optuna.samplers.QMCSampler(seed=0)
        )
        return optuna.create_study(study_name=name, storage=storage, sampler=made, load_if_exists=True)

    with opened_storage(url) as plain:
        expected = study_of("plain", plain)
        use(expected, 9)
        with driver_storage(url) as driver:
            study = study_of("driver", driver)
            use(study, 9)
            assert content(study) == content(expected)
            written = optuna.load_study(study_name="driver", storage=plain)
            assert content(written) == content(expected)
        attributes = [[t.system_attrs for t in each.get_trials()] for each in (written, expected)]
        assert attributes[0] == attributes[1]
        number = written.get_trials()[2]._trial_id
        assert get_note(written) == "whole"
        assert plain.get_study_system_attrs(written._study_id)[f"dashboard:{number}:note_ver"] == 1
        # Another process goes on with what it finds.
        with driver_storage(url) as again:
            study = study_of("driver", again)
            use(study, 3)
            assert content(optuna.load_study(study_name="driver", storage=plain)) == content(study)
            assert len(study.trials) == 14


def test_what_is_written_together_is_written_whole_or_not_at_all(url: str) -> None:
    with driver_storage(url) as driver, opened_storage(url) as other:
        study = optuna.create_study(study_name="s", storage=driver)
        seen = optuna.load_study(study_name="s", storage=other)
        trial = study.ask()
        with transaction(study):
            trial.set_user_attr("a", 1)
            assert seen.trials[0].user_attrs == {}
        assert seen.trials[0].user_attrs == {"a": 1}
        with pytest.raises(ZeroDivisionError), transaction(study):
            trial.set_user_attr("b", 1 / 0)
        with pytest.raises(ZeroDivisionError), transaction(study):
            trial.set_user_attr("c", 1)
            print(1 / 0)
        trial.report(0.5, 3)
        assert seen.trials[0].intermediate_values == {}
        flush(study)
        assert seen.trials[0].user_attrs == {"a": 1}
        assert seen.trials[0].intermediate_values == {3: 0.5}


def test_trials_that_somebody_else_adds_are_found(url: str) -> None:
    with driver_storage(url) as driver, opened_storage(url) as storage:
        study = optuna.create_study(study_name="s", storage=driver)
        study.ask()
        optuna.load_study(study_name="s", storage=storage).enqueue_trial({"x": 0.25})
        assert study.ask().number == 2
        waiting = study.ask()
        assert waiting.number == 1 and waiting.suggest_float("x", 0, 1) == 0.25


def test_standing_counts_what_reading_all_trials_would(tmp_path: Path) -> None:
    study = optuna.create_study()
    tracker = BudgetTracker([], whole=100, higher_is_better=False)
    values = [3.0, 1.0, None, 1.0, None]
    for value, steps in zip(values, (40, 40, 0, 20, 20), strict=True):
        trial = study.ask()
        tracker.begin(trial.number)
        if steps:
            trial.report(0.0, steps)
            tracker.reach(trial.number, steps)
            tracker.reach(trial.number, steps - 10)  # told before
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.tell(trial, value, state=state)
        tracker.end(trial.number, state, value)
    study.enqueue_trial({})
    again = BudgetTracker(study.trials, whole=100, higher_is_better=False)
    for each in (tracker, again):
        assert (each.begun, each.over, each.steps, each.best) == (5, 5, 40 + 40 + 100 + 20 + 20, (1, 1.0))


def test_a_wrong_password_is_told_without_it(server: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(database.PASSWORD_VARIABLE, "wrong-secret")
    with pytest.raises(StudyError, match="password authentication failed") as caught:
        open_storage(server.url)
    assert "wrong-secret" not in str(caught.value) and PASSWORD not in str(caught.value)


def test_every_way_to_give_a_password(
    server: PostgreSQL, url_with_password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(database.PASSWORD_VARIABLE)
    with pytest.raises(StudyError, match="no password supplied"):
        open_storage(server.url)
    open_storage(url_with_password).engine.dispose()
    open_storage(url_with_password.replace("+psycopg", "")).engine.dispose()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_storage(server.url).engine.dispose()
