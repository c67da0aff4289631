"""The contract that every executor keeps."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iimt_search.records import Event, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions
from iimt_search.training.trainable import Trainable

TINY = TrainSettings(steps=4, batch_size=8, image_size=8, width=4, evaluations=2)
Decide = Callable[[Report], bool]


@pytest.fixture(params=["inline", "local", pytest.param("ray", marks=pytest.mark.ray)], scope="module")
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    made = make(request.param, tmp_path_factory.mktemp("study"))
    yield made
    made.close()


def make(backend: str, folder: Path) -> Executor:
    """Return an executor of one worker with one thread."""
    match backend:
        case "inline":
            return InlineExecutor()
        case "local":
            return LocalExecutor(1, 1)
        case _:
            return RayExecutor(RayOptions(folder, workers=1))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        "job-1",
        (TaskSpec.model_validate("digits->digits-m"),),
        TINY,
        1,
        ("entropy",),
        str(tmp_path / "job-1"),
    )


def drive(executor: Executor, job: Job, decide: Decide = lambda _: True) -> list[Event]:
    executor.submit(job)
    return hear_out(executor, decide)


def hear_out(executor: Executor, decide: Decide = lambda _: True) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + 120
    while not events or isinstance(events[-1], Report):
        assert time.monotonic() < deadline, events
        for event in executor.wait(60):
            events.append(event)
            if isinstance(event, Report):
                executor.answer(event.key, decide(event))
    return events


def test_reports_every_evaluation_then_ends(executor: Executor, job: Job) -> None:
    *reports, end = drive(executor, job)
    assert [report.evaluation.step for report in reports if isinstance(report, Report)] == [2, 4]
    assert end == Finished("job-1", "complete")


def test_stops_when_told(executor: Executor, job: Job) -> None:
    report, end = drive(executor, job, lambda _: False)
    assert isinstance(report, Report) and report.evaluation.step == 2
    assert end == Finished("job-1", "stopped")


def test_a_failing_job_fails_alone(executor: Executor, job: Job, tmp_path: Path) -> None:
    bad = replace(job, settings=TINY.model_copy(update={"lambda_max": 3e39}))
    end = drive(executor, bad)[-1]
    assert isinstance(end, Finished) and end.status == "failed"
    assert end.error == "loss term 'intra_target' of digits->digits-m was not finite at step 1"
    after = drive(executor, replace(job, candidate="job-2", folder=str(tmp_path / "job-2")))
    assert after[-1] == Finished("job-2", "complete")


def test_resends_the_curve_of_a_checkpointed_job(executor: Executor, job: Job) -> None:
    first = drive(executor, job, lambda _: False)
    again = drive(executor, job)
    assert again[0] == first[0]
    assert [e.evaluation.step for e in again if isinstance(e, Report)] == [2, 4]


def test_refuses_more_than_its_capacity(executor: Executor, job: Job) -> None:
    executor.submit(job)
    with pytest.raises(RuntimeError):
        executor.submit(replace(job, candidate="job-2"))
    assert hear_out(executor)[-1] == Finished("job-1", "complete")


def test_computes_what_a_training_in_this_process_does(executor: Executor, job: Job, tmp_path: Path) -> None:
    *reports, _ = drive(executor, job)
    trainable = Trainable(replace(job, folder=str(tmp_path / "here")))
    expected = [trainable.advance(), trainable.advance()]
    assert trainable.done
    for report, alike in zip(reports, expected, strict=True):
        assert isinstance(report, Report)
        task = job.tasks[0].name
        # This process may train with another number of threads, so sums may differ in the last bits.
        assert report.evaluation.scores[task] == pytest.approx(alike.scores[task], rel=1e-4)


def test_a_killed_worker_loses_its_job_and_is_replaced(job: Job) -> None:
    executor = LocalExecutor(1, 1)
    try:
        executor.submit(job)
        (report,) = executor.wait(60)
        assert isinstance(report, Report)
        os.kill(executor._workers[0].process.pid or 0, signal.SIGKILL)
        (lost,) = executor.wait(60)
        assert isinstance(lost, Finished) and lost.status == "lost" and "killed" in lost.error
        assert drive(executor, job)[-1] == Finished("job-1", "complete")
    finally:
        executor.close()


def test_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers >= 1"):
        LocalExecutor(0, 1)
