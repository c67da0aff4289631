from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import iimt_search
from iimt_search.cli.main import cli
from iimt_search.errors import UsageError
from iimt_search.space import Space
from iimt_search.space.schema import Resources
from iimt_search.study.executors.choose import trial_resources


def space(**keys: Any) -> Space:
    return Space.model_validate({"schema": 1, "study": "s", "tasks": ["digits->digits-m"], **keys})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray-address", "auto"], "--ray-address goes with --backend ray"),
        (["--ray-storage", "x"], "--ray-storage goes with --backend ray"),
        (["--cpus-per-trial", "2"], "--cpus-per-trial goes with --backend ray"),
        (["--gpus-per-trial", "0"], "--gpus-per-trial goes with --backend ray"),
        (["--memory-per-trial", "2GB"], "--memory-per-trial goes with --backend ray"),
        (["--resource", "a=1"], "--resource goes with --backend ray"),
        (["--backend", "ray", "--workers", "0"], "--workers 0 runs trials within this process"),
        (["--backend", "ray", "--device", "cuda"], "takes --gpus-per-trial, such as 1 or 0.25"),
        (
            ["--backend", "ray", "--cpus-per-trial", "0"],
            "--cpus-per-trial 0.0: Input should be",
        ),
        (["--backend", "ray", "--gpus-per-trial", "1.5"], "`gpus` above 1 must be a whole number, got 1.5"),
        (["--backend", "ray", "--memory-per-trial", "much"], "--memory-per-trial much: "),
        (
            ["--backend", "ray", "--resource", "disk"],
            "--resource must be NAME=AMOUNT, such as bigdisk=1",
        ),
        (["--backend", "ray", "--resource", "disk=0"], "--resource: Input should be greater than 0"),
        (["--backend", "slurm"], "'slurm' is not one of 'local', 'ray'"),
    ],
)
def test_options_that_contradict_are_refused(
    tiny_space: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    command = ["run", "--space", str(tiny_space), "--studies-dir", str(tmp_path), *arguments]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("found", "device", "message"),
    [
        (0, "cuda", "--device cuda: PyTorch finds no CUDA device here"),
        (2, "cuda:2", "--device cuda:2: PyTorch finds cuda:0 to cuda:1 here"),
    ],
)
def test_a_gpu_that_is_not_here_is_told_before_anything_is_begun(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    command = ["run", "--space", str(tiny_space), "--studies-dir", str(tmp_path), "--device", device]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "tiny").exists()
    with pytest.raises(UsageError, match="PyTorch finds"):
        iimt_search.run(iimt_search.load_space(tiny_space), studies_dir=tmp_path, workers=0, device=device)


@pytest.mark.parametrize("pruner", ["asha", "pbt"])
def test_schedules_of_tune_take_ray(tiny_space: Path, tmp_path: Path, pruner: str) -> None:
    tiny_space.write_text(tiny_space.read_text() + f"pruner: {pruner}\n")
    done = CliRunner().invoke(cli, ["run", "--space", str(tiny_space), "--studies-dir", str(tmp_path)])
    assert done.exit_code == 2 and f"pruner {pruner} is Ray Tune's: give --backend ray" in done.stderr


def test_population_based_training_searches_lambda_max(tiny_space: Path, tmp_path: Path) -> None:
    tiny_space.write_text(tiny_space.read_text() + "pruner: pbt\nsearch: {alpha: {low: 0.1, high: 1}}\n")
    command = ["run", "--space", str(tiny_space), "--studies-dir", str(tmp_path), "--backend", "ray"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2 and "pruner pbt changes lambda_max during training" in done.stderr


def test_what_is_asked_for_goes_over_the_space_file() -> None:
    given = space(resources={"cpus": 2, "memory": "1GB", "custom": {"disk": 1, "fast": 1}})
    asked = {"cpus": 4.0, "gpus": 0.25, "custom": {"disk": 3.0}}
    assert trial_resources(given, asked) == Resources(
        cpus=4, gpus=0.25, memory=10**9, custom={"disk": 3, "fast": 1}
    )
    assert trial_resources(given, {}) == given.resources
    with pytest.raises(UsageError):
        trial_resources(given, {"custom": {"disk": -1}})
    with pytest.raises(UsageError, match=r"`resources\.gpu=1`: Extra inputs are not permitted"):
        trial_resources(given, {"gpu": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "slurm"}, "`backend` must be local or ray, got 'slurm'"),
        ({"ray_storage": "x"}, "`ray_storage` goes with `backend=ray`"),
        ({"resources": {"gpus": 0.5}}, "`resources.gpus` goes with `backend=ray`"),
        ({"population": 0}, "`population >= 1` must hold, got 0"),
        ({"backend": "ray", "population": 4}, "`population` goes with `backend=local`"),
        ({"backend": "ray", "workers": 0}, "`workers=0` runs trials within this process"),
        ({"backend": "ray", "device": "cuda"}, "`device=cuda` with `backend=ray` takes `resources.gpus`"),
        ({"backend": "ray", "resources": {"memory": "much"}}, "`resources.memory=much`: "),
    ],
)
def test_the_library_names_arguments(
    tiny_space: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        iimt_search.run(iimt_search.load_space(tiny_space), studies_dir=tmp_path / "s", **arguments)
    assert str(raised.value).startswith(message)
    assert not (tmp_path / "s").exists()
