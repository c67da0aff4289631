"""What a checkpoint is known by, and what is told where it is not gone on from."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from iimt_search.exporting.model_folder import export_kept
from iimt_search.records import Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.training.checkpoint import checkpoint_path
from iimt_search.training.kept import KeptCheckpoint, load_kept_model
from iimt_search.training.trainable import Trainable

TASK = TaskSpec.model_validate("digits->digits-m")
TINY = TrainSettings(steps=4, batch_size=8, image_size=8, width=4, evaluations=2, precision="float32")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("job", (TASK,), TINY, 1, ("entropy",), str(tmp_path / "job"), kept=str(tmp_path / "kept"))


def begun(job: Job) -> Path:
    Trainable(job).advance()
    return checkpoint_path(Path(job.folder))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", None], ids=["empty", "half", "cut"])
def test_one_that_cannot_be_read_is_told_once(job: Job, content: bytes | None) -> None:
    path = begun(job)
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    executor = InlineExecutor()
    executor.submit(job)
    (first,) = executor.wait(0)
    assert isinstance(first, Report) and first.evaluation.step == 2
    assert first.note.startswith(f"{path} cannot be read, begins again from the start: ")
    assert "\n" not in first.note and len(first.note) < len(str(path)) + 200
    executor.answer(job.key, True)
    (second,) = executor.wait(0)
    assert isinstance(second, Report) and second.evaluation.step == 4 and second.note == ""


def test_one_of_another_job_is_told_and_one_that_fits_is_gone_on_from(job: Job) -> None:
    path = begun(job)
    assert (same := Trainable(job)).notes == [] and len(same.history) == 1
    other = Trainable(replace(job, seed=2))
    assert other.history == []
    assert other.notes == [
        f"{path} is of other settings, data, device or arithmetic; begins again from the start"
    ]
    assert Trainable(replace(job, folder=job.folder + "-new")).notes == []  # there is none


def test_a_failing_disk_is_the_machines_fault_and_begins_nothing_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    begun(job)
    monkeypatch.setattr("iimt_search.training.checkpoint.torch.load", failing)
    executor = InlineExecutor()
    executor.submit(job)
    (event,) = executor.wait(0)
    assert getattr(event, "status", "") == "lost"


def test_another_arithmetic_is_another_job(job: Job) -> None:
    begun(job)
    there = replace(job, settings=TINY.model_copy(update={"precision": "bfloat16"}))
    assert Trainable(there).history == [] and Trainable(job).history != []


def test_where_it_is_left_to_the_machine_a_training_goes_on_in_its_own(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = replace(job, settings=TINY.model_copy(update={"precision": "auto"}))
    began = "iimt_search.training.task_training.use_bfloat16"
    monkeypatch.setattr(began, lambda *_: True)
    begun(auto)
    monkeypatch.setattr(began, lambda *_: False)  # another machine, or another measurement
    resumed = Trainable(auto)
    assert len(resumed.history) == 1 and resumed.trainings[0].bfloat16 and resumed.arithmetic == "bfloat16"


def test_checkpoints_without_it_go_on(job: Job) -> None:
    path = begun(job)
    content = torch.load(path, weights_only=True)
    trainable = Trainable(job)
    del content["arithmetic"]
    content["identity"] = trainable._identity(2, "")
    torch.save(content, path)
    assert len(Trainable(job).history) == 1 and content["identity"] != trainable._identity(2, "float32")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_is_kept_and_exported(job: Job, tmp_path: Path, precision: str) -> None:
    job = replace(job, settings=TINY.model_copy(update={"precision": precision}))
    trainable = Trainable(job)
    trainable.advance()
    path = job.kept_file(TASK.name, 2)
    assert load_kept_model(path).arithmetic == precision
    export_kept(KeptCheckpoint(job.key, TASK.name, 2, path), TASK, {}, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["arithmetic"] == precision
