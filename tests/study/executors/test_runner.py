import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from iimt_search.errors import MachineError, StudyInterruptedError
from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.runner import PAUSES, FixedJobs, JobRunner, Steps


class ScriptedExecutor:
    """Replays events; each job's script is used up by its submissions in turn."""

    def __init__(self, scripts: dict[str, list[list[str]]], capacity: int = 2) -> None:
        self.scripts, self.capacity = scripts, capacity
        self.submitted: list[str] = []
        self.most_at_once = 0
        self._under_way: dict[str, list[str]] = {}

    def submit(self, job: Job) -> None:
        self.submitted.append(job.key)
        self._under_way[job.key] = self.scripts[job.key].pop(0)
        self.most_at_once = max(self.most_at_once, len(self._under_way))

    def wait(self, timeout: float) -> Sequence[Event]:
        events: list[Event] = []
        for key, script in list(self._under_way.items()):
            word = script.pop(0)
            if word.isdigit():
                events.append(Report(key, Evaluation(int(word), {"a->b": {"entropy": float(word)}})))
            else:
                del self._under_way[key]
                events.append(Finished(key, word, "why"))  # type: ignore[arg-type]
        return events

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        assert go_on

    def close(self) -> None:
        self._under_way.clear()


def job(key: str, folder: Path) -> Job:
    (folder / key).mkdir()
    return Job(key, (TaskSpec.model_validate("a->b"),), TrainSettings(), 0, ("entropy",), str(folder / key))


def run(executor: ScriptedExecutor, jobs: list[Job]) -> tuple[dict[str, float], dict[str, str]]:
    stored: dict[str, float] = {}
    source = FixedJobs(
        jobs,
        "entropy",
        lambda job, evaluation: stored.update({job.key: evaluation.mean("entropy")}),
        lambda _: None,
    )
    JobRunner(executor, threading.Event(), lambda _: None).run(source)
    return stored, source.errors


def test_keeps_the_executor_full_and_stores_last_evaluations(tmp_path: Path) -> None:
    executor = ScriptedExecutor({k: [["1", "2", "complete"]] for k in "abc"})
    stored, failed = run(executor, [job(k, tmp_path) for k in "abc"])
    assert stored == {"a": 2.0, "b": 2.0, "c": 2.0} and failed == {}
    assert executor.most_at_once == 2
    assert list(tmp_path.iterdir()) == []  # checkpoints of finished jobs are gone


def test_a_lost_job_is_run_again(tmp_path: Path) -> None:
    executor = ScriptedExecutor({"a": [["1", "lost"], ["1", "2", "complete"]]})
    stored, failed = run(executor, [job("a", tmp_path)])
    assert executor.submitted == ["a", "a"] and stored == {"a": 2.0} and failed == {}


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iimt_search.study.executors.runner.PAUSES", (0.0,) * len(PAUSES))
    monkeypatch.setattr("iimt_search.study.executors.runner._POLL_SECONDS", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_a_job_that_the_machine_fails_each_time_stops_the_run(tmp_path: Path) -> None:
    executor = ScriptedExecutor({"a": [["1", "lost"] for _ in range(len(PAUSES) + 1)]})
    with pytest.raises(MachineError, match="a could not be trained, the machine failed 4 times: why; what"):
        run(executor, [job("a", tmp_path)])
    assert executor.submitted == ["a"] * 4 and (tmp_path / "a").exists()  # its checkpoint is kept


@pytest.mark.usefixtures("no_pauses")
def test_many_failures_of_the_machine_in_a_row_stop_the_run(tmp_path: Path) -> None:
    class Patient(FixedJobs):
        def finished(self, job: Job, outcome: Finished) -> None:
            ended.append((job.key, outcome.status))

    ended: list[tuple[str, str]] = []
    executor = ScriptedExecutor({key: [["lost"] for _ in PAUSES] + [["lost"]] for key in "abcd"}, 1)
    source = Patient([job(key, tmp_path) for key in "abcd"], "entropy", lambda *_: None, lambda _: None)
    lines: list[str] = []
    runner = JobRunner(executor, threading.Event(), lambda _: None, line=lines.append)
    with pytest.raises(MachineError, match="the machine failed 12 times in a row, last c: why; what"):
        runner.run(source)
    assert ended == [("a", "lost"), ("b", "lost")]  # c goes on at the next run
    assert lines[0] == "a: the machine failed, tried again at once: why"


@pytest.mark.usefixtures("no_pauses")
def test_an_evaluation_in_between_is_no_row(tmp_path: Path) -> None:
    scripts = {str(n): [["lost"], ["lost"], ["1", "2", "complete"]] for n in range(9)}
    stored, _ = run(ScriptedExecutor(scripts, 1), [job(key, tmp_path) for key in scripts])
    assert len(stored) == 9


def test_a_job_waits_before_it_is_tried_again_while_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("iimt_search.study.executors.runner.time.monotonic", lambda: now[0])
    scripts = {"a": [["lost"], ["lost"], ["1", "complete"]], "b": [["1"] * 9 + ["complete"]]}
    executor = ScriptedExecutor(scripts)

    def watch(_: object) -> None:
        now[0] += 1.0

    source = FixedJobs([job(key, tmp_path) for key in "ab"], "entropy", lambda *_: None, lambda _: None)
    JobRunner(executor, threading.Event(), watch).run(source)
    assert executor.submitted == ["a", "b", "a", "a"] and now[0] >= 6 + PAUSES[1] - 1


def test_source_only_is_tried_again_where_it_fails(tmp_path: Path) -> None:
    scripts = {"source-only": [["failed"], ["failed"], ["1", "complete"]], "a": [["failed"]]}
    stored, errors = run(ScriptedExecutor(scripts), [job(key, tmp_path) for key in scripts])
    assert stored == {"source-only": 1.0} and errors == {"a": "why"}
    (tmp_path / "again").mkdir()
    never = ScriptedExecutor({"source-only": [["failed"] for _ in range(3)]})
    assert run(never, [job("source-only", tmp_path / "again")]) == ({}, {"source-only": "why"})


def test_a_job_whose_objective_is_not_a_number_has_failed(tmp_path: Path) -> None:
    class NotANumber(ScriptedExecutor):
        def wait(self, timeout: float) -> Sequence[Event]:
            nan = Evaluation(1, {"a->b": {"entropy": float("nan")}})
            return [Report(e.key, nan) if isinstance(e, Report) else e for e in super().wait(timeout)]

    stored, failed = run(NotANumber({"a": [["1", "complete"]]}), [job("a", tmp_path)])
    assert stored == {} and failed == {"a": "entropy was nan at its end"}


def test_stop_ends_the_run_and_keeps_checkpoints(tmp_path: Path) -> None:
    executor = ScriptedExecutor({"a": [["1", "2", "complete"]]})
    stop = threading.Event()
    source = FixedJobs([job("a", tmp_path)], "entropy", lambda *_: None, lambda _: None)
    runner = JobRunner(executor, stop, lambda running: stop.set())
    with pytest.raises(StudyInterruptedError):
        runner.run(source)
    assert (tmp_path / "a").exists()


def plan(name: str, steps: list[str], folder: Path, log: list[str]) -> Steps[str]:
    """A plan of steps of so many jobs, such as ``ab`` of two."""
    for at, keys in enumerate(steps):
        log.append(f"{name}{at}")
        jobs = [job(f"{name}{at}{key}", folder) for key in keys]
        yield [FixedJobs(jobs, "entropy", lambda *_: None, lambda _: None)]
    log.append(f"{name} ends")
    return name


def carry_out(
    capacity: int, folder: Path, scripts: dict[str, list[str]]
) -> tuple[ScriptedExecutor, list[str]]:
    executor = ScriptedExecutor({key: [["1", *words]] for key, words in scripts.items()}, capacity)
    log: list[str] = []
    plans = [plan(name, ["ab", "c"], folder, log) for name in "xy"]
    assert JobRunner(executor, threading.Event(), lambda _: None).carry_out(plans) == ["x", "y"]
    return executor, log


def test_one_worker_carries_out_one_plan_after_the_other(tmp_path: Path) -> None:
    keys = ["x0a", "x0b", "x1c", "y0a", "y0b", "y1c"]
    executor, log = carry_out(1, tmp_path, {key: ["complete"] for key in keys})
    assert executor.submitted == keys
    assert log == ["x0", "x1", "x ends", "y0", "y1", "y ends"]


def test_no_worker_is_idle_while_a_plan_waits_for_its_last_jobs(tmp_path: Path) -> None:
    long = {"x0a": ["2"] * 9 + ["complete"]}
    keys = ["x0b", "x1c", "y0a", "y0b", "y1c"]
    executor, _ = carry_out(2, tmp_path, long | {key: ["complete"] for key in keys})
    assert executor.submitted == ["x0a", "y0a", "y0b", "y1c", "x0b", "x1c"]
    (tmp_path / "three").mkdir()
    executor, _ = carry_out(3, tmp_path / "three", long | {key: ["complete"] for key in keys})
    assert executor.submitted == ["x0a", "y0a", "x0b", "y0b", "y1c", "x1c"]
