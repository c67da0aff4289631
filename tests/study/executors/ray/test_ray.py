"""A study on Ray is the study that it is without: states, curves, resume, errors, schedules."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from iimt_search.errors import StudyError, StudyInterruptedError
from iimt_search.records import Finished, Report
from iimt_search.space import Space
from iimt_search.space.schema import Resources
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.scope import Scope

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


@pytest.mark.parametrize("ray_first", [True, False])
def test_a_study_begun_with_one_backend_goes_on_with_the_other(
    small_space: Callable[..., Space], run_on: Any, stop_after: Any, tmp_path: Path, ray_first: bool
) -> None:
    whole = run_on(small_space(study="whole"), InlineExecutor)
    space = small_space(study="both")

    def on_ray() -> RayExecutor:
        return RayExecutor(RayOptions(tmp_path / "both", workers=1))

    first, second = (on_ray, InlineExecutor) if ray_first else (InlineExecutor, on_ray)
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError, match="nothing is lost"):
        run_on(space, first, stop_after(5, stop), stop)
    both = run_on(space, second)
    for left, right in zip(both, whole, strict=True):
        assert (left.number, left.state, left.params) == (right.number, right.state, right.params)
        assert left.intermediate_values == pytest.approx(right.intermediate_values, rel=1e-3, abs=1e-3)
        assert left.user_attrs.keys() == right.user_attrs.keys()


def test_a_trial_that_runs_out_of_memory_fails_with_that_word_and_the_search_goes_on(
    small_space: Callable[..., Space], run_on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Scope.trial_job

    def too_large(self: Scope, number: int, params: Any, seed: int | None = None) -> Any:
        job = usual(self, number, params, seed)
        if number != 1:
            return job
        settings = job.settings.model_copy(update={"batch_size": 2**42})
        return type(job)(**{**job.__dict__, "settings": settings})

    monkeypatch.setattr(Scope, "trial_job", too_large)
    monkeypatch.setattr("iimt_search.study.executors.runner.PAUSES", (0.0,))
    trials = run_on(small_space(), lambda: RayExecutor(RayOptions(tmp_path / "tiny")))
    # It is tried again and does not count in the budget: another trial takes its place.
    assert [trial.state is TrialState.FAIL for trial in trials] == [False, True, False, False]
    assert "the machine failed 2 times: out of memory" in trials[1].user_attrs["error"]


def test_asha_stops_trials_as_pruned_with_their_last_report(
    longer_space: Callable[[int], Space], run_on: Any, recording: Any, tmp_path: Path
) -> None:
    content = longer_space(9).canonical() | {"pruner": {"name": "asha", "warmup": 0}}
    space = Space.model_validate(content)
    made: list[Any] = []

    def start() -> Any:
        made.append(recording(RayOptions(tmp_path / "tiny", space=space)))
        return made[0]

    trials = run_on(space, start)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        last = trial.last_step
        assert last is not None and trial.intermediate_values[last] == trial.user_attrs["consensus"]
        assert (last == 60) == (trial.state is TrialState.COMPLETE)
        assert trial.state is TrialState.COMPLETE or last in (10, 20, 40)
    stopped = {e.key for e in made[0].events if isinstance(e, Finished) and e.status == "stopped"}
    assert stopped == {f"trial-{t.number}" for t in trials if t.state is TrialState.PRUNED}


def test_resources_decide_how_many_trials_run_at_once(tmp_path: Path) -> None:
    for wanted, count in (({}, 2), ({"cpus": 2}, 1), ({"cpus": 0.5}, 4), ({"memory": "100MB"}, 2)):
        executor = RayExecutor(RayOptions(tmp_path / "study", resources=Resources(**wanted)))  # type: ignore[arg-type]
        try:
            assert executor.capacity == count
        finally:
            executor.close()
    with pytest.raises(StudyError, match="no machine offers .* 1 CPU, 1 fpga; ask for less"):
        RayExecutor(RayOptions(tmp_path / "study", resources=Resources(custom={"fpga": 1})))


def test_files_go_by_way_of_shared_storage(
    longer_space: Callable[[int], Space], run_on: Any, recording: Any, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    checkpoints = []
    made: list[Any] = []

    class Watch(Silent):
        def snapshot(self, snapshot: Snapshot) -> None:
            checkpoints.append(
                (
                    len(list((tmp_path / "tiny" / "jobs").rglob("checkpoint.pt"))),
                    len(list((storage / "tiny" / "jobs").rglob("checkpoint.pt"))),
                )
            )

    def start() -> Any:
        made.append(recording(RayOptions(tmp_path / "tiny", storage=str(storage))))
        return made[-1]

    space = longer_space(3)
    trials = run_on(space, start, Watch())
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    # Nothing but the driver has written to the study's folder.
    assert {here for here, _ in checkpoints} == {0} and max(there for _, there in checkpoints) >= 1
    kept = {int(path.stem) for path in (tmp_path / "tiny" / "kept" / "trial-0").rglob("*.safetensors")}
    assert kept == set(range(10, 61, 10))
    assert list((tmp_path / "tiny" / "models").rglob("model.json"))
    assert {path.name for path in storage.iterdir()} == {"prepared", "tiny"}
    assert len(list((storage / "prepared").iterdir())) == 2
    assert not [path for path in (storage / "tiny").rglob("*") if path.is_file()]


def test_a_study_on_shared_storage_is_continued_from_its_checkpoints(
    longer_space: Callable[[int], Space], run_on: Any, recording: Any, kill_once: Any, tmp_path: Path
) -> None:
    made: list[Any] = []

    def start() -> Any:
        made.append(recording(RayOptions(tmp_path / "tiny", workers=1, storage=str(tmp_path / "storage"))))
        return made[-1]

    stop = threading.Event()
    with pytest.raises(StudyInterruptedError):
        run_on(longer_space(2), start, kill_once(1, stop.set), stop)
    assert list((tmp_path / "tiny" / "jobs").rglob("checkpoint.pt"))  # for whichever backend comes next
    run_on(longer_space(2), start)
    before, after = ([e for e in each.events if isinstance(e, Report)] for each in made)
    cut = before[-1].key
    known = [e for e in before if e.key == cut]
    assert [e for e in after if e.key == cut][: len(known)] == known
