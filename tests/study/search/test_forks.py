"""A trial that branches off another one's training, as population-based training asks for it."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import StudyInterruptedError
from iimt_search.records import Choice, Evaluation, Event, Finished, Fork, Job, Report
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.budget import BudgetTracker
from iimt_search.study.search.forks import branch_off, configuration
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.trainable import Trainable
from iimt_search.validators.registry import VALIDATORS

STEPS = [2, 4, 6, 8]
FORK = Fork("trial-0", 5.0)


class Forking(InlineExecutor):
    """Trains jobs side by side, and has a fork of trial 0 take trial 1's place after its second report."""

    def __init__(self) -> None:
        super().__init__(population=4)  # source-only has two of them
        self.at: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}

    def submit(self, job: Job) -> None:
        self.jobs[job.key] = job
        super().submit(job)

    def wait(self, timeout: float) -> Sequence[Event]:
        events = super().wait(timeout)
        self.at |= {e.key: e.evaluation.step for e in events if isinstance(e, Report)}
        stopped = Finished("trial-1", "stopped")
        return [replace(stopped, fork=FORK) if event == stopped else event for event in events]

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        super().answer(key, go_on and not (key == "trial-1" and self.at[key] == STEPS[1]))


class StopAtFork(Silent):
    """Stops the run when a fork has been added."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def line(self, text: str) -> None:
        if "fork of trial 0" in text:
            self.stop.set()


@pytest.fixture
def space(tiny_space: Path) -> Space:
    content = load_space(tiny_space, KnownNames(DOMAINS, VALIDATORS)).canonical()
    train = content["train"] | {"steps": 8, "evaluations": 4}
    changes = {"train": train, "tasks": ["digits->digits-m"], "budget": {"trials": 2}}
    return Space.model_validate({**content, **changes, "pruner": "none", "objective": "entropy"})


def carry_out(space: Space, root: Path, executor: Any, listener: Any = None, stop: Any = None) -> Choice:
    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    (choice,) = run_study(space, folder, options, executor, listener or Silent(), stop or threading.Event())
    return choice


def trials_of(root: Path) -> list[FrozenTrial]:
    return open_study(root, "tiny").studies[0].get_trials()


def test_a_fork_goes_on_from_its_donor_with_another_lambda_max(space: Space, tmp_path: Path) -> None:
    made: list[Forking] = []

    def start() -> Forking:
        made.append(Forking())
        return made[0]

    choice = carry_out(space, tmp_path, start)
    donor, stopped, fork = trials_of(tmp_path)
    # The one whose place it took is pruned with its last report; the budget of two trials is not exceeded.
    assert [t.state for t in (donor, stopped, fork)] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert list(stopped.intermediate_values) == STEPS[:2]
    assert stopped.value == stopped.intermediate_values[4] == stopped.user_attrs["entropy"]
    assert fork.params == {**donor.params, "lambda_max": 5.0}
    share = fork.user_attrs["forked_at"] / STEPS[-1]
    assert fork.user_attrs["lambda_schedule"] == [[share, 1.0]] and share in (0.5, 0.75)
    assert fork.user_attrs["origin"] == f"fork of trial 0 after step {round(share * 8)}"
    assert fork.user_attrs["seed"] == donor.user_attrs["seed"] != stopped.user_attrs["seed"]
    # Its curve is whole, and its donor's up to where it branched off.
    assert list(fork.intermediate_values) == STEPS
    for step in STEPS:
        same = fork.intermediate_values[step] == donor.intermediate_values[step]
        assert same == (step <= round(share * 8))
    # Trained from the start with the same values it is the same model.
    job = made[0].jobs["trial-2"]
    again = Trainable(replace(job, folder=str(tmp_path / "again"), kept=""))
    while not again.done:
        again.advance()
    values = [evaluation.mean("entropy") for evaluation in again.history]
    assert values == pytest.approx(list(fork.intermediate_values.values()), rel=1e-5)
    if choice.trial == 2:
        assert choice.params["lambda_schedule"] == [[share, 1.0]]
    settings = [job.settings for key, job in made[0].jobs.items() if key.startswith("confirm-trial-2")]
    assert all(each.lambda_schedule == ((share, 1.0),) and each.lambda_max == 5.0 for each in settings)


@pytest.mark.long
def test_a_fork_under_way_or_waiting_outlives_its_driver(space: Space, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError):
        carry_out(space, tmp_path, Forking, StopAtFork(stop), stop)
    assert trials_of(tmp_path)[2].state is TrialState.WAITING
    carry_out(space, tmp_path, InlineExecutor)
    trials = trials_of(tmp_path)
    assert [len(trial.intermediate_values) for trial in trials] == [4, 2, 4]
    assert trials[2].intermediate_values[2] == trials[0].intermediate_values[2]


def finished(number: int, state: TrialState, steps: int, **attributes: Any) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=0.5 if state is TrialState.COMPLETE else None,
        intermediate_values={step: 0.5 for step in range(2, steps + 1, 2)},
        user_attrs=attributes,
    )
    trial.number = number
    return trial


def test_a_fork_counts_for_the_trial_whose_place_it_took() -> None:
    trials = [
        finished(0, TrialState.COMPLETE, 8),
        finished(1, TrialState.PRUNED, 4),
        finished(2, TrialState.COMPLETE, 8, forked_at=6),
    ]
    tracker = BudgetTracker(trials, 8, True)
    assert (tracker.begun, tracker.over, tracker.steps) == (2, 2, 8 + 4 + 2)
    assert tracker.states == {"complete": 2, "pruned": 1}


def test_configuration_of_a_fork_has_what_lambda_max_was() -> None:
    dist = {"lambda_max": optuna.distributions.FloatDistribution(0, 9)}
    own = create_trial(value=1, params={"lambda_max": 2.0}, distributions=dist)
    earlier = {"lambda_schedule": [[0.5, 1.0]]}
    fork = create_trial(value=1, params={"lambda_max": 2.0}, distributions=dist, user_attrs=earlier)
    assert configuration(own) == {"lambda_max": 2.0}
    assert configuration(fork) == {"lambda_max": 2.0, "lambda_schedule": [[0.5, 1.0]]}


def test_nothing_branches_off_a_training_without_checkpoint_or_at_its_end(
    space: Space, tmp_path: Path
) -> None:
    job = Job("trial-0", space.tasks, space.train, 0, ("entropy",), str(tmp_path / "donor"))
    fork = tmp_path / "fork"
    assert branch_off(job, 0, fork) is None
    training = Trainable(job)
    training.advance()
    found = branch_off(job, 0, fork)
    assert found is not None and found["lambda_schedule"] == [[0.25, 1.0]] and list(fork.iterdir())
    later = replace(job, settings=job.settings.model_copy(update={"lambda_schedule": ((0.5, 2.0),)}))
    assert branch_off(later, 0, fork) is None and not fork.exists()  # its own changes lie ahead
    while not training.done:
        training.advance()
    assert branch_off(job, 0, fork) is None and not fork.exists()


class Source(InlineExecutor):
    """Ends after the first report of trial 2, as if the driver was killed while a fork tells its curve."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(population=3)
        self.stop = stop

    def wait(self, timeout: float) -> Sequence[Event]:
        events = super().wait(timeout)
        if any(isinstance(e, Report) and e.key == "trial-2" for e in events):
            self.stop.set()
        return events


@pytest.mark.long
def test_a_fork_that_had_told_half_of_its_donors_curve_is_judged_after_it(
    space: Space, tmp_path: Path
) -> None:
    stop = threading.Event()

    with pytest.raises(StudyInterruptedError):
        carry_out(space, tmp_path, Forking, StopAtFork(stop), stop)
    stop.clear()
    with pytest.raises(StudyInterruptedError):
        carry_out(space, tmp_path, lambda: Source(stop), Silent(), stop)
    half = trials_of(tmp_path)[2]
    assert half.state is TrialState.RUNNING and list(half.intermediate_values) == [2]
    jobs: list[Job] = []

    class Watching(InlineExecutor):
        def submit(self, job: Job) -> None:
            jobs.append(job)
            super().submit(job)

    carry_out(space, tmp_path, Watching)
    (fork,) = [job for job in jobs if job.key == "trial-2"]
    assert fork.known_step == half.user_attrs["forked_at"] >= 4


def test_rows_of_the_space_file_beyond_the_budget_stay_unbegun(space: Space, tmp_path: Path) -> None:
    rows = [{"alpha": 0.5}, {"alpha": 0.6}, {"alpha": 0.7}]
    content = space.canonical() | {"first": rows}
    carry_out(Space.model_validate(content), tmp_path, Forking)
    states = [trial.state for trial in trials_of(tmp_path)]
    assert states.count(TrialState.WAITING) == 3 and len(states) == 5  # two rows and the fork behind them


def test_a_pruner_of_optunas_leaves_what_a_fork_inherits_alone(space: Space, tmp_path: Path) -> None:
    def strict(self: Any, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.number == 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.pruners.NopPruner, "prune", strict)
        carry_out(space, tmp_path, Forking)
    fork = trials_of(tmp_path)[2]
    assert fork.state is TrialState.PRUNED
    assert fork.last_step == fork.user_attrs["forked_at"] + 2


def test_a_donor_that_has_ended_leaves_no_fork(space: Space, tmp_path: Path) -> None:
    lines: list[str] = []

    class Told(Silent):
        def line(self, text: str) -> None:
            lines.append(text)

    class Late(Forking):
        def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
            InlineExecutor.answer(self, key, go_on and not (key == "trial-1" and self.at.get("trial-0") == 8))

        @property
        def capacity(self) -> int:
            return 2  # trial 1 begins when source-only has ended, and so has trial 0

    carry_out(space, tmp_path, Late, Told())
    assert len(trials_of(tmp_path)) == 2
    assert "no fork of trial-0, which has ended meanwhile" in lines
