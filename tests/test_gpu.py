"""What says ``cuda``: each test runs on the processor, and on a GPU where there is one.

Photographs' features and networks on a GPU: ``tests/features/test_features.py``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from benchmarks.population import measure_population
from iimt_search.cli.main import cli
from iimt_search.data.assemble import load_task
from iimt_search.errors import UsageError
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import export_model
from iimt_search.models.device import FLOAT32, has_bfloat16, local_gpus, resolve_device, use_bfloat16
from iimt_search.records import Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.choose import Backend, choose_executor
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.training import population
from iimt_search.training.cost import step_operations
from iimt_search.training.kept import load_kept_model, load_kept_predictions
from iimt_search.training.population import advance_together
from iimt_search.training.task_training import TaskTraining
from iimt_search.training.trainable import Trainable

SPEC = TaskSpec.model_validate("digits->digits-m")
SMALL = {"steps": 4, "batch_size": 8, "image_size": 8, "width": 4, "evaluations": 2, "precision": "float32"}
# Products on a GPU are of TF32 at best, and in another order.
NEAR = {"rtol": 2e-2, "atol": 2e-2}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({**SMALL, "data_fraction": 0.2, "evaluation_samples": 50, **changes})


def training(device: str, seed: int = 0, **changes: Any) -> TaskTraining:
    return TaskTraining(load_task(SPEC, 8, 0.2), settings(**changes), seed, device)


def job(folder: Path, device: str, **changes: Any) -> Job:
    made = Job("trial-0", (SPEC,), settings(), 0, ("entropy",), str(folder / "job"), device)
    return replace(made, kept=str(folder / "kept"), **changes)


def assert_near(one: TaskTraining, other: TaskTraining) -> None:
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value.cpu(), other.model.state_dict()[name].cpu(), **NEAR, msg=name)


def test_a_device_is_resolved(device: str) -> None:
    count = torch.cuda.device_count() if device == "cuda" else 0
    assert resolve_device(device) == device
    assert len(local_gpus()) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if device == "cuda":
        assert resolve_device("auto") == "cuda" and resolve_device("cuda:0") == "cuda:0"
        with pytest.raises(UsageError, match=f"cuda:0 to cuda:{count - 1}"):
            resolve_device(f"cuda:{count}")


def test_a_step_on_a_device_is_that_of_the_processor(device: str) -> None:
    # Without augmentation, which draws from the device's own random numbers.
    here, there = training("cpu", augmentation=0.0), training(device, augmentation=0.0)
    for each in (here, there):
        each.advance(1)
    assert {p.device.type for p in there.model.parameters()} == {there.device.type} == {device}
    assert_near(there, here)
    there.advance(4)
    predictions = there.predictions()
    assert predictions.target_logits.device.type == predictions.classifier_weight.device.type == "cpu"
    assert predictions.mixed is not None and bool(predictions.target_logits.isfinite().all())


def test_what_a_training_costs_on_a_device(device: str) -> None:
    made = training(device)
    assert step_operations(made) == step_operations(training("cpu"))
    made.advance(2)
    assert made.spent.seconds > 0
    assert (made.spent.gpu_bytes > 0) is (device == "cuda")


@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_mixed_precision(device: str, precision: str) -> None:
    made = training(device, precision=precision)
    assert made.bfloat16 is use_bfloat16(precision, torch.device(device))
    if device == "cuda" and precision == "auto":
        assert made.bfloat16 is has_bfloat16(torch.device(device))
    made.advance(4)
    assert all(p.dtype is torch.float32 for p in made.model.parameters())


def test_a_population_ends_near_where_its_members_would_alone(device: str) -> None:
    changes: list[dict[str, Any]] = [{}, {"k": 1, "lambda_max": 5.0}, {"temperature": 0.2, "k": 3}]
    alone, together = (
        [training(device, seed, augmentation=0.0, **each) for seed, each in enumerate(changes)]
        for _ in range(2)
    )
    for each in alone:
        each.advance(1)
    advance_together(together, [1] * len(together))
    for one, other in zip(together, alone, strict=True):
        assert_near(one, other)
    advance_together(together, [4] * len(together))
    for each in together:
        each.check_finite()


def test_a_population_without_memory_is_halved(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, sizes = population.Population.advance, list[int]()

    def short(self: population.Population, steps: int) -> None:
        sizes.append(len(self._members))
        if len(self._members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        usual(self, steps)

    monkeypatch.setattr(population.Population, "advance", short)
    members = [training(device, seed) for seed in range(4)]
    advance_together(members, [2] * 4)
    assert sizes == [4, 2, 2] and [member.step for member in members] == [2] * 4


def test_the_population_benchmark(device: str) -> None:
    found = measure_population((2,), 8, device, rounds=1, steps=1)
    assert (found["device"] == "processor") is (device == "cpu") and found["of_one_by_one"]["2"] > 0


def test_a_whole_job_with_validators_that_train(device: str, tmp_path: Path) -> None:
    names = ("entropy", "class_ami", "reverse_validation", "reverse_probe")
    made = Trainable(job(tmp_path, device, validators=names))
    while not made.done:
        last = made.advance()
    assert set(last.validators) == set(names)
    assert (last.cost.get("gpu_bytes", 0) > 0) is (device == "cuda")


def test_a_training_with_a_teacher(device: str, tmp_path: Path) -> None:
    count = len(load_task(SPEC, 8, 0.2).target)
    save_file({"labels": torch.full((count, 10), 0.1)}, tmp_path / "labels.safetensors")
    made = Trainable(job(tmp_path, device, teacher=str(tmp_path / "labels.safetensors")))
    made.advance()
    assert made.trainings[0].teacher is not None and made.trainings[0].teacher.device.type == device


def test_a_training_goes_on_from_a_checkpoint_of_its_device(device: str, tmp_path: Path) -> None:
    whole = Trainable(job(tmp_path / "whole", device))
    for _ in range(2):
        whole.advance()
    Trainable(job(tmp_path, device)).advance()
    again = Trainable(job(tmp_path, device))
    assert len(again.history) == 1 and not again.notes
    again.advance()
    assert_near(again.trainings[0], whole.trainings[0])


def test_what_a_device_has_trained_opens_on_the_processor(device: str, tmp_path: Path) -> None:
    made = Trainable(job(tmp_path, device))
    made.advance()
    file = made.job.kept_file(SPEC.name, made.history[-1].step)
    kept, predictions = load_kept_model(file), load_kept_predictions(file)
    assert {p.device.type for p in kept.model.parameters()} == {"cpu"}
    assert kept.arithmetic == FLOAT32 and predictions.target_logits.device.type == "cpu"
    # Its training goes on where it was begun; on another kind of device it begins anew, and says so.
    here = Trainable(job(tmp_path, "cpu"))
    assert bool(here.history) is (device == "cpu") and bool(here.notes) is (device == "cuda")
    here.advance()


def test_predict_on_a_device(device: str, tmp_path: Path) -> None:
    made = training("cpu")
    made.advance(2)
    task, model = made.task, made.evaluated_model()
    folder = tmp_path / "model"
    export_model(folder, model=model, task=task, settings=made.settings, seed=0, step=2, scores={})
    x = torch.from_numpy(np.array(task.target.rows(np.arange(16))))
    with torch.no_grad():
        there, here = load_model(folder, device)(x.to(device)).cpu(), load_model(folder)(x)
    torch.testing.assert_close(there, here, **NEAR)
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["predict", str(folder), str(tmp_path / "a.png"), "--device", device, "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output


def space(**changes: Any) -> Space:
    return Space.model_validate({"schema": 1, "study": "gpu", "tasks": [SPEC.name], **changes})


def carry_out(executor: Executor, jobs: list[Job]) -> dict[str, list[Report]]:
    """Run jobs to their ends; returns their reports by key."""
    reports: dict[str, list[Report]] = {each.key: [] for each in jobs}
    left = set(reports)
    try:
        for each in jobs:
            executor.submit(each)
        while left:
            for event in executor.wait(1.0):
                if isinstance(event, Finished):
                    assert event.status == "complete", event.error
                    left.remove(event.key)
                else:
                    reports[event.key].append(event)
                    executor.answer(event.key, True)
    finally:
        executor.close()
    return reports


def two_jobs(folder: Path, device: str) -> list[Job]:
    return [job(folder / name, device, candidate=name) for name in ("trial-0", "trial-1")]


def test_the_inline_executor_trains_on_a_device(device: str, tmp_path: Path) -> None:
    for reports in carry_out(InlineExecutor(population=2), two_jobs(tmp_path, device)).values():
        assert [report.evaluation.step for report in reports] == [2, 4]


@pytest.mark.slow
def test_each_worker_has_a_gpu_of_its_own(device: str, tmp_path: Path) -> None:
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs 2 GPUs, here are {torch.cuda.device_count()}: several GPUs have not been used")
    choice = choose_executor(space(), tmp_path, Backend(device=device, workers=2), lambda _: None)
    executor = choice.start()
    assert isinstance(executor, LocalExecutor)
    gpus = [worker.gpu for worker in executor._workers]
    assert len(set(gpus)) == 2 if device == "cuda" else gpus == ["", ""]
    for reports in carry_out(executor, two_jobs(tmp_path, device)).values():
        assert (reports[-1].evaluation.cost.get("gpu_bytes", 0) > 0) is (device == "cuda")


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_a_trial_its_share_of_a_gpu(device: str, tmp_path: Path) -> None:
    resources = {"gpus": 0.5 if device == "cuda" else 0.0}
    backend = Backend("ray", device, workers=2, resources=resources)
    executor = choose_executor(space(), tmp_path, backend, lambda _: None).start()
    for reports in carry_out(executor, two_jobs(tmp_path, device)).values():
        assert (reports[-1].evaluation.cost.get("gpu_bytes", 0) > 0) is (device == "cuda")


@pytest.mark.slow
def test_a_whole_study_on_a_device(device: str, tiny_space: Path, tmp_path: Path) -> None:
    words = ["run", "--space", str(tiny_space), "--workers", "0", "--device", device]
    result = CliRunner().invoke(cli, [*words, "--studies-dir", str(tmp_path / "s"), "--population", "2"])
    assert result.exit_code == 0, result.output
