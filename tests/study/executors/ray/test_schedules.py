"""Tune's population-based training, as forks of a study's trials."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from iimt_search.records import Evaluation, Finished, Fork, Job
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.study.executors.ray.executor import RayOptions
from iimt_search.study.executors.ray.schedules import ForkingPopulation, make_schedule

RANGES: dict[str, Any] = {
    "log": {"low": 0.01, "high": 100, "log": True},
    "grid": {"low": 0, "high": 3, "step": 0.5},
    "choices": {"choices": [0.5, 1.0, 2.0]},
}


class FakeTrial:
    """What Tune's scheduler looks at of a trial."""

    def __init__(self, number: int, lambda_max: float = 1.0, known_step: int = 0) -> None:
        settings = TrainSettings(steps=60, lambda_max=lambda_max)
        job = Job(f"trial-{number}", (), settings, 0, ("entropy",), "", known_step=known_step)
        self.config, self.trial_id = {"job": job}, str(number)
        self.experiment_tag, self.status, self.last_result = "", "RUNNING", dict[str, Any]()
        keep = SimpleNamespace(num_to_keep=None)
        self.run_metadata = SimpleNamespace(checkpoint_manager=SimpleNamespace(checkpoint_config=keep))


@pytest.fixture
def made(small_space: Callable[..., Space]) -> Callable[..., Any]:
    """Return a function that makes the schedule of a space."""

    def make(searched: Any = RANGES["log"], objective: str = "source_accuracy", warmup: float = 0) -> Any:
        return make_schedule(
            small_space(
                search={"lambda_max": searched},
                train={"steps": 60, "evaluations": 6},
                pruner={"name": "pbt", "warmup": warmup},
                objective=objective,
            )
        )

    return make


def drawn_so_far() -> tuple[Any, Any]:
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist()


def hear(schedule: Any, trial: Any, step: int, value: float, decided: int = 0) -> Finished | None:
    found: Finished | None = schedule.end(
        trial, Evaluation(step, {"a->b": {schedule.objective: value}}), decided
    )
    return found


@pytest.mark.parametrize("searched", RANGES.values(), ids=RANGES)
def test_one_of_the_worst_goes_on_as_a_fork_of_one_of_the_best(
    made: Callable[..., Any], searched: Any
) -> None:
    schedule = made(searched)
    trials: list[Any] = [FakeTrial(number) for number in range(4)]
    for trial in trials:
        schedule.add(trial)
    assert hear(schedule, trials[0], 10, 0.7) is None
    assert hear(schedule, trials[1], 10, 0.8) is None and hear(schedule, trials[2], 10, 0.9) is None
    ended = hear(schedule, trials[3], 10, 0.1)
    assert ended is not None and ended.status == "stopped" and ended.key == "trial-3"
    assert ended.fork is not None and ended.fork.donor == "trial-2"
    value = ended.fork.lambda_max
    assert value != 1.0
    if "choices" in searched:
        assert value in searched["choices"]
    else:
        assert searched["low"] <= value <= searched["high"] and not value % searched.get("step", value)


def test_what_is_drawn_depends_on_the_studys_seed_alone(made: Callable[..., Any]) -> None:
    found = []
    for at in range(3):
        schedule = made()
        trials: list[Any] = [FakeTrial(number) for number in range(8)]
        for trial in trials:
            schedule.add(trial)
        random.seed(at)
        np.random.seed(at)
        before = drawn_so_far()
        for number, trial in enumerate(trials[1:], 1):
            assert hear(schedule, trial, 10, number / 10) is None
        ended = hear(schedule, trials[0], 10, 0.0)
        assert drawn_so_far() == before
        assert ended is not None and ended.fork is not None
        found.append(ended.fork)
    assert found[0] == found[1] == found[2]


def test_only_scores_at_the_same_step_and_of_trials_under_way_are_compared(made: Callable[..., Any]) -> None:
    schedule = made()
    ahead, ended, late = (FakeTrial(number) for number in range(3))
    for trial in (ahead, ended):
        schedule.add(trial)
    assert hear(schedule, ahead, 20, 0.9) is None
    assert hear(schedule, ended, 10, 0.9) is None
    schedule.remove(ended)
    schedule.add(late)
    assert hear(schedule, late, 10, 0.1) is None  # nobody under way was seen at this step
    found = hear(schedule, late, 20, 0.1)
    assert found is not None and found.fork is not None and found.fork.donor == "trial-0"


def test_warm_up_repeated_reports_last_steps_and_other_jobs_decide_nothing(made: Callable[..., Any]) -> None:
    schedule = made(warmup=0.5)
    good, bad = FakeTrial(0), FakeTrial(1)
    other = FakeTrial(2)
    other.config["job"] = Job(
        "trial-0", (), TrainSettings(steps=60), 0, (), "", purpose="confirmation", index=1
    )
    for trial in (good, bad, other):
        schedule.add(trial)
    assert hear(schedule, other, 30, 0.0) is None
    for step in (10, 20):
        assert hear(schedule, good, step, 0.9) is None and hear(schedule, bad, step, 0.1) is None
    assert hear(schedule, good, 40, 0.9) is None
    assert hear(schedule, bad, 40, 0.1, decided=40) is None
    assert hear(schedule, bad, 40, 0.9) is None  # as good as the best
    assert hear(schedule, good, 60, 0.9) is None and hear(schedule, bad, 60, 0.1) is None
    assert hear(schedule, bad, 50, 0.1) is None  # nobody else was seen there


def test_tasks_that_are_searched_apart_are_not_compared(made: Callable[..., Any]) -> None:
    schedule = made()
    trials = [FakeTrial(number) for number in range(2)]
    for trial, prefix in zip(trials, ("a_to_b-", "a_to_c-"), strict=True):
        trial.config["job"] = replace(trial.config["job"], prefix=prefix)
        schedule.add(trial)
    assert hear(schedule, trials[0], 10, 0.9) is None and hear(schedule, trials[1], 10, 0.1) is None


def test_nothing_branches_off_a_training_without_the_term(made: Callable[..., Any]) -> None:
    schedule = made(RANGES["grid"])
    good, bad = FakeTrial(0, lambda_max=0.0), FakeTrial(1)
    schedule.add(good)
    schedule.add(bad)
    assert hear(schedule, good, 10, 0.9) is None and hear(schedule, bad, 10, 0.1) is None


def test_values_on_a_grid_stay_within_their_bounds(small_space: Callable[..., Space]) -> None:
    search = {"lambda_max": {"low": 0, "high": 0.3, "step": 0.1}}
    space = small_space(search=search, pruner={"name": "pbt"})
    when = {"time_attr": "step", "metric": "objective", "mode": "max"}
    population = ForkingPopulation(space, when, interval=1, warmup=0)
    assert (
        population._mutations() == pytest.approx([0.0, 0.1, 0.2, 0.3]) and max(population._mutations()) == 0.3
    )


def test_smaller_is_better_where_the_objective_says_so(made: Callable[..., Any]) -> None:
    schedule = made(objective="entropy")
    low, high = FakeTrial(0), FakeTrial(1)
    schedule.add(low)
    schedule.add(high)
    assert hear(schedule, low, 10, 0.1) is None
    ended = hear(schedule, high, 10, 0.9)
    assert ended is not None and ended.fork is not None and ended.fork.donor == "trial-0"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("shared", [True, False], ids=["shared storage", "one disk"])
def test_a_study_by_population_based_training(
    longer_space: Callable[[int], Space], run_on: Any, recording: Any, tmp_path: Path, shared: bool
) -> None:
    content = longer_space(5).canonical() | {"pruner": {"name": "pbt", "warmup": 0}, "objective": "entropy"}
    space = Space.model_validate(content)
    made: list[Any] = []

    def start() -> Any:
        storage = str(tmp_path / "storage") if shared else None
        made.append(recording(RayOptions(tmp_path / "tiny", space=space, storage=storage)))
        return made[0]

    trials = run_on(space, start)
    forks = [trial for trial in trials if "forked_at" in trial.user_attrs]
    asked: list[Fork] = [e.fork for e in made[0].events if isinstance(e, Finished) and e.fork is not None]
    assert asked and 0 < len(forks) <= len(asked) and len(trials) == 5 + len(forks)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        steps = list(trial.intermediate_values)
        assert steps == list(range(10, steps[-1] + 1, 10))
        assert trial.intermediate_values[steps[-1]] == trial.user_attrs["entropy"]
        assert (steps[-1] == 60) == (trial.state is TrialState.COMPLETE)
    for fork in forks:
        number, at = int(fork.user_attrs["origin"].split()[3]), fork.user_attrs["forked_at"]
        donor = trials[number]
        assert all(
            fork.intermediate_values[step] == donor.intermediate_values[step]
            for step in range(10, at + 1, 10)
        )
        assert fork.params["lambda_max"] != donor.params["lambda_max"]
        assert {k: v for k, v in fork.params.items() if k != "lambda_max"} == {
            k: v for k, v in donor.params.items() if k != "lambda_max"
        }


def test_asha_compares_scores_of_the_same_rung_only(small_space: Callable[..., Space]) -> None:
    space = small_space(
        train={"steps": 60, "evaluations": 6},
        pruner={"name": "asha", "warmup": 0},
        objective="source_accuracy",
    )
    schedule = make_schedule(space)
    good, unscored, bad, late = trials = [FakeTrial(number) for number in range(4)]
    for trial in trials:
        schedule.add(trial)  # type: ignore[union-attr, arg-type]
    assert all(hear(schedule, good, step, 0.8) is None for step in (10, 20, 30, 40, 50))
    # The objective came only after its second rung: it is judged at the third one.
    assert hear(schedule, unscored, 30, 0.1) is None
    ended = hear(schedule, unscored, 40, 0.1)
    assert ended is not None and ended.status == "stopped"
    # At rungs only, and what was not judged at one is not made up for later.
    assert hear(schedule, bad, 10, 0.9) is None and hear(schedule, bad, 30, 0.0) is None
    assert hear(schedule, bad, 40, 0.9) is None and hear(schedule, bad, 50, 0.0) is None
    assert hear(schedule, late, 10, 0.1) is not None
