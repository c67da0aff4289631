"""The Tune trainable by Tune's own contract: step, save, restore, reset; in this process."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from iimt_search.errors import MachineError
from iimt_search.records import Evaluation, Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.ray.trainable import JobTrainable

TASKS = (TaskSpec.model_validate("digits->digits-m"),)
TINY = TrainSettings(steps=6, batch_size=8, image_size=8, width=4, evaluations=3)

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that makes a trial's configuration."""

    def make(key: str, storage: str | None = None, **changes: Any) -> dict[str, Any]:
        job = Job(key, TASKS, TINY, 3, ("entropy",), str(tmp_path / "jobs" / key))
        return {
            "job": replace(job, **changes),
            "prepared": [],
            "threads": 1,
            "debug": False,
            "folder": str(tmp_path),
            "storage": storage,
            "study": "s",
            "environment": {},
        }

    return make


def results(trainable: JobTrainable) -> tuple[list[Evaluation], str]:
    """Step to the end; returns the evaluations and how it ended."""
    found = []
    while "ended" not in (result := trainable.step()):
        found.append(result["evaluation"])
    return found, result["ended"] + result["error"]


@pytest.mark.parametrize("shared", [False, True], ids=["one disk", "shared storage"])
def test_a_restored_trainable_goes_on_as_if_never_interrupted(
    config: Callable[..., dict[str, Any]], tmp_path: Path, shared: bool
) -> None:
    storage = str(tmp_path / "storage") if shared else None
    whole, ended = results(JobTrainable(config("whole", storage)))
    assert [evaluation.step for evaluation in whole] == [2, 4, 6] and ended == "complete"
    first = JobTrainable(config("cut", storage))
    first.step()
    first.save(str(tmp_path / "saved"))
    first.step()
    first.stop()
    second = JobTrainable(config("other", storage))
    assert second.step()["evaluation"] == whole[0]
    second.restore(str(tmp_path / "saved"))
    assert results(second) == (whole, "complete")  # what the checkpoint holds is told again first
    second.stop()


def test_a_trainable_that_has_not_stepped_saves_a_beginning(
    config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = JobTrainable(config("first"))
    first.save(str(tmp_path / "saved"))
    second = JobTrainable(config("second"))
    second.restore(str(tmp_path / "saved"))
    assert [evaluation.step for evaluation in results(second)[0]] == [2, 4, 6]


def test_a_reset_trainable_runs_the_next_job_also_after_an_error(
    config: Callable[..., dict[str, Any]],
) -> None:
    trainable = JobTrainable(config("bad", settings=TINY.model_copy(update={"lambda_max": 3e39})))
    found, ended = results(trainable)
    assert found == [] and ended.startswith("failed") and "not finite" in ended
    assert trainable.reset_config(config("good"))
    assert results(trainable)[1] == "complete"


def test_a_machine_that_fails_ends_the_process_and_an_error_of_the_jobs_own_does_not(
    config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    error: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory"), ValueError("k")]

    def failing(*_: object) -> None:
        raise error.pop(0)

    monkeypatch.setattr("iimt_search.training.trainable.Trainable.advance", failing)
    with pytest.raises(MachineError, match="out of memory"):
        JobTrainable(config("a")).step()
    assert JobTrainable(config("b")).step() == {"ended": "failed", "error": "ValueError: k"}
