"""A study that is run again with a wider search, other settings or other tasks."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from iimt_search.data.assemble import load_task
from iimt_search.errors import StudyInterruptedError, StudyMismatchError
from iimt_search.records import Choice, Job
from iimt_search.report.record import read_records
from iimt_search.space import Space
from iimt_search.study import run as module
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study, study_status
from iimt_search.study.progress import Silent
from iimt_search.study.rerun import rerun_trial
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.trial_record import read_trials
from iimt_search.study.storage.database import sqlite_url

WIDE = {"alpha": {"low": 0.01, "high": 9.0}, "dropout": {"low": 0.0, "high": 0.5}}


class Counting(InlineExecutor):
    """Remembers what it was given to train."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}

    def submit(self, job: Job) -> None:
        self.jobs[job.key] = job
        super().submit(job)


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def space(data: Path, **changes: Any) -> Space:
    content = {
        "schema": 1,
        "study": "grown",
        "tasks": ["a->b"],
        "search": {"alpha": {"low": 0.9, "high": 1.1}},
        "train": {"steps": 2, "batch_size": 4, "width": 4, "evaluations": 2, "dropout": 0.2},
        "budget": {"trials": 2},
        "sampler": {"name": "random"},
        "pruner": "none",
        "objective": "entropy",
        "validators": [],
        "confirm": {"top": 1, "seeds": 1},
        "retrain": {"seeds": 1, "teach": False},
        **changes,
    }
    content["tasks"] = [
        {"name": name, **{part: {"arrays": str(data / f"{letter}.npz")} for part, letter in letters.items()}}
        for name in content["tasks"]
        for letters in [{"source": name[0], "target": name[-1]}]
    ]
    return Space.model_validate(content)


def run(
    now: Space, root: Path, executor: Counting | None = None, listener: Silent | None = None, **more: Any
) -> list[Choice]:
    folder = StudyFolder(root / now.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    made = Counting() if executor is None else executor
    return run_study(
        now, folder, options, lambda: made, listener or Silent(), more.get("stop", threading.Event())
    )


def without_dropout(data: Path, **changes: Any) -> Space:
    """What a user writes who searches dropout from now on: it is fixed no more."""
    grown = space(data, search=WIDE, **changes)
    return grown.model_copy(update={"train": grown.train.model_copy(update={"dropout": 0.0})})


def contents(root: Path) -> list[Any]:
    with open_study(root, "grown") as opened:
        return [
            (t.number, t.state, t.value, t.params, t.distributions) for t in opened.studies[0].get_trials()
        ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in "abcd":
        x = rng.normal(size=(16, 4)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, **({"y": np.arange(16) % 2} if name == "a" else {}))
    load_task.cache_clear()
    return folder


@pytest.fixture(scope="module")
def _begun(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("begun")
    run(space(data), root)
    return root


@pytest.fixture
def begun(_begun: Path, tmp_path: Path) -> Path:
    """A finished study of two trials."""
    shutil.copytree(_begun, tmp_path / "studies")
    return tmp_path / "studies"


def test_a_wider_range_another_parameter_and_a_larger_budget_keep_the_trials(data: Path, begun: Path) -> None:
    before, executor, listener = contents(begun), Counting(), Lines()
    (choice,) = run(without_dropout(data, budget={"trials": 5}), begun, executor, listener)
    after = contents(begun)
    assert after[:2] == before and len(after) == 5
    assert any(not 0.9 <= params["alpha"] <= 1.1 for _, _, _, params, _ in after[2:])
    assert all("dropout" in params for _, _, _, params, _ in after[2:])
    # Neither the trials nor the model without adaptation are trained again.
    assert not {"trial-0", "trial-1", "source-only", "confirm-source-only-0"} & executor.jobs.keys()
    assert {"trial-2", "trial-3", "trial-4"} <= executor.jobs.keys()
    told = [text for text in listener.lines if "kept" in text]
    assert told == [
        "alpha is searched in 0.01 to 9 now, 0.9 to 1.1 before; its 2 trials are kept",
        "dropout is searched now, 0 to 0.5; the 2 trials so far had 0.2 and are kept",
        "goes on with other settings: budget.trials 2, now 5; its 2 trials are kept",
    ]
    with open_study(begun, "grown") as opened:
        first, second, *others = read_trials(opened.studies[0])
        assert first.params["dropout"] == second.params["dropout"] == 0.2
        assert all(trial.params["dropout"] != 0.2 for trial in others)
        (record,) = read_records(opened)
        assert record.params == ("alpha", "dropout") and record.baseline is not None
        (again,) = rerun_trial(opened, 0, "cpu", lambda *_: None)
        assert again.same
    assert json.loads((begun / "grown" / "study.json").read_text())["space"]["search"].keys() == WIDE.keys()
    assert choice.params.keys() <= WIDE.keys()
    # The same file once more: nothing to train, nothing to tell, the same answer.
    executor, listener = Counting(), Lines()
    assert run(without_dropout(data, budget={"trials": 5}), begun, executor, listener) == [choice]
    assert not executor.jobs and not [text for text in listener.lines if "kept" in text]
    with pytest.raises(
        StudyMismatchError, match=r"other search \(search.alpha.low: 0.01, now 0.9; .*may be wid"
    ):
        run(space(data), begun)


def test_a_trial_under_way_goes_on_with_the_value_that_it_had(
    data: Path, tmp_path: Path, stop_after: Callable[..., Silent]
) -> None:
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError):
        run(space(data), tmp_path, None, stop_after(7, stop), stop=stop)
    states = [state.name for _, state, *_ in contents(tmp_path)]
    assert states[0] == "RUNNING"
    left, executor, listener = contents(tmp_path), Counting(), Lines()
    run(without_dropout(data, validators=["diversity"]), tmp_path, executor, listener)
    trained = executor.jobs["trial-0"].settings
    assert (trained.alpha, trained.dropout) == (left[0][3]["alpha"], 0.2)
    assert contents(tmp_path)[0][3] == left[0][3] and contents(tmp_path)[0][1].name == "COMPLETE"


def test_a_choice_is_made_anew_of_what_is_there(data: Path, begun: Path) -> None:
    executor, listener = Counting(), Lines()
    changed = {
        "confirm": {"top": 2, "seeds": 2},
        "retrain": {"seeds": 2, "teach": True},
        "keep": {"megabytes": 1},
    }
    (choice,) = run(space(data, **changed), begun, executor, listener)
    assert all(len(candidate.scores) == 2 for candidate in choice.candidates)
    keys = executor.jobs.keys()
    assert not [key for key in keys if key.startswith("trial-") or key.endswith("source-only-0")]
    assert "confirm-source-only-1" in keys and "retrain-source-only-a_to_b-1" in keys
    assert "retrain-source-only-a_to_b" not in keys  # it is not taught, so it is what it was
    if choice.trial is not None:
        assert f"retrain-{choice.candidate}-a_to_b" in keys
    assert [
        text
        for text in listener.lines
        if text.startswith("goes on with other settings: confirm.top 1, now 2")
    ]


@pytest.mark.parametrize("moment", ["before the database", "within it", "before study.json"])
def test_killed_while_it_grows_it_is_either_the_one_or_the_other(
    data: Path, begun: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """What ends the process."""

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    where: dict[str, tuple[Any, str]] = {
        "before the database": (module, "_describe"),
        "within it": (optuna.Study, "set_metric_names"),
        "before study.json": (StudyFolder, "describe"),
    }
    grown, before = without_dropout(data), contents(begun)
    with monkeypatch.context() as patch:
        patch.setattr(*where[moment], killed)
        if moment == "within it":
            patch.setattr(optuna.Study, "metric_names", None)
        with pytest.raises(KilledError):
            run(grown, begun)
    with open_study(begun, "grown") as opened:
        assert opened.space["search"].keys() == (WIDE.keys() if moment == "before study.json" else {"alpha"})
    assert contents(begun) == before
    run(space(data) if moment != "before study.json" else grown, begun)
    run(grown, begun)
    assert contents(begun) == before


def test_tasks_come_and_go_where_each_is_searched_for_itself(data: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"scope": "per_task", "budget": {"trials": 1}}
    run(space(data, tasks=["a->b", "a->c"], **more), tmp_path)
    executor, listener = Counting(), Lines()
    choices = run(space(data, tasks=["a->d", "a->b"], **more), tmp_path, executor, listener)
    assert [choice.tasks for choice in choices] == [("a->d",), ("a->b",)]
    assert executor.jobs and all(key.startswith("a_to_d-") for key in executor.jobs)
    assert "task a->d is added" in listener.lines
    assert "task a->c is left out from now on; its 1 trials are kept" in listener.lines
    with open_study(tmp_path, "grown") as opened:
        assert {study.study_name for study in opened.studies} == {"grown:a->b", "grown:a->d"}
        assert len(study_status(opened)["parts"]) == len(opened.made_choices()) == 2
    executor, listener = Counting(), Lines()
    run(space(data, tasks=["a->c"], **more), tmp_path, executor, listener)
    assert not executor.jobs and "task a->c is back with its 1 trials" in listener.lines
    shutil.copy(data / "c.npz", data / "e.npz")
    with pytest.raises(StudyMismatchError, match="other tasks; the data is the same under another name"):
        run(space(data, tasks=["a->e"], **more), tmp_path)


def test_a_task_that_is_left_out_keeps_its_training_under_way(
    data: Path, tmp_path: Path, stop_after: Callable[..., Silent]
) -> None:
    more: dict[str, Any] = {"scope": "per_task", "budget": {"trials": 1}}
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError):
        run(space(data, tasks=["a->b"], **more), tmp_path, None, stop_after(7, stop), stop=stop)
    run(space(data, tasks=["a->c"], **more), tmp_path)
    assert [path.name for path in (tmp_path / "grown" / "jobs").iterdir()] == ["a_to_b-trial-0"]
