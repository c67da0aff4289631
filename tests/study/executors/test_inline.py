"""Jobs side by side in one process."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import StudyInterruptedError
from iimt_search.records import Event, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training import population
from iimt_search.validators.registry import VALIDATORS

TINY = TrainSettings(steps=4, batch_size=8, image_size=8, width=4, evaluations=2)


def make_job(folder: Path, number: int, **changes: Any) -> Job:
    return Job(
        candidate=f"job-{number}",
        tasks=(TaskSpec.model_validate("digits->digits-m"),),
        settings=TINY.model_copy(update=changes),
        seed=number,
        validators=("entropy",),
        folder=str(folder / f"job-{number}"),
    )


def run_out(jobs: InlineExecutor, stop: tuple[str, ...] = ()) -> list[Event]:
    """Run every job to its end; those named are stopped at their first report."""
    events: list[Event] = []
    while len(jobs):
        for event in jobs.wait(0):
            events.append(event)
            if isinstance(event, Report):
                jobs.answer(event.key, event.key not in stop)
    return events


def curve(events: list[Event], key: str) -> list[tuple[int, float]]:
    reports = [each.evaluation for each in events if isinstance(each, Report) and each.key == key]
    return [(found.step, found.mean("entropy")) for found in reports]


def test_side_by_side_they_score_as_alone(tmp_path: Path) -> None:
    alone, together = InlineExecutor(population=3), InlineExecutor(population=3)
    found = []
    for number in range(3):
        alone.submit(make_job(tmp_path / "alone", number, k=number + 1))
        found += run_out(alone)
        together.submit(make_job(tmp_path / "together", number, k=number + 1))
    events = run_out(together)
    for number in range(3):
        mine, theirs = (curve(each, f"job-{number}") for each in (events, found))
        assert [step for step, _ in mine] == [2, 4]
        assert [value for _, value in mine] == pytest.approx([value for _, value in theirs], rel=1e-3)
        assert Finished(f"job-{number}", "complete") in events


def test_they_train_as_one_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    step = population.Population._step
    monkeypatch.setattr(
        population.Population,
        "_step",
        lambda self, done: (sizes.append(len(self._members)), step(self, done)),
    )
    jobs = InlineExecutor(population=3)
    for number in range(3):
        jobs.submit(make_job(tmp_path, number))
    events = run_out(jobs, stop=("job-1",))
    assert sizes == [3, 3, 2, 2]  # one has left
    assert Finished("job-1", "stopped") in events
    assert len(curve(events, "job-1")) == 1


def test_one_that_fails_fails_alone(tmp_path: Path) -> None:
    jobs = InlineExecutor(population=3)
    jobs.submit(make_job(tmp_path, 0))
    jobs.submit(make_job(tmp_path, 1, lambda_max=3e39))
    jobs.submit(replace(make_job(tmp_path, 2), tasks=(TaskSpec.model_validate("digits->nowhere"),)))
    ends = {each.key: each for each in run_out(jobs) if isinstance(each, Finished)}
    assert ends["job-0"].status == "complete"
    assert (ends["job-1"].status, ends["job-2"].status) == ("failed", "failed")
    assert "intra_target" in ends["job-1"].error and "nowhere" in ends["job-2"].error


def test_a_checkpointed_job_joins_with_its_curve(tmp_path: Path) -> None:
    first, whole = InlineExecutor(population=3), InlineExecutor(population=3)
    whole.submit(make_job(tmp_path / "whole", 0))
    first.submit(make_job(tmp_path, 0))
    (report,) = first.wait(0)
    again = InlineExecutor(population=3)
    again.submit(make_job(tmp_path, 0))
    again.submit(make_job(tmp_path, 1))
    events = run_out(again)
    assert report in events
    values = [value for _, value in curve(events, "job-0")]
    assert values == pytest.approx([value for _, value in curve(run_out(whole), "job-0")], rel=1e-3)
    assert [step for step, _ in curve(events, "job-1")] == [2, 4]


def test_nothing_is_done_for_who_waits_for_an_answer(tmp_path: Path) -> None:
    jobs = InlineExecutor(population=3)
    jobs.submit(make_job(tmp_path, 0))
    jobs.wait(0)
    assert jobs.waiting
    assert jobs.wait(0) == []


@pytest.mark.long
def test_workers_with_places_for_several(tmp_path: Path) -> None:
    executor = LocalExecutor(2, 1, population=2)
    try:
        assert executor.capacity == 4
        for number in range(4):
            executor.submit(make_job(tmp_path, number))
        with pytest.raises(RuntimeError, match="4 places"):
            executor.submit(make_job(tmp_path, 5))
        ended, steps = set(), []
        while len(ended) < 4:
            for event in executor.wait(60):
                if isinstance(event, Finished):
                    assert event.status == "complete", event
                    ended.add(event.key)
                else:
                    steps.append(event.evaluation.step)
                    executor.answer(event.key, True)
        assert sorted(steps) == [2] * 4 + [4] * 4
    finally:
        executor.close()


def run(space: Space, root: Path, places: int, stop_after: int | None = None) -> None:
    stop = threading.Event()

    class Stopping(Silent):
        count = 0

        def snapshot(self, snapshot: Snapshot) -> None:
            self.count += 1
            if self.count == stop_after:
                stop.set()

    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    run_study(space, folder, options, lambda: InlineExecutor(population=places), Stopping(), stop)


@pytest.mark.long
def test_the_same_study_as_one_by_one(tiny_space: Path, tmp_path: Path) -> None:
    content = load_space(tiny_space, KnownNames(DOMAINS, VALIDATORS)).canonical()
    content |= {"sampler": "random", "pruner": "none", "budget": {"trials": 5}}
    content["objective"] = "information_maximisation"
    found = []
    for name, places in (("one", 1), ("many", 3)):
        space = Space.model_validate({**content, "study": name})
        if places > 1:
            with pytest.raises(StudyInterruptedError):
                run(space, tmp_path, places, stop_after=2)
        run(space, tmp_path, places)
        found.append(open_study(tmp_path, name).studies[0].get_trials())
    for one, many in zip(*found, strict=True):
        assert one.params == many.params
        assert one.state == many.state
        assert list(one.intermediate_values) == list(many.intermediate_values)
        assert list(one.intermediate_values.values()) == pytest.approx(
            list(many.intermediate_values.values()), rel=1e-3, abs=1e-4
        )
