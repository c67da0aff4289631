import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iimt_search.iimt.losses import Step, adversarial
from iimt_search.models.network import Architecture, Discriminator, Model, resolve_network


def make_model(channels: int = 3, classes: int = 10, width: int = 4, dropout: float = 0.0) -> Model:
    torch.manual_seed(0)
    return Model(Architecture("small", "image", (channels, 8, 8), classes, width, dropout))


def images(count: int = 5, channels: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [8, 16, 17, 32])
@pytest.mark.parametrize(("channels", "classes", "width"), [(3, 10, 4), (1, 2, 6)])
def test_shapes(size: int, channels: int, classes: int, width: int) -> None:
    model = make_model(channels, classes, width)
    x = images(channels=channels, size=size)
    embeddings = model.embed(model.normalise(x))
    assert embeddings.shape == (5, model.embedding_dim) == (5, 2 * width)
    assert model.classify(embeddings).shape == (5, classes)
    logits = model(x)
    assert logits.shape == (5, classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_forward_is_classify_of_embed_of_normalise() -> None:
    model = make_model().eval()
    x = images()
    torch.testing.assert_close(model(x), model.classifier(model.encoder(x.float() / 127.5 - 1)))


SHAPES = {"image": (3, 8, 8), "series": (3, 16), "vector": (3,)}


def model_of(kind: str, **keywords: Any) -> Model:
    torch.manual_seed(0)
    return Model(Architecture("auto", kind, SHAPES[kind], 5, 4, 0.0), **keywords)


def samples_of(kind: str, count: int = 6) -> Tensor:
    if kind == "image":
        return images(count)
    return torch.randn(count, *SHAPES[kind], generator=torch.Generator().manual_seed(0))


def test_images_are_normalised_to_minus_one_to_one() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    out = model_of("image").normalise(x)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_every_pixel_value_is_normalised_to_the_nearest_float() -> None:
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    model = Model(Architecture("small", "image", (1, 16, 16), 2, 4, 0.0))
    expected = ((torch.arange(256).double() - 127.5) / 127.5).float()
    assert torch.equal(model.normalise(x).flatten(), expected)


@pytest.mark.parametrize("kind", ["series", "vector"])
def test_series_and_vectors_are_left_alone_by_default(kind: str) -> None:
    x = samples_of(kind)
    assert torch.equal(model_of(kind).normalise(x), x)


@pytest.mark.parametrize("kind", SHAPES)
def test_shift_and_scale_are_for_each_channel(kind: str) -> None:
    model = model_of(kind, shift=[1.0, 2.0, 3.0], scale=torch.tensor([2.0, 4.0, 0.5]))
    ones = [1] * (len(SHAPES[kind]) - 1)
    assert model.shift.shape == model.scale.shape == (3, *ones)
    x = torch.tensor([5.0, 0.0, 3.5]).reshape(3, *ones).expand(SHAPES[kind])
    expected = torch.tensor([2.0, -0.5, 1.0]).reshape(3, *ones).expand(SHAPES[kind])
    torch.testing.assert_close(model.normalise(x[None]), expected[None])


@pytest.mark.parametrize("kind", SHAPES)
def test_normalise_does_not_change_its_input(kind: str) -> None:
    x = torch.full((2, *SHAPES[kind]), 255.0)
    model_of(kind, shift=[1.0] * 3, scale=[2.0] * 3).normalise(x)
    assert (x == 255.0).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_a_double_model_computes_in_double(kind: str) -> None:
    model = model_of(kind).double().eval()
    x = samples_of(kind)
    assert model.normalise(x).dtype == torch.float64
    assert model(x).dtype == torch.float64
    torch.testing.assert_close(model(x).float(), model_of(kind).eval()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_shift_and_scale_travel_with_the_weights(kind: str) -> None:
    model = model_of(kind, shift=[1.0, 2.0, 3.0], scale=[4.0, 5.0, 6.0])
    assert {"shift", "scale"} <= set(model.state_dict())
    again = model_of(kind)
    again.load_state_dict(model.state_dict())
    assert again.shift.flatten().tolist() == [1.0, 2.0, 3.0]
    assert again.scale.flatten().tolist() == [4.0, 5.0, 6.0]
    x = samples_of(kind)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_the_given_shift_is_copied() -> None:
    shift = torch.zeros(3)
    model = model_of("vector", shift=shift)
    shift += 1
    assert not model.shift.any()


@pytest.mark.parametrize("name", ["shift", "scale"])
def test_one_value_a_channel_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} needs one value a channel: 3, got 2$"):
        model_of("series", **{name: [1.0, 2.0]})


def test_normalisation_must_be_possible() -> None:
    with pytest.raises(ValueError, match=r"^scale must be above 0, got \[1.0, 0.0, 1.0\]$"):
        model_of("vector", scale=[1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"^shift must be finite"):
        model_of("vector", shift=[1.0, float("nan"), 1.0])


def test_only_images_are_channels_last() -> None:
    kernels = [layer.weight for layer in model_of("image").modules() if isinstance(layer, nn.Conv2d)]
    assert kernels and all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels)
    assert all(p.is_contiguous() for p in model_of("series").parameters())


@pytest.mark.parametrize(
    ("network", "kind", "resolved"),
    [
        ("auto", "image", "small"),
        ("auto", "series", "series"),
        ("auto", "vector", "mlp"),
        ("small", "image", "small"),
        ("conv9-large", "image", "conv9-large"),
        ("mlp", "vector", "mlp"),
    ],
)
def test_networks_that_fit(network: str, kind: str, resolved: str) -> None:
    assert resolve_network(network, kind) == resolved


@pytest.mark.parametrize(
    ("network", "kind", "message"),
    [
        (
            "mlp",
            "series",
            "network 'mlp' takes vector samples, not series; networks for series: auto, series",
        ),
        (
            "series",
            "image",
            "network 'series' takes series samples, not image; "
            "networks for image: auto, small, conv9-small, conv9-large",
        ),
        (
            "large",
            "image",
            "network must be one of auto, small, conv9-small, conv9-large, series, mlp, got 'large'",
        ),
        ("auto", "sound", "kind must be one of image, series, vector, got 'sound'"),
    ],
)
def test_networks_that_do_not_fit(network: str, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resolve_network(network, kind)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Model(Architecture(network, kind, (3, 8, 8), 2, 0, 0.0))


@pytest.mark.parametrize(("kind", "width"), [("image", 32), ("series", 32), ("vector", 128)])
def test_the_architecture_is_resolved(kind: str, width: int) -> None:
    model = Model(Architecture("auto", kind, SHAPES[kind], 5, 0, 0.0))
    assert model.architecture == (resolve_network("auto", kind), kind, SHAPES[kind], 5, width, 0.0, 0, False)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_architecture_survives_json(kind: str) -> None:
    model = model_of(kind)
    content = json.loads(json.dumps(model.architecture._asdict()))
    again = Model(Architecture(**content))
    assert again.architecture == model.architecture
    again.load_state_dict(model.state_dict())
    x = samples_of(kind)
    assert torch.equal(again.eval()(x), model.eval()(x))


@pytest.mark.parametrize("kind", SHAPES)
def test_logits_and_embeddings_of_every_kind(kind: str) -> None:
    model, x = model_of(kind), samples_of(kind)
    embeddings = model.embed(model.normalise(x))
    assert embeddings.shape == (6, model.embedding_dim)
    assert model(x).shape == (6, 5)
    assert model(x).isfinite().all()


def test_uint8_and_float_are_the_same_samples() -> None:
    model = make_model().eval()
    assert torch.equal(model(images()), model(images().float()))


def test_samples_do_not_see_each_other_in_evaluation() -> None:
    model = make_model().eval()
    x = images()
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(model(x[order]), model(x)[order])
    torch.testing.assert_close(model(x[:1]), model(x)[:1])


def test_contrast_and_brightness_do_not_matter() -> None:
    # The encoder begins with an instance norm; only its epsilon sees the scale.
    model = make_model().eval()
    x = images().float()
    torch.testing.assert_close(model(x * 0.5 + 60), model(x), atol=1e-3, rtol=1e-3)


def test_blank_image() -> None:
    assert make_model().eval()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).isfinite().all()


def test_dropout_is_between_embedding_and_classifier() -> None:
    model = make_model(dropout=0.5)
    embeddings = torch.ones(64, model.embedding_dim)
    assert not torch.equal(model.classify(embeddings), model.classify(embeddings))
    model.eval()
    assert torch.equal(model.classify(embeddings), model.classify(embeddings))
    model.train()
    normalised = model.normalise(images())
    assert torch.equal(model.embed(normalised), model.embed(normalised))


def test_architecture_and_weights_rebuild_the_model() -> None:
    model = make_model()
    model(images())
    again = Model(model.architecture)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(images(seed=1)), model.eval()(images(seed=1)))


def test_every_parameter_gets_a_gradient() -> None:
    model = make_model()
    model(images()).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_discriminator_shape() -> None:
    discriminator = Discriminator(8, 4)
    assert discriminator(torch.rand(5, 8)).shape == (5,)
    assert discriminator(torch.rand(1, 8)).shape == (1,)


def test_discriminator_by_hand() -> None:
    discriminator = Discriminator(2, 2)
    with torch.no_grad():
        for parameter, value in zip(
            discriminator.parameters(),
            [[[1.0, 0.0], [0.0, 1.0]], [0.0, -1.0], [[2.0, 10.0]], [0.5]],
            strict=True,
        ):
            parameter.copy_(torch.tensor(value))
    # Hidden (3, 0.5 − 1 = −0.5 → −0.05 by the leaky ReLU): 2·3 − 10·0.05 + 0.5.
    assert discriminator(torch.tensor([[3.0, 0.5]])).item() == pytest.approx(6.0)


def test_discriminator_learns_to_be_positive_for_source() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(2, 8)
    source, target = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.5)
    step = Step({"s": source, "t": target}, {}, torch.ones(0), discriminator, discriminator)
    for _ in range(30):
        optimizer.zero_grad()
        adversarial(step).backward()
        optimizer.step()
    assert (discriminator(source) > 0).all()
    assert (discriminator(target) < 0).all()
