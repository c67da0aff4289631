"""What tests of the Ray backend share."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from iimt_search.data.registry import DOMAINS
from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.ray.executor import RayExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage.database import sqlite_url
from iimt_search.validators.registry import VALIDATORS

RunStudy = Callable[..., list[optuna.trial.FrozenTrial]]
STEPS = list(range(10, 61, 10))


class Recording(RayExecutor):
    """A Ray executor that remembers what it was told and what it told."""

    def __init__(self, *args: Any) -> None:
        self.submitted: list[str] = []
        self.events: list[Event] = []
        super().__init__(*args)

    def submit(self, job: Job) -> None:
        self.submitted.append(job.key)
        super().submit(job)

    def wait(self, timeout: float) -> list[Event]:
        events = list(super().wait(timeout))
        self.events += events
        return events

    def assert_resent(self) -> str:
        """Check that each lost job came again with the evaluations that it had made; returns why lost."""
        lost = [e for e in self.events if isinstance(e, Finished) and e.status == "lost"]
        keys = [e.key for e in lost]
        assert lost and all(self.submitted.count(key) == 1 + keys.count(key) for key in keys)
        for key in keys:
            tries: list[list[Evaluation]] = [[]]
            for event in self.events:
                if isinstance(event, Report) and event.key == key:
                    tries[-1].append(event.evaluation)
                elif isinstance(event, Finished) and event.key == key and event.status == "lost":
                    tries.append([])
            *before, again = tries
            assert all(again[: len(evaluations)] == evaluations for evaluations in before)
            assert [evaluation.step for evaluation in again] == STEPS
        return lost[0].error


class KillOnce(Silent):
    """Kills something when a number of trials are under way and none is near its end."""

    def __init__(self, trials: int, kill: Callable[[], Any]) -> None:
        self.trials, self.kill, self.killed = trials, kill, False

    def snapshot(self, snapshot: Snapshot) -> None:
        shares = [share for key, share in snapshot.running.items() if key.startswith("trial-")]
        if not self.killed and len(shares) == self.trials and all(0.1 < share < 0.8 for share in shares):
            self.killed = True
            self.kill()


@pytest.fixture
def kill_once() -> type[KillOnce]:
    """The listener class that kills."""
    return KillOnce


@pytest.fixture
def assert_whole() -> Callable[[list[optuna.trial.FrozenTrial], int], None]:
    """Return a check that trials have ended, with whole curves."""

    def check(trials: list[optuna.trial.FrozenTrial], count: int) -> None:
        assert len(trials) == count
        for trial in trials:
            assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
            steps = list(trial.intermediate_values)
            assert steps == STEPS[: len(steps)]
            assert trial.state is not TrialState.COMPLETE or steps == STEPS

    return check


@pytest.fixture
def longer_space(small_space: Callable[..., Space]) -> Callable[..., Space]:
    """Return a function that makes a space of six evaluations a trial and no pruning."""
    train = {
        "steps": 60,
        "batch_size": 8,
        "image_size": 8,
        "width": 4,
        "evaluations": 6,
        "precision": "float32",
    }
    return lambda trials: small_space(train=train, budget={"trials": trials}, pruner={"name": "none"})


@pytest.fixture
def recording() -> type[Recording]:
    """The executor class that remembers."""
    return Recording


@pytest.fixture
def small_space(tiny_space_text: str) -> Callable[..., Space]:
    """Return a function that makes the tiny space with other keys."""

    def make(**changes: Any) -> Space:
        space = space_from_text(tiny_space_text, KnownNames(DOMAINS, VALIDATORS))
        return Space.model_validate({**space.canonical(), "tasks": ["digits->digits-m"], **changes})

    return make


@pytest.fixture
def run_on(tmp_path: Path) -> RunStudy:
    """Return a function that runs a space on an executor and returns its trials."""

    def run(
        space: Space,
        start: Callable[[], Executor],
        listener: Silent | None = None,
        stop: threading.Event | None = None,
    ) -> list[optuna.trial.FrozenTrial]:
        folder = StudyFolder(tmp_path / space.study)
        options = RunOptions(sqlite_url(folder.database), "cpu")
        run_study(space, folder, options, start, listener or Silent(), stop or threading.Event())
        return open_study(tmp_path, space.study).studies[0].get_trials()

    return run


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start Ray with two processors once for a module; executors use it."""
    from iimt_search.study.executors.ray.session import RaySession

    session = RaySession(None, 2, tmp_path_factory.mktemp("ray"))
    yield
    session.close()
