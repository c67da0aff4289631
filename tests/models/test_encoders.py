import pytest
import torch
from torch import Tensor, nn

from iimt_search.kinds import DEFAULT_ENCODERS, ENCODERS, PRETRAINED
from iimt_search.models.encoders import GaussianNoise, GlobalAverage
from iimt_search.settings import TrainSettings

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "image": [(3, 8, 8), (1, 16, 16), (3, 17, 12), (4, 32, 32)],
    "series": [(3, 8), (1, 9), (9, 128), (6, 33)],
    "vector": [(1,), (5,), (64,)],
}
CASES = [(name, shape) for name, entry in ENCODERS.items() for shape in SHAPES[entry.kind]]
CONV9 = ["conv9-small", "conv9-large"]
# Channels of the first and of the last stage for a width of 4.
DIMENSION = {"small": 8, "conv9-small": 4, "conv9-large": 8, "series": 8, "mlp": 4}


def build(name: str, shape: tuple[int, ...], width: int = 4) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    return ENCODERS[name].build(shape, width)


def batch(shape: tuple[int, ...], count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def layers_of(encoder: nn.Module, *types: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in encoder.modules() if isinstance(layer, types)]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    encoder, dimension = build(name, shape)
    assert dimension == DIMENSION[name]
    for module in (encoder.train(), encoder.eval()):
        out = module(batch(shape))
        assert out.shape == (4, dimension)
        assert out.isfinite().all()
    assert encoder(batch(shape, 1)).shape == (1, dimension)


@pytest.mark.parametrize(
    ("name", "width", "dimension"),
    [
        ("small", 32, 64),
        ("conv9-small", 64, 64),
        ("conv9-large", 96, 192),
        ("series", 32, 64),
        ("mlp", 128, 128),
    ],
)
def test_the_networks_own_width(name: str, width: int, dimension: int) -> None:
    entry = ENCODERS[name]
    assert entry.width == width
    assert entry.build(SHAPES[entry.kind][0], entry.width)[1] == dimension


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_parameter_gets_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    encoder, dimension = build(name, shape)
    (encoder(batch(shape, 8)) * torch.randn(8, dimension)).sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_evaluation_is_deterministic_and_sample_by_sample(name: str, shape: tuple[int, ...]) -> None:
    encoder, _ = build(name, shape)
    encoder(batch(shape))
    encoder.eval()
    x = batch(shape)
    assert torch.equal(encoder(x), encoder(x))
    torch.testing.assert_close(encoder(x[[2, 0]]), encoder(x)[[2, 0]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_convolutions_and_layers_have_batch_norm_in_place_of_a_bias(name: str) -> None:
    encoder, _ = build(name, SHAPES[ENCODERS[name].kind][0])
    weighted = layers_of(encoder, nn.Conv1d, nn.Conv2d, nn.Linear)
    assert len(weighted) == len(layers_of(encoder, nn.BatchNorm1d, nn.BatchNorm2d)) > 0
    assert all(layer.bias is None for layer in weighted)
    slopes = [layer.negative_slope for layer in layers_of(encoder, nn.LeakyReLU)]
    assert slopes == [0.1] * len(weighted)


@pytest.mark.parametrize(("name", "stages"), [("conv9-small", (64, 64, 64)), ("conv9-large", (96, 192, 192))])
def test_conv9_is_the_papers_network(name: str, stages: tuple[int, int, int]) -> None:
    encoder, _ = build(name, (3, 32, 32), ENCODERS[name].width)
    convolutions = layers_of(encoder, nn.Conv2d)
    assert len(convolutions) == 9
    assert [layer.out_channels for layer in convolutions] == [c for c in stages for _ in range(3)]
    assert all((layer.kernel_size, layer.padding) == ((3, 3), (1, 1)) for layer in convolutions)
    a, b, c = stages
    weights = 9 * (3 * a + 2 * a * a + a * b + 2 * b * b + b * c + 2 * c * c)
    batch_norm = 2 * 3 * (a + b + c)
    assert sum(p.numel() for p in encoder.parameters()) == weights + batch_norm
    between = [type(layer) for layer in layers_of(encoder, nn.MaxPool2d, nn.Dropout, GaussianNoise)]
    assert between == [nn.MaxPool2d, nn.Dropout, GaussianNoise] * 2
    assert [layer.p for layer in layers_of(encoder, nn.Dropout)] == [0.5, 0.5]
    assert [layer.std for layer in layers_of(encoder, GaussianNoise)] == [1.0, 1.0]


@pytest.mark.parametrize("name", CONV9)
def test_conv9_is_noisy_only_in_training(name: str) -> None:
    encoder, _ = build(name, (3, 8, 8))
    x = batch((3, 8, 8))
    torch.manual_seed(5)
    first = encoder(x)
    assert not torch.equal(first, encoder(x))
    torch.manual_seed(5)
    assert torch.equal(first, encoder(x))
    encoder.eval()
    state = torch.get_rng_state()
    assert torch.equal(encoder(x), encoder(x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["small", "series", "mlp"])
def test_our_networks_draw_nothing(name: str) -> None:
    shape = SHAPES[ENCODERS[name].kind][0]
    encoder, state = build(name, shape)[0], torch.get_rng_state()
    encoder(batch(shape))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name, entry in ENCODERS.items() if entry.kind == "image"])
def test_contrast_and_brightness_of_images_do_not_matter(name: str) -> None:
    encoder, _ = build(name, (3, 8, 8))
    x = batch((3, 8, 8))
    encoder(x)
    encoder.eval()
    torch.testing.assert_close(encoder(x * 0.5 + 0.4), encoder(x), atol=1e-3, rtol=1e-3)


def test_the_mean_of_a_series_matters() -> None:
    encoder, _ = build("series", (3, 16))
    x = batch((3, 16))
    encoder(x)
    encoder.eval()
    assert (encoder(x + 1) - encoder(x)).abs().max() > 0.01


def test_noise_has_its_standard_deviation_and_keeps_type_and_input() -> None:
    torch.manual_seed(0)
    x = torch.full((100, 100), 3.0, dtype=torch.float64)
    out = GaussianNoise(2.0)(x)
    assert out.dtype == torch.float64
    assert (x == 3.0).all()
    assert out.mean().item() == pytest.approx(3.0, abs=0.1)  # five standard errors of 0.02
    assert out.std().item() == pytest.approx(2.0, abs=0.07)
    assert GaussianNoise(2.0).eval()(x) is x


def test_the_settings_offer_every_encoder() -> None:
    offered = TrainSettings.model_json_schema()["properties"]["network"]["enum"]
    assert set(offered) == {"auto", *ENCODERS, *(f"{family}:NAME" for family in PRETRAINED)}


def test_every_kind_has_an_encoder_of_its_own() -> None:
    assert DEFAULT_ENCODERS == {"image": "small", "series": "series", "vector": "mlp"}
    assert all(ENCODERS[name].kind == kind for kind, name in DEFAULT_ENCODERS.items())


def test_the_global_average_is_that_of_every_channel() -> None:
    x = torch.rand(4, 3, 5, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    found = GlobalAverage()(x)
    assert torch.allclose(found, x.mean(dim=(2, 3)))
    found.sum().backward()
    assert x.grad is not None and torch.allclose(x.grad, torch.full_like(x, 1 / 35))
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_pooling_before_the_activation_is_the_same() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    pool, activate = torch.nn.MaxPool2d(2), torch.nn.LeakyReLU(0.1)
    assert torch.equal(activate(pool(x)), pool(activate(x)))
