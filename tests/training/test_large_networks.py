"""Published architectures train, are exported in every format, and predict the same from each."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.exporting.convert import write_formats
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import export_model
from iimt_search.settings import TrainSettings
from iimt_search.training.task_training import TaskTraining


@pytest.mark.long
@pytest.mark.parametrize("network", ["torchvision:resnet50", "torchvision:vit_b_16", "timm:convnext_atto"])
def test_a_published_network_trains_and_predicts_the_same_from_every_export(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iimt_search.exporting.convert._RANDOM", 4)
    pytest.importorskip(network.partition(":")[0])
    pytest.importorskip("onnxscript")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (8, 3, 256, 256), dtype=np.uint8)
    labelled = Labelled(x[:4], np.array([0, 1, 0, 1]))
    settings = TrainSettings(
        network=network,
        weights="none",
        freeze="nothing",
        steps=1,
        batch_size=2,
        k=1,
        w_s=0.0,
        lambda_max=0.0,
        precision="float32",
        evaluations=1,
    )
    task = DomainTask(
        name="lab->field",
        classes=("a", "b"),
        kind="image",
        augmentation="photos",
        source_train=labelled,
        source_val=labelled,
        target=Unlabelled(x[4:]),
        fingerprint="",
    )
    training = TaskTraining(task, settings, 0)
    training.advance(1)
    folder = tmp_path / "model"
    export_model(
        folder, model=training.evaluated_model(), task=task, settings=settings, seed=0, step=1, scores={}
    )
    real = torch.from_numpy(x[4:6])
    with torch.no_grad():
        expected = training.evaluated_model().eval()(real)
        torch.testing.assert_close(load_model(folder)(real), expected)
    differences = write_formats(folder, ["onnx", "torch-export"], real)
    assert len(differences) == 2  # each was compared on random samples and on these
