"""Features of photographs: made once, gone on with, trained on, and exported as models of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import iimt_search
from iimt_search.data.open import open_domain
from iimt_search.errors import DataError, StudyMismatchError, UsageError
from iimt_search.features import store
from iimt_search.features.extract import Featurizer, image_model, load_training_task
from iimt_search.features.photographs import BACKBONE, with_backbone
from iimt_search.features.store import kept_features
from iimt_search.models.network import Model
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.training.task_training import TaskTraining


@pytest.fixture
def task(photographs: Callable[..., Path]) -> TaskSpec:
    """Of photographs."""
    lab, field = photographs("lab"), photographs("field", shift=20)
    return TaskSpec.model_validate(
        {"name": "lab->field", "source": {"folder": str(lab)}, "target": {"folder": str(field)}}
    )


def settings_of(network: str, **more: Any) -> TrainSettings:
    values = {"network": network, "steps": 4, "batch_size": 8, "views": 3, "bottleneck": 5, **more}
    return TrainSettings(**{"precision": "float32", "evaluations": 1, **values})


def test_features_are_made_once_whatever_the_domain_is_of(
    network: str, photographs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    spec = DomainSpec(folder=str(photographs("lab")))
    domain = open_domain(spec, 36)
    featurizer = Featurizer(network, "imagenet", 3, progress=lambda _, done, of: told.append((done, of)))
    made = featurizer(domain)
    assert made.kind == "features" and made.train.x.shape == (40, 3, 24) and made.train.x.dtype == np.float16
    assert told == [(32, 40), (40, 40)]
    again = featurizer(domain)
    assert len(told) == 2 and np.array_equal(again.train.x, made.train.x)
    assert made.sample_fingerprint == again.sample_fingerprint != domain.sample_fingerprint
    assert not np.array_equal(made.train.x[:, 0], made.train.x[:, 1])
    # Another way of making them is another file.
    Featurizer(network, "imagenet", 2, progress=featurizer.progress)(domain)
    assert len(told) == 4


def test_what_is_computed_is_kept_when_the_rest_fails(tmp_path: Path) -> None:
    computed: list[int] = []
    fail = [True]

    def compute(start: int, end: int) -> Any:
        if start >= 2 * store.CHUNK and fail[0]:
            raise DataError("no more")
        computed.append(start)
        return np.full((end - start, 2, 3), start, np.float16)

    def made() -> Any:
        return kept_features(tmp_path / "f", (100, 2, 3), compute, map, lambda done, of: None, {})

    with pytest.raises(DataError, match="no more"):
        made()
    assert computed == [0, 32] and not (tmp_path / "f" / "x.npy").exists()
    fail[0] = False
    assert made()[:, 0, 0].tolist() == [float(start) for start in (0, 32, 64) for _ in range(32)] + [96.0] * 4
    assert computed == [0, 32, 64, 96]
    assert made().shape == (100, 2, 3) and computed == [0, 32, 64, 96]


def test_a_model_of_features_becomes_the_same_model_of_images(network: str, task: TaskSpec) -> None:
    settings = settings_of(network)
    loaded = load_training_task(task, settings)
    assert (loaded.kind, loaded.sample_shape, loaded.augmentation) == ("features", (3, 24), "views")
    training = TaskTraining(loaded, settings, 0)
    training.advance(4)
    model = training.model.eval()
    images = load_training_task(task, settings_of(network, freeze="nothing"))
    assert images.kind == "image" and images.augmentation == "photos"
    whole = image_model(model, settings, images.sample_shape[-1]).eval()
    with torch.no_grad():
        of_features = model(torch.from_numpy(np.array(loaded.target.rows(np.arange(6)))).float())
        of_images = whole(torch.from_numpy(np.array(images.target.rows(np.arange(6)))))
    torch.testing.assert_close(of_features, of_images, rtol=1e-2, atol=1e-2)
    assert len(training.predictions().target_logits) == 40


@pytest.mark.parametrize("norm", ["shared", "frozen", "by_domain"])
@pytest.mark.parametrize("freeze", ["nothing", "first_half"])
def test_the_network_itself_is_trained(network: str, task: TaskSpec, norm: str, freeze: str) -> None:
    settings = settings_of(network, freeze=freeze, backbone_norm=norm, accumulate=2, learning_rate=0.01)
    training = TaskTraining(load_training_task(task, settings), settings, 0)
    backbone = training.model.backbone
    assert backbone is not None
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert training.rate_factors == (1.0, 0.1)
    training.advance(3)
    changed = {n for n, value in backbone.state_dict().items() if not torch.equal(value, before[n])}
    weights = {"network.0.weight", "network.0.bias", "network.1.weight", "network.1.bias"}
    assert changed & weights == (weights if freeze == "nothing" else {"network.1.weight", "network.1.bias"})
    assert ("network.1.running_mean" in changed) == (norm != "frozen")
    assert ("network.1.source_mean" in changed) == (norm == "by_domain")
    assert training.predictions().target_logits.isfinite().all()
    whole = image_model(training.model, settings, 36)
    assert not whole.architecture.by_domain and isinstance(whole, Model)
    x = torch.zeros(2, 3, 36, 36)
    torch.testing.assert_close(whole.eval()(x), training.model.eval()(x))


def test_accumulated_batches_are_one_step_of_their_mean(network: str, task: TaskSpec) -> None:
    gradients = []
    for accumulate in (1, 3):
        settings = settings_of(network, accumulate=accumulate, steps=1)
        training = TaskTraining(load_training_task(task, settings), settings, 0)
        training.model.eval()
        parts = []
        for _ in range(3):
            training._backward(0.0)
            assert training.model.classifier.weight.grad is not None
            parts.append(training.model.classifier.weight.grad.clone())
            if accumulate == 1:
                training.optimizer.zero_grad()
        gradients.append(torch.stack(parts).mean(dim=0) if accumulate == 1 else parts[-1])
    torch.testing.assert_close(*gradients)


def run_space(network: str, task: TaskSpec, **more: Any) -> Space:
    return Space.model_validate(
        {
            "schema": 1,
            "study": "photos",
            "tasks": [task],
            "train": settings_of(network).model_dump(exclude_defaults=True),
            "budget": {"trials": 3},
            "reference": {"trials": 2},
            "confirm": {"top": 1, "seeds": 1},
            "retrain": {"seeds": 1, "steps": 300, "freeze": "nothing", "fine_steps": 2},
            **more,
        }
    )


@pytest.mark.long
def test_a_search_over_features_ends_with_a_model_of_images(
    network: str, task: TaskSpec, photographs: Callable[..., Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    studies = tmp_path / "studies"
    (choice,) = iimt_search.run(
        run_space(network, task), studies_dir=studies, workers=1, progress=lines.append
    )
    folder = Path(choice.models) / "lab_to_field"
    with pytest.raises(UsageError, match="loading it runs that code; where it is yours, say `run_python`"):
        iimt_search.load_model(folder)
    model = iimt_search.load_model(folder, run_python=True)
    assert model.kind == "image" and model.sample_shape == (3, 36, 36) and model.interpolation == "bilinear"
    if choice.trial is not None:
        tuned = choice.fine_tuned["lab->field"]
        better = tuned["after"] > tuned["before"]
        assert choice.members["lab->field"] == (
            (f"fine-tune-{choice.candidate}-lab_to_field",)
            if better
            else (f"retrain-{choice.candidate}-lab_to_field",)
        )
        assert any("fine-tuned" in line for line in lines)
    audits = iimt_search.audit(studies_dir=studies, study="photos")
    found = audits["lab->field"]
    # Without a test part each model of the ceiling is measured on what it was not trained on.
    assert found.choice > 60 and not found.unseen and found.ceiling is not None and found.ceiling > 90
    # Nothing is left to do, and nothing is computed again.
    (again,) = iimt_search.run(run_space(network, task), studies_dir=studies, workers=1)
    assert again.digest == choice.digest


def test_photographs_get_a_network_where_its_weights_are_at_hand(
    photographs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = [{"folder": str(photographs(name, 4, side=80))} for name in ("lab", "field")]
    spec = TaskSpec.model_validate({"name": "lab->field", "source": domains[0], "target": domains[1]})

    def space(**more: Any) -> Space:
        return Space.model_validate({"schema": 1, "study": "photos", "tasks": [spec], **more})

    lines: list[str] = []
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert with_backbone(space(), lines.append) == space()
    assert "photographs of 80 pixels and more are trained small: the published weights of" in lines.pop()
    monkeypatch.setattr("iimt_search.models.weights.published_weights", lambda name: {})
    assert with_backbone(space(), lines.append).train.network == BACKBONE
    assert "features of torchvision:resnet18 are computed once; `train.network` names another" in lines.pop()
    for train in ({"network": "small"}, {"image_size": 32}):
        assert with_backbone(space(train=train), lines.append) == space(train=train)
    # A study goes on with what it began with.
    assert with_backbone(space(), lines.append, "auto") == space()
    assert (
        with_backbone(space(), lines.append, "torchvision:resnet34").train.network == "torchvision:resnet34"
    )
    assert not lines


def test_features_on_a_device_are_those_of_the_processor(
    device: str,
    network: str,
    photographs: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    domain = open_domain(DomainSpec(folder=str(photographs("lab"))), 36)
    there = Featurizer(network, "imagenet", 2, precision="float32", device=device)(domain)
    monkeypatch.setenv("IIMT_CACHE", str(tmp_path / "other"))  # made again, not read
    here = Featurizer(network, "imagenet", 2, precision="float32")(domain)
    # The first view is the image itself; the others are augmented by the device's own random numbers.
    assert np.allclose(there.train.x[:, 0], here.train.x[:, 0], rtol=1e-2, atol=1e-2)
    assert np.isfinite(there.train.x).all() and there.train.x.shape == here.train.x.shape


def test_training_the_network_itself_on_a_device(device: str, network: str, task: TaskSpec) -> None:
    settings = settings_of(network, freeze="nothing", backbone_norm="by_domain")
    training = TaskTraining(load_training_task(task, settings, device), settings, 0, device)
    training.advance(2)
    predictions = training.predictions()
    assert predictions.target_logits.device.type == "cpu" and bool(predictions.target_logits.isfinite().all())


def test_a_study_goes_on_with_weights_that_were_moved_and_not_with_others(
    network: str, task: TaskSpec, tmp_path: Path
) -> None:
    first, moved, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    norm = {f"1.{name}": torch.ones(6) for name in ("weight", "bias", "running_mean", "running_var")}
    weights = {"0.weight": torch.randn(6, 3, 8, 8), "0.bias": torch.zeros(6), **norm}
    save_file(weights, first)

    def space(file: Path) -> Space:
        train = settings_of(network, weights=str(file), evaluations=1).model_dump()
        small = {"confirm": {"top": 1, "seeds": 1}, "retrain": {"steps": 4}, "reference": {"trials": 1}}
        content = {"schema": 1, "study": "photos", "tasks": [task.model_dump()], "train": train, **small}
        return Space.model_validate({**content, "budget": {"trials": 1}, "validators": []})

    (before,) = iimt_search.run(space(first), studies_dir=tmp_path / "s", workers=0, device="cpu")
    first.rename(moved)
    (after,) = iimt_search.run(space(moved), studies_dir=tmp_path / "s", workers=0, device="cpu")
    assert after.digest == before.digest
    audit = iimt_search.audit("photos", studies_dir=tmp_path / "s", train=False)
    assert 0 <= audit["lab->field"].choice <= 100
    save_file({**weights, "0.bias": torch.ones(6)}, other)
    with pytest.raises(StudyMismatchError, match="begun with other content of train.weights"):
        iimt_search.run(space(other), studies_dir=tmp_path / "s", workers=0, device="cpu")
