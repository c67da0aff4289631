"""Exported models in other formats compute what the safetensors model computes."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.errors import ModelFileError, UsageError
from iimt_search.exporting import convert, formats
from iimt_search.exporting.convert import TOLERANCE, greatest_difference, random_samples, write_formats
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import add_members, export_model
from iimt_search.kinds import Kind
from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings

MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed")
FORMATS = ["torch-export", pytest.param("onnx", marks=needs_onnx)]
ENCODERS: dict[str, tuple[Kind, tuple[int, ...], int]] = {
    "small": ("image", (3, 16, 16), 4),
    "conv9-small": ("image", (3, 16, 16), 4),
    "conv9-large": ("image", (3, 17, 17), 4),  # an odd side, which pooling cuts
    "series": ("series", (2, 21), 4),
    "mlp": ("vector", (5,), 8),
}


def make_model(network: str, seed: int) -> Model:
    kind, shape, width = ENCODERS[network]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Model(Architecture(network, kind, shape, 3, width, 0.2))
        # Statistics of batches, so that what is exported is the evaluation mode and nothing else.
        for _ in range(3):
            raw = torch.randint(0, 256, (8, *shape)) if kind == "image" else torch.randn(8, *shape)
            model(raw)
    if kind != "image":
        model.shift.add_(5)
        model.scale.mul_(3)
    return model.eval()


def export(folder: Path, network: str, members: int = 2) -> Path:
    kind, shape, _ = ENCODERS[network]
    x = np.zeros((4, *shape), np.uint8 if kind == "image" else np.float32)
    part = Labelled(x, np.array([0, 1, 2, 0]))
    task = DomainTask("a->b", ("x", "y", "ž"), kind, "none", part, part, Unlabelled(x), "mark")
    export_model(
        folder,
        model=make_model(network, 0),
        task=task,
        settings=TrainSettings(),
        seed=0,
        step=200,
        scores={"composite": 0.5},
    )
    add_members(folder, [make_model(network, seed) for seed in range(1, members)])
    return folder


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("network", ENCODERS)
def test_every_encoder_and_batch_size(network: str, name: str, tmp_path: Path) -> None:
    folder = export(tmp_path / "m", network)
    (difference,) = write_formats(folder, [name]).values()
    assert difference <= TOLERANCE
    model = load_model(folder)
    _, read = convert.WRITE_AND_READ[name]
    other = read(folder / formats.FORMATS[name].file)
    for count in (1, 2, 9):
        x = random_samples(model, count, seed=count)
        with torch.no_grad():
            expected = model(x)
            assert torch.allclose(other(x), expected, atol=1e-4)
            # The mean of both members, not one of them.
            assert not torch.allclose(model.model(x), expected, atol=1e-3)


WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["iimt_search"] = None
import torch
from safetensors.torch import load_file, save_file
about = {"model.json": ""}
model = torch.export.load(sys.argv[1], extra_files=about).module()
x = load_file(sys.argv[2])["x"]
save_file({"y": model(x).detach()}, sys.argv[3])
print(json.dumps(json.loads(about["model.json"])["classes"]))
"""


@pytest.mark.long
def test_the_archive_is_read_without_this_package(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = export(tmp_path / "m", "small")
    write_formats(folder, ["torch-export"])
    model = load_model(folder)
    x = random_samples(model, 5, seed=7)
    save_file({"x": x}, tmp_path / "x")
    arguments = [folder / "model.pt2", tmp_path / "x", tmp_path / "y"]
    code = [sys.executable, "-c", WITHOUT_THE_PACKAGE, *map(str, arguments)]
    out = subprocess.run(code, capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == ["x", "y", "ž"]
    with torch.no_grad():
        assert torch.allclose(load_file(tmp_path / "y")["y"], model(x), atol=1e-4)


@needs_onnx
def test_onnx_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    import onnxruntime

    folder = export(tmp_path / "m", "small")
    write_formats(folder, ["onnx"])
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("samples", "tensor(uint8)", ["batch", 3, 16, 16])
    assert (given.name, given.type, given.shape[1]) == ("logits", "tensor(float)", 3)
    about = json.loads(session.get_modelmeta().custom_metadata_map["model.json"])
    assert about["classes"] == ["x", "y", "ž"] and about["preprocessing"]["kind"] == "image"


def test_real_samples_are_compared_too_and_it_is_noted(tmp_path: Path) -> None:
    folder = export(tmp_path / "m", "mlp")
    found = write_formats(folder, ["torch-export", "safetensors", "torch-export"], torch.randn(7, 5))
    content = json.loads((folder / "model.json").read_text())
    assert content["formats"] == {
        "torch-export": {
            "file": "model.pt2",
            "difference": found["torch-export"],
            "samples": {"random": 64, "real": 7},
        }
    }
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".pt2"}
    assert len(load_model(folder).members) == 2


def test_what_differs_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(tmp_path / "m", "mlp")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write, right = convert.WRITE_AND_READ["torch-export"]

    def wrong(path: Path) -> Callable[[Tensor], Tensor]:
        return lambda x: right(path)(x) + 0.01

    monkeypatch.setitem(convert.WRITE_AND_READ, "torch-export", (write, wrong))
    with pytest.raises(ModelFileError, match=r"model.pt2: its logits differ .* by 0.01, more than 0.0001"):
        write_formats(folder, ["torch-export"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_formats_go_when_the_model_changes(tmp_path: Path) -> None:
    folder = export(tmp_path / "m", "mlp")
    for change in (
        lambda f: add_members(f, []),
        lambda f: add_members(f, [make_model("mlp", 4)]),
        lambda f: export(f, "mlp"),
    ):
        write_formats(folder, ["torch-export"])
        assert (folder / "model.pt2").exists()
        change(folder)
        assert not (folder / "model.pt2").exists()
        assert json.loads((folder / "model.json").read_text())["formats"] == {}


def test_the_greatest_difference() -> None:
    x = torch.arange(10.0).reshape(10, 1)
    identity: Callable[[Tensor], Tensor] = lambda batch: batch  # noqa: E731
    assert greatest_difference(identity, identity, x) == (0.0, True)
    # Of logits up to 9, a ten-thousandth is 0.0009.
    assert greatest_difference(identity, lambda batch: batch + 0.0008, x)[1]
    assert not greatest_difference(identity, lambda batch: batch + 0.001, x)[1]
    assert greatest_difference(identity, lambda batch: batch * float("nan"), x) == (float("inf"), False)
    # Right for every batch but that of one sample.
    assert not greatest_difference(identity, lambda batch: batch if len(batch) > 1 else batch + 1, x)[1]
    assert not greatest_difference(identity, lambda batch: batch.squeeze(), x)[1]
    assert greatest_difference(identity, identity, x[:2]) == (0.0, True)


def test_a_missing_package_and_an_unknown_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else object())
    folder = export(tmp_path / "m", "mlp")
    with pytest.raises(UsageError, match=r"needs onnxruntime: pip install 'iimt-search\[onnx\]'"):
        write_formats(folder, ["torch-export", "onnx"])
    assert not (folder / "model.pt2").exists()
    with pytest.raises(UsageError, match="there is no format 'onx'; valid: safetensors, torch-export, onnx"):
        write_formats(folder, ["onx"])
