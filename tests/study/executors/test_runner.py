import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from iimt_search.errors import StudyInterruptedError
from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.runner import MAX_RETRIES, FixedJobs, JobRunner


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


def test_a_job_lost_too_often_fails(tmp_path: Path) -> None:
    executor = ScriptedExecutor({"a": [["lost"] for _ in range(MAX_RETRIES + 1)]})
    stored, failed = run(executor, [job("a", tmp_path)])
    assert stored == {} and failed == {"a": f"why ({MAX_RETRIES + 1} times)"}


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
