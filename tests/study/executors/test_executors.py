"""The contract that every executor keeps."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest

from iimt_search.records import Event, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors import local as local_module
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.choose import Backend, choose_executor
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


@pytest.mark.long
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


class DeadConnection:
    """Of a worker that has died: nothing can be sent, and half a message is there."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def recv(self) -> object:
        raise self.error

    def send(self, _: object) -> None:
        raise BrokenPipeError("gone")

    def close(self) -> None:
        return


class EndedProcess:
    """A process that ended with a code, or hangs."""

    def __init__(self, code: int | None = 1) -> None:
        self.exitcode = code

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        return

    def kill(self) -> None:
        self.exitcode = -9

    terminate = kill


def local(monkeypatch: pytest.MonkeyPatch, *processes: tuple[EndedProcess, DeadConnection]) -> LocalExecutor:
    """Return an executor of one worker whose processes are these, one after the other."""
    monkeypatch.setattr(LocalExecutor, "_start", lambda self, *_, left=list(processes): left.pop(0))
    return LocalExecutor(1, 1)


HALF = "got end of file during message"


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (EOFError(), 3, "its process ended with exit code 3"),
        (OSError(HALF), -9, "its process was killed; the machine may be out of memory"),
        (UnpicklingError("truncated"), 1, "its process ended with exit code 1"),
        (ConnectionResetError(), None, "its process hung and was ended"),
    ],
)
def test_however_a_worker_dies_its_jobs_are_lost_and_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, job: Job, error: Exception, code: int | None, expected: str
) -> None:
    executor = local(monkeypatch, (EndedProcess(code), DeadConnection(error)))
    worker = executor._workers[0]
    worker.keys = [job.key, "other"]
    executor.answer(job.key, True)
    assert executor._receive(worker) == [Finished(key, "lost", expected) for key in (job.key, "other")]
    assert worker.keys == []


def test_a_worker_that_dies_while_a_job_is_sent_is_replaced(
    monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    class Sent(DeadConnection):
        def send(self, given: object) -> None:
            sent.append(given)

    sent: list[object] = []
    dead, fine = DeadConnection(EOFError()), Sent(EOFError())
    executor = local(monkeypatch, (EndedProcess(None), dead), (EndedProcess(None), fine))
    executor.submit(job)
    assert sent == [job] and executor._workers[0].keys == [job.key]


def test_a_process_that_cannot_be_started_loses_the_job_not_the_driver(
    monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    dead = DeadConnection(EOFError())
    executor = local(monkeypatch, *[(EndedProcess(1), dead) for _ in range(3)])
    executor.submit(job)
    assert executor.wait(0) == [Finished(job.key, "lost", "its process cannot be reached: gone")]


def test_the_machines_gpus_are_shared_out_among_the_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[str] = []

    def start(_: LocalExecutor, gpu: str) -> tuple[EndedProcess, DeadConnection]:
        started.append(gpu)
        return EndedProcess(), DeadConnection(EOFError())

    monkeypatch.setattr(LocalExecutor, "_start", start)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    space = Space.model_validate({"schema": 1, "study": "s", "tasks": ["digits->digits-m"]})

    def gpus_of(**asked: Any) -> list[str]:
        started.clear()
        executor = choose_executor(space, tmp_path, Backend(**asked), lambda _: None).start()
        assert isinstance(executor, LocalExecutor)
        executor._replace(executor._workers[-1])  # it gets the same one
        return list(started)

    assert gpus_of(workers=4) == ["4", "6", "7", "4", "4"]
    assert gpus_of(population=8) == ["4", "6", "7", "7"]  # by default a worker each
    assert gpus_of(workers=2, device="cuda:1") == ["", "", ""]  # that one alone
    assert gpus_of(workers=2, device="cpu") == ["", "", ""]
    choice = choose_executor(space, tmp_path, Backend(workers=4), lambda _: None)
    assert choice.text.endswith(", 3 GPUs")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpus_of(workers=2) == ["", "", ""]


def test_a_worker_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(local_module, "_serve", lambda *_: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    monkeypatch.setattr(local_module.signal, "signal", lambda *_: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    for gpu in ("", "6"):
        local_module.worker_main(None, 1, 1, False, gpu)  # type: ignore[arg-type]
    assert seen == ["4,6,7", "6"]


@pytest.mark.slow
def test_a_worker_without_memory_loses_its_job_and_another_process_serves_the_next(job: Job) -> None:
    executor = LocalExecutor(1, 1)
    try:
        first = executor._workers[0].process.pid
        settings = job.settings.model_copy(update={"batch_size": 2**42})
        (lost,) = drive(executor, replace(job, candidate="too-large", settings=settings))
        assert isinstance(lost, Finished) and lost.status == "lost" and "out of memory" in lost.error
        assert drive(executor, job)[-1] == Finished("job-1", "complete")
        assert executor._workers[0].process.pid != first
    finally:
        executor.close()
