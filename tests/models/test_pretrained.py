"""Networks of torchvision, of timm and of one's own: their weights, preprocessing and errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from iimt_search.errors import DataError, UsageError
from iimt_search.models.network import Architecture, Model, of_source
from iimt_search.models.pretrained import Backbone, feature_dimension, preprocessing_of
from iimt_search.models.weights import load_weights, published_file, weights_key

RESNET = "torchvision:resnet18"
OWN = """
import torch
from torch import nn


def small():
    layers = nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers)
    network.preprocessing = {"side": 36, "crop": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return network


def untold():
    print("ready")
    return nn.Flatten()


def wrong():
    return 3


def odd():
    network = nn.Flatten()
    network.preprocessing = {"size": 3}
    return network
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The beginning of the names of one's own networks."""
    for cached in (preprocessing_of, feature_dimension, weights_key):
        cached.cache_clear()
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_networks", raising=False)
    yield "python:own_networks:"


def backbone_of(name: str, side: int = 64) -> Backbone:
    model = Model(Architecture(name, "image", (3, side, side), 2, 0, 0.0))
    assert model.backbone is not None
    return model.backbone


def published_state(classes: int = 1000) -> dict[str, torch.Tensor]:
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(3)
        return dict(resnet18(num_classes=classes).state_dict())


def test_published_weights_of_the_cache_are_taken_with_their_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = published_file(RESNET)
    assert place is not None and place[0].parent == tmp_path / "hub" / "checkpoints"
    place[0].parent.mkdir(parents=True)
    torch.save(published_state(), place[0])
    backbone = backbone_of(RESNET)
    load_weights(backbone, RESNET, "imagenet")
    assert torch.equal(backbone.network.conv1.weight, published_state()["conv1.weight"])
    assert preprocessing_of(RESNET) == (256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
    assert backbone.crop == 56 and feature_dimension(RESNET) == 512


def test_without_a_network_one_error_says_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.delenv("no_proxy", raising=False)
    place = rf"place resnet18-\w+\.pth of https://download\.pytorch\.org/\S+ in {tmp_path}/hub/checkpoints"
    with pytest.raises(DataError, match=rf"weights of {RESNET} cannot be fetched .*{place}, or name a file"):
        load_weights(backbone_of(RESNET), RESNET, "imagenet")


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint", "lightning"])
def test_weights_of_a_file_in_the_usual_forms(tmp_path: Path, form: str) -> None:
    state = published_state(7 if form == "checkpoint" else 1000)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    match form:
        case "safetensors":
            save_file(state, path)
        case "pth":
            torch.save(state, path)
        case "checkpoint":
            torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
        case "lightning":
            torch.save({"model": {"state_dict": state}}, path)
    backbone = backbone_of(RESNET)
    load_weights(backbone, RESNET, str(path))
    assert torch.equal(backbone.network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert len(weights_key(RESNET, str(path))) == 64 and weights_key(RESNET, "imagenet") == "imagenet"


def test_weights_that_do_not_fit_tell_what_is_missing_and_left_over(tmp_path: Path) -> None:
    state = published_state()
    state["conv9.weight"] = state.pop("conv1.weight")
    state["bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        DataError,
        match="do not fit torchvision:resnet18: 1 missing: conv1.weight; 1 left over: conv9.weight; 1 of "
        "another shape: bn1.weight",
    ):
        load_weights(backbone_of(RESNET), RESNET, str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + bytes(50)])
def test_files_that_are_no_weights_are_one_error(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} cannot be read as weights(?!.*weights_only)"):
            load_weights(backbone_of(RESNET), RESNET, str(tmp_path / name))
    with pytest.raises(DataError, match="no file of weights"):
        load_weights(backbone_of(RESNET), RESNET, str(tmp_path / "none.pth"))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "run": pytest.raises}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="with tensors alone"):
        load_weights(backbone_of(RESNET), RESNET, str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet19", "no network torchvision:resnet19; there are resnet.*others"),
        ("torchvision:squeezenet1_0", "no linear classifier"),
        ("python:no_such_package:f", "cannot be found"),
        ("python:math:tau_of", "cannot be found"),
    ],
)
def test_networks_that_are_not_there(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        preprocessing_of(name)


def test_networks_of_ones_own(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert preprocessing_of(own + "small").crop == 32 and feature_dimension(own + "small") == 4
    backbone = backbone_of(own + "small", side=36)
    assert backbone(torch.zeros(2, 3, 36, 36)).shape == (2, 4)
    assert backbone(torch.zeros(2, 1, 36, 36)).shape == (2, 4)
    assert preprocessing_of(own + "untold").side == 256
    assert capsys.readouterr() == ("", "ready\n")  # standard output is for results
    with pytest.raises(UsageError, match="must return a torch.nn.Module, got int"):
        preprocessing_of(own + "wrong")
    with pytest.raises(UsageError, match="`preprocessing` is a dict of side, crop, mean, std, interpolation"):
        preprocessing_of(own + "odd")
    with pytest.raises(ValueError, match="1 or 3 channels, these have 4"):
        Model(Architecture(own + "small", "image", (4, 36, 36), 2, 0, 0.0))


@pytest.mark.parametrize("still", [True, False])
def test_without_statistics_of_batches_few_images_are_taken_at_a_time(own: str, still: bool) -> None:
    backbone = backbone_of(own + "small", side=36).train()
    norm = backbone.network[1].train(not still)
    sizes: list[int] = []
    backbone.network.register_forward_hook(lambda layer, given, made: sizes.append(len(made)))
    x = torch.randn(10, 3, 36, 36)
    backbone(x).square().sum().backward()
    assert sizes == ([4, 4, 2] if still else [10])
    gradient, weight = norm.weight.grad.clone(), norm.weight
    weight.grad = None
    backbone.network(x[:, :, 2:34, 2:34]).square().sum().backward()
    torch.testing.assert_close(weight.grad, gradient)
    with torch.no_grad():
        sizes.clear()
        backbone(x)
    assert sizes == [10]


def test_weights_that_a_network_of_ones_own_comes_with_are_told_apart(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights_key(own + "small", "imagenet")
    weights_key.cache_clear()
    assert weights_key(own + "small", "imagenet") == before
    weights_key.cache_clear()
    (tmp_path / "own_networks.py").write_text(OWN.replace("nn.Conv2d(3, 4, 8, 8)", "nn.Conv2d(3, 5, 8, 8)"))
    monkeypatch.delitem(__import__("sys").modules, "own_networks")
    __import__("importlib").invalidate_caches()
    assert weights_key(own + "small", "imagenet") != before


def test_statistics_of_each_domain(own: str) -> None:
    model = Model(Architecture(own + "small", "image", (3, 36, 36), 2, 0, 0.0, by_domain=True)).train()
    layer = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d) or hasattr(m, "source_mean"))
    before = layer.running_mean.clone()
    with of_source(model):
        model.embed(torch.randn(8, 3, 36, 36))
    assert torch.equal(layer.running_mean, before) and not torch.equal(layer.source_mean, before)
    source = layer.source_mean.clone()
    model.embed(torch.randn(8, 3, 36, 36) + 3)
    assert torch.equal(layer.source_mean, source) and not torch.equal(layer.running_mean, before)
    model.eval()
    x = torch.randn(4, 3, 36, 36)
    of_target = model.embed(x)
    with of_source(model):
        assert not torch.equal(model.embed(x), of_target)
    assert torch.equal(model.embed(x), of_target)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_networks_of_timm(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    published = timm.create_model(name, pretrained=False)
    save_file(published.state_dict(), tmp_path / "w.safetensors")
    backbone = backbone_of(f"timm:{name}", preprocessing_of(f"timm:{name}").side)
    load_weights(backbone, f"timm:{name}", str(tmp_path / "w.safetensors"))
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = published.eval().forward_head(published.forward_features(x), pre_logits=True)
        torch.testing.assert_close(backbone.eval().network(x), expected)
    with pytest.raises(UsageError, match="there is no network timm:convnext_ato; there are convnext_atto"):
        preprocessing_of("timm:convnext_ato")
