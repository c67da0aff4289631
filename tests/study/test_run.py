"""The whole job on a tiny space."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from iimt_search.data.assemble import load_task
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import (
    NoChoiceError,
    StudyError,
    StudyInterruptedError,
    StudyLockedError,
    StudyMismatchError,
)
from iimt_search.records import Choice, Evaluation, Event, Job
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.runner import Steps
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.scope_run import ScopeRun
from iimt_search.study.selection.choice import read_choice
from iimt_search.study.storage.database import count_trials, open_storage, sqlite_url
from iimt_search.study.storage.lock import Holder
from iimt_search.study.veto import CHECKS
from iimt_search.validators.registry import VALIDATORS, at_the_end, default_validators


def load(path: Path, **changes: Any) -> Space:
    space = load_space(path, KnownNames(DOMAINS, VALIDATORS))
    return Space.model_validate({**space.canonical(), **changes})


def run(
    space: Space, root: Path, listener: Silent | None = None, stop: threading.Event | None = None
) -> list[Choice]:
    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    return run_study(space, folder, options, InlineExecutor, listener or Silent(), stop or threading.Event())


def trials_of(root: Path, name: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    return open_study(root, name).studies[0].get_trials()


def test_whole_job(tiny_space: Path, tmp_path: Path) -> None:
    space = load(tiny_space)
    (choice,) = run(space, tmp_path)
    trials = trials_of(tmp_path)
    assert len(trials) == 3
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    assert trials[0].params == {"lambda_max": 1.0, "alpha": 1.0, "temperature": 0.5, "k": 2}
    for trial in trials:
        assert {name for name in default_validators() if not at_the_end(name)} <= set(trial.user_attrs)
        assert ("mixval" in trial.user_attrs) == (trial.state is TrialState.COMPLETE)
        assert "entropy" in trial.user_attrs["scores"]["digits->syn-digits"]
        last = trial.last_step
        assert last is not None and trial.intermediate_values[last] == trial.user_attrs["consensus"]
        assert trial.state is TrialState.PRUNED or list(trial.intermediate_values) == [2, 4]
    study = open_study(tmp_path, "tiny").studies[0]
    assert study.metric_names == ["consensus, mean over tasks"]
    assert any(
        key.startswith("dashboard:note") for key in study._storage.get_study_system_attrs(study._study_id)
    )
    assert study.user_attrs["job source-only"]["step"] == 4
    assert {candidate.name for candidate in choice.candidates} >= {"source-only"}
    assert choice.score == max(candidate.mean for candidate in choice.candidates)
    assert set(choice.retrained) == {task.name for task in space.tasks}
    assert read_choice(study) == choice
    for task in ("digits_to_digits-m", "digits_to_syn-digits"):
        described = json.loads((Path(choice.models) / task / "model.json").read_text())
        assert described["hyperparameters"]["steps"] == 5
    assert not any((tmp_path / "tiny" / "jobs").iterdir())  # no checkpoint outlives its use


@pytest.mark.long
def test_same_seed_same_study_and_another_seed_another(tiny_space: Path, tmp_path: Path) -> None:
    choices, params = [], []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (choice,) = run(load(tiny_space, study=name, seed=seed), tmp_path)
        choices.append(choice)
        params.append([(t.params, t.values, t.intermediate_values) for t in trials_of(tmp_path, name)])
    assert params[0] == params[1] != params[2]
    assert choices[0].scores == choices[1].scores
    assert choices[0].retrained == choices[1].retrained


@pytest.mark.parametrize(
    "after", [pytest.param(at, marks=[pytest.mark.long] * (at != 9)) for at in (1, 4, 9, 13, 17)]
)
def test_stopped_anywhere_it_continues_to_the_same_end(
    tiny_space: Path, tmp_path: Path, after: int, stop_after: Any
) -> None:
    whole = load(tiny_space, study="whole")
    (expected,) = run(whole, tmp_path)
    cut = load(tiny_space, study="cut")
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError, match="nothing is lost"):
        run(cut, tmp_path, stop_after(after, stop), stop)
    (choice,) = run(cut, tmp_path)
    assert choice.scores == expected.scores and choice.params == expected.params
    left, right = trials_of(tmp_path, "cut"), trials_of(tmp_path, "whole")
    assert [(t.number, t.state, t.params, t.intermediate_values) for t in left] == [
        (t.number, t.state, t.params, t.intermediate_values) for t in right
    ]


def test_a_second_run_does_nothing_and_more_trials_continue(tiny_space: Path, tmp_path: Path) -> None:
    (first,) = run(load(tiny_space), tmp_path)
    before = trials_of(tmp_path)
    (second,) = run(load(tiny_space), tmp_path)
    assert second == first and trials_of(tmp_path) == before
    run(load(tiny_space, budget={"trials": 5}), tmp_path)
    after = trials_of(tmp_path)
    assert after[:3] == before and len(after) == 5


def test_another_space_is_refused(tiny_space: Path, tmp_path: Path) -> None:
    run(load(tiny_space), tmp_path)
    with pytest.raises(StudyMismatchError, match="begun with other seed"):
        run(load(tiny_space, seed=9), tmp_path)


def test_another_scope_is_refused_and_leaves_nothing(tiny_space: Path, tmp_path: Path) -> None:
    run(load(tiny_space), tmp_path)
    with pytest.raises(StudyMismatchError, match="begun with other scope"):
        run(load(tiny_space, scope="per_task"), tmp_path)
    assert [study.study_name for study in open_study(tmp_path, "tiny").studies] == ["tiny"]


def test_changed_data_is_refused(tiny_space: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = {"source": {"arrays": str(tmp_path / "s.npz")}, "target": {"arrays": str(tmp_path / "t.npz")}}
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(20, 4)).astype(np.float32))
    for count, refused in ((20, False), (22, True)):
        np.savez(tmp_path / "s.npz", x=rng.normal(size=(count, 4)).astype(np.float32), y=np.arange(count) % 2)
        load_task.cache_clear()  # a process that has loaded a task keeps it
        if refused:
            with pytest.raises(StudyMismatchError, match="begun with other data of s->t"):
                run(load(tiny_space, tasks=[own]), tmp_path)
        else:
            run(load(tiny_space, tasks=[own]), tmp_path)


def test_another_retraining_and_confirmation_continue_a_study(tiny_space: Path, tmp_path: Path) -> None:
    run(load(tiny_space, validators=["entropy", "diversity"]), tmp_path)
    changed = {"retrain": {"steps": 3}, "confirm": {"top": 1, "seeds": 2}, "validators": ["entropy"]}
    (choice,) = run(load(tiny_space, **changed), tmp_path)
    assert all(len(candidate.scores) == 2 for candidate in choice.candidates)
    for task in ("digits_to_digits-m", "digits_to_syn-digits"):
        described = json.loads((Path(choice.models) / task / "model.json").read_text())
        assert described["hyperparameters"]["steps"] == 3
    assert all(set(scores) == {"consensus", *CHECKS, "entropy"} for scores in choice.scores.values())


def test_a_budget_of_steps_ends_even_where_every_trial_fails(tiny_space: Path, tmp_path: Path) -> None:
    changes = {"search": {"lambda_max": {"low": 1e39, "high": 2e39}}, "budget": {"trials": None, "steps": 20}}
    run(load(tiny_space, **changes), tmp_path)
    assert [t.state for t in trials_of(tmp_path)] == [TrialState.FAIL] * 3


def test_a_study_remembers_its_storage_and_may_be_moved(tiny_space: Path, tmp_path: Path) -> None:
    run(load(tiny_space), tmp_path / "a?b")
    (tmp_path / "a?b").rename(tmp_path / "moved")
    assert len(trials_of(tmp_path / "moved")) == 3
    folder = StudyFolder(tmp_path / "moved" / "tiny")
    assert folder.choose_storage(None) == sqlite_url(folder.database)
    with pytest.raises(StudyError, match=r"lies in sqlite:///.*study\.db; give that `storage`"):
        folder.choose_storage("sqlite:///other.db")


def test_a_second_driver_is_refused(tiny_space: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    with folder.driver_lock():
        assert (folder.driver() or Holder()).pid == os.getpid()
        with pytest.raises(StudyLockedError, match=f"run by process {os.getpid()}"):
            run(load(tiny_space), tmp_path)
    assert folder.driver() is None


def test_per_task_scope_chooses_for_each_task(tiny_space: Path, tmp_path: Path) -> None:
    space = load(tiny_space, scope="per_task", budget={"trials": 2})
    choices = run(space, tmp_path)
    assert [choice.tasks for choice in choices] == [(task.name,) for task in space.tasks]
    opened = open_study(tmp_path, "tiny")
    assert {s.study_name for s in opened.studies} == {f"tiny:{task.name}" for task in space.tasks}
    assert all(len(study.trials) == 2 for study in opened.studies)
    for choice in choices:
        assert all(scores.keys() >= {"consensus"} for scores in choice.retrained.values())


def test_failed_trials_fail_and_source_only_answers(tiny_space: Path, tmp_path: Path) -> None:
    search = {"lambda_max": {"low": 1e39, "high": 2e39}}
    (choice,) = run(load(tiny_space, search=search), tmp_path)
    assert all(t.state is TrialState.FAIL for t in trials_of(tmp_path))
    assert "'intra_target'" in trials_of(tmp_path)[0].user_attrs["error"]
    assert (choice.answer, choice.trial, choice.params) == ("source-only", None, {})


def test_budget_of_steps_ends_the_search(tiny_space: Path, tmp_path: Path) -> None:
    # A whole trial takes 4 steps on each of 2 tasks; the second begins below 12 and is the last.
    run(load(tiny_space, budget={"trials": None, "steps": 12}, pruner={"name": "none"}), tmp_path)
    assert len(trials_of(tmp_path)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"name": "random"}, "pruner": {"name": "hyperband"}},
        {"sampler": {"name": "qmc"}, "pruner": {"name": "successive_halving"}},
        {"sampler": {"name": "gp", "startup_trials": 1}, "pruner": {"name": "percentile"}},
        {"objective": "entropy", "validators": []},
        {"objective": "reverse_validation", "validators": ["entropy"]},
        {
            "search": {
                "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
                "ramp": {"choices": [True, False]},
            }
        },
    ],
    ids=["random", "qmc", "gp", "minimised", "training validator", "other settings"],
)
def test_other_samplers_pruners_and_objectives(
    tiny_space: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (choice,) = run(load(tiny_space, tasks=["digits->digits-m"], **changes), tmp_path)
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials_of(tmp_path))
    means = [candidate.mean for candidate in choice.candidates if candidate.name != "source-only"]
    direction = open_study(tmp_path, "tiny").studies[0].direction
    assert choice.score == (min if direction is optuna.study.StudyDirection.MINIMIZE else max)(means)


def test_storage_is_in_wal_mode_on_every_connection(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "a.db"))
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    storage.engine.dispose()


@pytest.mark.long
def test_two_runs_with_one_worker_process_are_the_same(tiny_space: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        command = [sys.executable, "-m", "iimt_search", "run", "--space", str(tiny_space), "--workers", "1"]
        command += ["--studies-dir", str(tmp_path / name), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        choice = json.loads(done.stdout)
        del choice["models"]
        for candidate in choice["candidates"]:
            del candidate["cost"]  # seconds
        trials = [(t.params, t.intermediate_values) for t in trials_of(tmp_path / name)]
        found.append((choice, trials))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_killed_run_continues_and_loses_no_trial(tiny_space: Path, tmp_path: Path) -> None:
    text = tiny_space.read_text().replace("steps: 4", "steps: 60").replace("trials: 3", "trials: 6")
    tiny_space.write_text(text.replace("evaluations: 2", "evaluations: 6"))
    command = [sys.executable, "-m", "iimt_search", "run", "--space", str(tiny_space), "--workers", "2"]
    command += ["--studies-dir", str(tmp_path / "studies")]
    database = tmp_path / "studies" / "tiny" / "study.db"

    def begun() -> int:
        if not database.exists():
            return 0
        # Only looked at: an Optuna storage would make the tables that the driver is just making.
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            try:
                return int(connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
            except sqlite3.OperationalError:
                return 0

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while begun() < 3 and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = trials_of(tmp_path / "studies")
    assert any(trial.state is TrialState.RUNNING for trial in left)

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "studies")
    assert len(trials) == 6
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    for before, after in zip(left, trials, strict=False):
        # Killed between asking and suggesting, a trial has none yet.
        assert before.params in ({}, after.params)
        assert before.intermediate_values.items() <= after.intermediate_values.items()


def test_trials_are_counted_in_the_database(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "study.db"))
    study = optuna.create_study(study_name="a", storage=storage)
    optuna.create_study(study_name="b", storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    for state in (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED):
        value = 1.0 if state is TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value))
    study.ask()
    expected = {TrialState.COMPLETE: 2, TrialState.PRUNED: 1, TrialState.RUNNING: 1}
    assert count_trials(storage, "a") == expected
    assert count_trials(storage, "b") == {TrialState.COMPLETE: 1}


class Counting(InlineExecutor):
    """Remembers what it was given to train."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        super().submit(job)


@pytest.mark.long
def test_models_are_made_of_what_is_kept_and_only_what_is_missing_is_trained_again(
    tiny_space: Path, tmp_path: Path
) -> None:
    space, folder, executor = load(tiny_space), StudyFolder(tmp_path / "tiny"), Counting()

    def carry_out() -> Choice:
        executor.jobs.clear()
        options = RunOptions(sqlite_url(folder.database), "cpu")
        (choice,) = run_study(space, folder, options, lambda: executor, Silent(), threading.Event())
        return choice

    choice = carry_out()
    assert {job.purpose for job in executor.jobs} == {"trial", "baseline", "confirmation", "retraining"}
    weights = {path: path.read_bytes() for path in folder.models.rglob("*.safetensors")}
    shutil.rmtree(folder.models)
    assert carry_out() == choice and executor.jobs == []
    assert {path: path.read_bytes() for path in folder.models.rglob("*.safetensors")} == weights
    shutil.rmtree(folder.kept / "retrain-source-only-digits_to_digits-m")
    assert carry_out() == choice
    assert [job.key for job in executor.jobs] == ["retrain-source-only-digits_to_digits-m"]
    assert {path: path.read_bytes() for path in folder.models.rglob("*.safetensors")} == weights


class SideBySide:
    """Two workers in one process."""

    capacity = 2

    def __init__(self) -> None:
        self._workers = [InlineExecutor(), InlineExecutor()]
        self._of: dict[str, InlineExecutor] = {}
        self.together: set[frozenset[str]] = set()

    def submit(self, job: Job) -> None:
        self._of[job.key] = min(self._workers, key=len)
        self._of[job.key].submit(job)
        self.together.add(frozenset(key for worker in self._workers for key in worker._members))

    def wait(self, timeout: float) -> Sequence[Event]:
        return [event for worker in self._workers for event in worker.wait(timeout)]

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        self._of[key].answer(key, go_on, scored)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


@pytest.mark.slow
def test_tasks_side_by_side_and_stopped_come_to_what_each_comes_to_alone(
    tiny_space: Path, tmp_path: Path, stop_after: Any
) -> None:
    def trials(name: str) -> dict[str, list[Any]]:
        return {
            study.study_name.partition(":")[2]: [
                (trial.state, trial.params, trial.intermediate_values) for trial in study.get_trials()
            ]
            for study in open_study(tmp_path, name).studies
        }

    changes = {"scope": "per_task", "budget": {"trials": 2}, "confirm": {"top": 1, "seeds": 1}}
    changes |= {"retrain": {"seeds": 1}}
    one, cut = load(tiny_space, study="one", **changes), load(tiny_space, study="cut", **changes)
    expected = run(one, tmp_path)
    folder, executors, stop = StudyFolder(tmp_path / "cut"), list[SideBySide](), threading.Event()
    options, listener = RunOptions(sqlite_url(folder.database), "cpu"), stop_after(3, stop)

    def start() -> SideBySide:
        executors.append(SideBySide())
        return executors[-1]

    with pytest.raises(StudyInterruptedError, match="nothing is lost"):
        run_study(cut, folder, options, start, listener, stop)
    choices = run_study(cut, folder, options, start, Silent(), threading.Event())
    assert trials("cut") == trials("one")
    assert [(c.tasks, c.params, c.scores, c.retrained) for c in choices] == [
        (c.tasks, c.params, c.scores, c.retrained) for c in expected
    ]
    first = {"digits_to_digits-m-source-only", "digits_to_syn-digits-source-only"}
    assert first in executors[0].together
    assert not any((tmp_path / "cut" / "jobs").iterdir())


def test_a_task_without_a_choice_stops_no_other(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def steps(self: ScopeRun) -> Steps[Choice]:
        yield []
        if self.scope.task_names == ("digits->digits-m",):
            raise NoChoiceError("every candidate failed")
        ended.append(self.scope.task_names)
        raise NoChoiceError("retraining failed")

    monkeypatch.setattr(ScopeRun, "steps", steps)
    told = r"^digits->digits-m: every candidate failed; digits->syn-digits: retraining failed$"
    with pytest.raises(NoChoiceError, match=told):
        run(load(tiny_space, scope="per_task"), tmp_path)
    assert ended == [("digits->syn-digits",)]
