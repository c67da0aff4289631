"""A study whose second objective is the cost of training."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.samplers import NSGAIISampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from iimt_search.cli.main import cli
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import StudyInterruptedError, StudyMismatchError
from iimt_search.report.figures.pareto import draw_pareto
from iimt_search.report.record import read_records
from iimt_search.space import KnownNames, Space, space_from_text
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import make_pruner, make_sampler
from iimt_search.study.storage.database import sqlite_url
from iimt_search.validators.registry import VALIDATORS

TEXT = """\
schema: 1
study: cheap
tasks: [digits->digits-m]
objective: entropy
cost: {name: operations, tolerance: 0.5}
search: {k: {low: 1, high: 4}, width: {choices: [4, 8]}, steps: {choices: [4, 8]}}
train: {batch_size: 8, image_size: 8, evaluations: 2, precision: float32, data_fraction: 0.2}
budget: {trials: 4}
sampler: {name: tpe, startup_trials: 2}
confirm: {top: 2, seeds: 1}
retrain: {steps: 2, seeds: 1}
"""


def space(**changes: Any) -> Space:
    made = space_from_text(TEXT, KnownNames(DOMAINS, VALIDATORS))
    return Space.model_validate({**made.canonical(), **changes})


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def run(
    given: Space,
    root: Path,
    listener: Silent | None = None,
    stop: threading.Event | None = None,
    executor: Callable[[], Executor] = InlineExecutor,
) -> Any:
    folder = StudyFolder(root / given.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    return run_study(given, folder, options, executor, listener or Silent(), stop or threading.Event())


@pytest.fixture(scope="module")
def cheap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The studies folder of a study that was stopped in its second trial, and went on to its choice."""
    root, stop = tmp_path_factory.mktemp("cost"), threading.Event()

    class Stopping(Listening):
        def line(self, text: str) -> None:
            super().line(text)
            if text.startswith("trial 1"):
                stop.set()

    with pytest.raises(StudyInterruptedError):
        run(space(), root, listener := Stopping(), stop)
    assert any(line.startswith("no trial is pruned") for line in listener.lines)
    run(space(), root)
    return root


def test_optuna_has_two_objectives_and_every_trial_both(cheap: Path) -> None:
    with open_study(cheap, "cheap") as opened:
        (study,) = opened.studies
        assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]
        assert study.metric_names == ["entropy, mean over tasks", "operations"]
        trials = study.get_trials()
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
        for trial in trials:
            assert trial.values == [trial.user_attrs["entropy"], trial.user_attrs["operations"]]
            assert trial.user_attrs["seconds"] > 0 and len(trial.intermediate_values) == 2
        front = study.best_trials
        assert 0 < len(front) <= 4


def test_operations_grow_with_what_is_searched(cheap: Path) -> None:
    with open_study(cheap, "cheap") as opened:
        cost = {
            tuple(trial.params[name] for name in ("steps", "width", "k")): trial.user_attrs["operations"]
            for trial in opened.studies[0].get_trials()
        }
    for one, of_one in cost.items():
        for other, of_other in cost.items():
            if one != other and all(a <= b for a, b in zip(one, other, strict=True)):
                assert of_one < of_other


def test_what_is_told_of_it(cheap: Path) -> None:
    where = ["--study", "cheap", "--studies-dir", str(cheap)]
    status = json.loads(CliRunner().invoke(cli, ["status", *where, "--json"]).output)
    (part,) = status["parts"]
    assert part["best_trial"]["cost"].keys() == {"seconds", "operations"}
    with open_study(cheap, "cheap") as opened:
        trials = opened.studies[0].get_trials()
        (record,) = read_records(opened)
    assert part["seconds"] == pytest.approx(sum(trial.user_attrs["seconds"] for trial in trials))
    assert part["best_trial"]["value"] == min(trial.values[0] for trial in trials)
    best = json.loads(CliRunner().invoke(cli, ["best", *where, "--json"]).output)
    assert all(candidate["cost"]["operations"] > 0 for candidate in best["candidates"])
    drawing = draw_pareto(record)
    assert drawing is not None and "operations" in drawing.table.head and "training" in drawing.table.head
    front = {trial.number for trial in record.pareto_front(record.trials)}
    assert front == {t.number for t in opened.studies[0].best_trials if "veto" not in t.user_attrs}
    result = CliRunner().invoke(cli, ["report", *where, "--output", str(cheap / "page.html")])
    assert result.exit_code == 0, result.output


def test_another_cost_is_another_study_and_the_tolerance_may_change(cheap: Path) -> None:
    with pytest.raises(StudyMismatchError, match="cost: operations, now none"):
        run(space(cost="none"), cheap)
    (choice,) = run(space(cost={"name": "operations", "tolerance": 0.0}), cheap)
    assert choice.answer != "trial" or "best mean" in choice.reason


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_no_trial_is_pruned(pruner: str) -> None:
    given = space(pruner=pruner)
    assert type(make_pruner(given)).__name__ == "NopPruner" and not given.pruning.of_ray
    assert space(pruner=pruner, cost="none").pruning.name == pruner


def test_nsga2_has_a_generation_of_startup_trials() -> None:
    sampler = make_sampler(space(sampler={"name": "nsga2", "startup_trials": 6}), 3)
    assert isinstance(sampler, NSGAIISampler)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["random", "qmc", "gp", "nsga2"])
def test_every_sampler_takes_two_objectives(sampler: str, tmp_path: Path) -> None:
    given = space(
        sampler={"name": sampler, "startup_trials": 2}, cost="seconds", confirm={"top": 1, "seeds": 1}
    )
    (choice,) = run(given, tmp_path)
    assert all(candidate.cost["seconds"] > 0 for candidate in choice.candidates)


@pytest.mark.slow
@pytest.mark.ray
def test_with_ray(tmp_path: Path) -> None:
    from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions

    options = RayOptions(tmp_path / "cheap", workers=1, space=space(pruner="asha"))
    run(space(pruner="asha", budget={"trials": 2}), tmp_path, executor=lambda: RayExecutor(options))
    with open_study(tmp_path, "cheap") as opened:
        for trial in opened.studies[0].get_trials():
            assert trial.values[1] == trial.user_attrs["operations"] and trial.user_attrs["seconds"] > 0
