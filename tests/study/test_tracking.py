"""What MLflow, TensorBoard and Weights & Biases are told of a study is what the study holds."""

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest

import iimt_search
from iimt_search.errors import SpaceError, UsageError
from iimt_search.study import tracking
from iimt_search.study.open import open_study
from iimt_search.study.search.trial_record import read_trials

OBJECTIVE = "consensus"


def run(space: Path, folder: Path, *track: str, trials: int = 2) -> list[str]:
    lines: list[str] = []
    read = iimt_search.load_space(space, trials=trials, track=track)
    iimt_search.run(read, studies_dir=folder, workers=0, device="cpu", progress=lines.append)
    return lines


class Noted:
    """A tracker that keeps what it is told."""

    package = "json"
    told: ClassVar[list[tracking.Entry]] = []

    def __init__(self, study: str, folder: Path) -> None:
        assert study == "tiny" and folder.is_dir()

    def log(self, entry: tracking.Entry, objective: str) -> None:
        assert objective == OBJECTIVE
        self.told.append(entry)


def expected(folder: Path) -> dict[str, tracking.Entry]:
    """Return name → what the study holds of its trials."""
    with open_study(folder, "tiny", None) as opened:
        return {t.name: tracking.trial_entry(t.name, t) for s in opened.studies for t in read_trials(s)}


@pytest.mark.slow
def test_a_tracker_is_told_each_thing_once(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "mlflow", Noted)
    monkeypatch.setattr(Noted, "told", [])
    run(tiny_space, tmp_path / "s", "mlflow")
    by_name = {entry.name: entry for entry in Noted.told}
    assert sorted(by_name) == sorted(entry.name for entry in Noted.told)
    assert sorted(by_name) == ["choice", "source-only", "trial-0", "trial-1"]
    held = expected(tmp_path / "s")
    for name in ("trial-0", "trial-1"):
        assert by_name[name] == held[name]
        assert by_name[name].metrics[OBJECTIVE] == held[name].curve[4]
        assert "digits_to_digits-m/source_accuracy" in by_name[name].metrics
        assert set(by_name[name].params) == {"lambda_max", "alpha", "temperature", "k"}
    assert by_name["trial-0"].tags["origin"] == "default"
    assert by_name["choice"].tags["answer"] in ("trial", "source-only", "none")
    run(tiny_space, tmp_path / "s", "mlflow", trials=3)  # goes on
    names = [entry.name for entry in Noted.told]
    assert names.count("trial-0") == names.count("trial-2") == names.count("source-only") == 1


def test_a_tracker_that_fails_ends_no_run(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Noted):
        def log(self, entry: tracking.Entry, objective: str) -> None:
            raise ConnectionError("no server\nat all")

    monkeypatch.setitem(tracking.TRACKERS, "wandb", Broken)
    lines = run(tiny_space, tmp_path / "s", "wandb", trials=1)
    told = [line for line in lines if "wandb" in line]
    assert told == ["warning: wandb is told nothing more: ConnectionError: no server; the study has all"]


def test_a_missing_package_is_told_before_the_run(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.MLflow, "package", "no_such_package")
    with pytest.raises(UsageError, match="`track=mlflow` needs the package no_such_package: pip install no"):
        run(tiny_space, tmp_path / "s", "mlflow")
    assert not (tmp_path / "s").exists()


def test_the_setting(tiny_space: Path) -> None:
    text = tiny_space.read_text()
    tiny_space.write_text(text + "track: tensorboard\n")
    assert iimt_search.load_space(tiny_space).track == ("tensorboard",)
    assert iimt_search.load_space(tiny_space, track=["wandb", "mlflow"]).track == ("wandb", "mlflow")
    tiny_space.write_text(text + "track: [mlfow]\n")
    with pytest.raises(SpaceError, match="mlflow"):
        iimt_search.load_space(tiny_space)


def events(folder: Path) -> Iterator[Any]:
    """Yield the events of a folder's files, each a length, its checksum, the data and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_tensorboard(tiny_space: Path, tmp_path: Path) -> None:
    run(tiny_space, tmp_path / "s", "tensorboard")
    folder = tmp_path / "s" / "tiny" / "track" / "tensorboard"
    for name, held in expected(tmp_path / "s").items():
        scalars = {(v.tag, e.step): v.simple_value for e in events(folder / name) for v in e.summary.value}
        for step, value in held.curve.items():
            assert scalars[OBJECTIVE, step] == pytest.approx(value, abs=1e-6)
        for metric, value in held.metrics.items():
            assert scalars[metric, 4] == pytest.approx(value, abs=1e-6)
    assert (folder / "choice").is_dir() and (folder / "source-only").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="not installed: mlflow")
@pytest.mark.filterwarnings("ignore")
def test_mlflow(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(tiny_space, tmp_path / "s", "mlflow")
    folder = tmp_path / "s" / "tiny" / "track" / "mlflow"
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"choice", "source-only", "trial-0", "trial-1"}
    for name, held in expected(tmp_path / "s").items():
        assert runs[name].data.metrics == pytest.approx(dict(held.metrics))
        history = client.get_metric_history(runs[name].info.run_id, OBJECTIVE)
        assert [(m.step, m.value) for m in history] == [
            (step, pytest.approx(value)) for step, value in held.curve.items()
        ]
        assert set(runs[name].data.params) == set(held.params)
        assert runs[name].data.tags["state"] == held.tags["state"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="not installed: wandb")
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    lines = run(tiny_space, tmp_path / "s", "wandb", trials=1)
    assert not [line for line in lines if "told nothing more" in line]
    folder = tmp_path / "s" / "tiny" / "track" / "wandb"
    runs = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(runs) == 3 and all(list(each.glob("run-*.wandb")) for each in runs)
    assert sorted(path.name for path in (folder / "told").iterdir())[1:] == ["source-only", "trial-0"]
