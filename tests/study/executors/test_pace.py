"""How long jobs take, and how long plans of them will take on some workers."""

from pathlib import Path
from typing import Any

import pytest

from iimt_search.methods import METHODS
from iimt_search.records import Evaluation, Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.pace import Pace, makespan
from iimt_search.study.executors.runner import UnderWay


def job(key: str, prefix: str = "", **changes: Any) -> Job:
    settings = TrainSettings(steps=40).model_copy(update=changes)
    return Job(key, (TaskSpec.model_validate("a->b"),), settings, 0, ("entropy",), "", prefix=prefix)


def under_way(job: Job, began: float, **times: float) -> UnderWay:
    plan: object = None
    curve = [Evaluation(int(step[1:]), {"a->b": {}}) for step in times]
    return UnderWay(job, None, plan, 1, curve, began, 0, list(times.values()))  # type: ignore[arg-type]


def test_jobs_are_handed_out_as_by_a_runner() -> None:
    assert makespan([[]], [[[3.0, 3.0, 3.0]]], 2) == 6
    assert makespan([[2.0]], [[[3.0], [4.0]]], 2) == 7  # its next step waits for all of this one
    assert makespan([[2.0], []], [[[3.0], [4.0]], [[1.0] * 4]], 2) == 9
    assert makespan([[2.0], []], [[[3.0], [4.0]], [[1.0] * 4]], 1) == 13  # one after the other
    assert makespan([], [], 3) == makespan([[]], [[]], 3) == 0


def test_of_a_workers_first_job_the_start_is_left_out() -> None:
    pace = Pace()
    first = under_way(job("a"), 0.0, s20=19.0)
    pace.note({"a": first}, capacity=1)
    assert pace.of_step("", False) == pytest.approx(19 / 20)
    first = under_way(job("a"), 0.0, s20=19.0, s40=29.0)
    pace.note({"a": first}, capacity=1)
    assert pace.of_step("", False) == pytest.approx(0.5)
    pace.note({"b": under_way(job("b"), 29.0, s20=44.0, s40=54.0)}, capacity=1)
    assert pace.of_step("", False) == pytest.approx(45 / 80)


def test_what_was_not_measured_is_taken_from_what_is_nearest() -> None:
    pace = Pace()
    assert pace.of_step("a-", False) is pace.of_step("a-", True) is None
    pace.note(
        {"s": under_way(job("s", "a-", **METHODS["source-only"].settings), 0.0, s20=4.0, s40=8.0)}, capacity=1
    )
    assert pace.of_step("b-", True) == pytest.approx(0.2) and pace.of_step("a-", False) is None
    other = Pace()
    other.note({"t": under_way(job("t", "a-"), 0.0, s20=20.0, s40=40.0)}, capacity=1)
    assert other.of_step("b-", False) == pytest.approx(1.0)
    assert other.of_step("b-", True) == pytest.approx(0.2)


def test_what_a_checkpoint_holds_is_no_pace(tmp_path: Path) -> None:
    resumed = under_way(job("a"), 100.0, s20=100.0, s40=110.0)
    resumed.resumed, resumed.times = 20, [110.0]
    pace = Pace()
    pace.note({"a": resumed}, capacity=0)
    assert pace.of_step("", False) == pytest.approx(0.5)
