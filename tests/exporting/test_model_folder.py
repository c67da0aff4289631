import json
from pathlib import Path

import pytest
import torch

from iimt_search.data.assemble import load_task
from iimt_search.errors import ModelFileError
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import export_kept
from iimt_search.models.network import Model
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training.kept import KeptCheckpoint, save_kept
from iimt_search.training.task_training import TaskTraining

SPEC = TaskSpec.model_validate("digits->digits-m")
SETTINGS = TrainSettings(
    steps=4, batch_size=8, image_size=8, width=4, data_fraction=0.2, alpha=0.3, evaluation_samples=50
)
SCORES = {"composite": 0.125, "entropy": 1.5}


@pytest.fixture
def trained(tmp_path: Path) -> tuple[KeptCheckpoint, Model]:
    training = TaskTraining(load_task(SPEC, 8, 0.2), SETTINGS, seed=17)
    training.advance(2)
    path = tmp_path / "kept" / "2.safetensors"
    model = training.evaluated_model()
    save_kept(path, training.predictions(), model, SETTINGS, 17)
    return KeptCheckpoint("trial-0", SPEC.name, 2, path), model.eval()


def test_the_exported_model_is_the_kept_one(trained: tuple[KeptCheckpoint, Model], tmp_path: Path) -> None:
    kept, model = trained
    export_kept(kept, SPEC, SCORES, tmp_path / "out" / "deep")
    found = load_model(tmp_path / "out" / "deep")
    x = torch.from_numpy(load_task(SPEC, 8).target.x[:50])
    with torch.no_grad():
        assert torch.equal(found(x), model(x))
    assert found.classes == tuple("0123456789") and len(found.others) == 0


def test_it_is_described_as_it_was_trained(trained: tuple[KeptCheckpoint, Model], tmp_path: Path) -> None:
    export_kept(trained[0], SPEC, SCORES, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (content["task"], content["seed"], content["step"]) == (SPEC.name, 17, 2)
    assert content["scores"] == SCORES
    assert TrainSettings.model_validate(content["hyperparameters"]) == SETTINGS
    assert content["data_fingerprint"] == load_task(SPEC, 8, 0.2).fingerprint
    task = load_task(SPEC, 8, 0.2)
    counts = {"source_train": len(task.source_train), "source_val": len(task.source_val)}
    assert content["samples"] == {**counts, "target": len(task.target)}


def test_an_exported_model_is_replaced(trained: tuple[KeptCheckpoint, Model], tmp_path: Path) -> None:
    kept, model = trained
    export_kept(kept, SPEC, {}, tmp_path / "out")
    with torch.no_grad():
        model.classifier.bias.add_(1)
    save_kept(kept.path, TaskTraining(load_task(SPEC, 8), SETTINGS, 1).predictions(), model, SETTINGS, 18)
    export_kept(kept, SPEC, {}, tmp_path / "out")
    found = load_model(tmp_path / "out")
    assert found.metadata["seed"] == 18
    assert torch.equal(found.model.classifier.bias, model.classifier.bias)


def test_a_damaged_checkpoint_leaves_the_folder_alone(
    trained: tuple[KeptCheckpoint, Model], tmp_path: Path
) -> None:
    kept, _ = trained
    kept.path.write_bytes(kept.path.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="2.safetensors is not a whole kept checkpoint"):
        export_kept(kept, SPEC, SCORES, tmp_path / "out")
    assert not (tmp_path / "out").exists()
