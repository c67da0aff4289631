import pytest
import torch
from torch import Tensor

from iimt_search.iimt.losses import domain_adversarial
from iimt_search.models.network import ENCODERS, Architecture, Discriminator, Model


def make_model(channels: int = 3, classes: int = 10, width: int = 4, dropout: float = 0.0) -> Model:
    torch.manual_seed(0)
    return Model(Architecture("small", channels, classes, width, dropout))


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


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_names_its_dimension(name: str) -> None:
    encoder, dimension = ENCODERS[name](3, 4)
    assert encoder(torch.rand(2, 3, 8, 8)).shape == (2, dimension)


def test_forward_is_classify_of_embed_of_normalise() -> None:
    model = make_model().eval()
    x = images()
    torch.testing.assert_close(model(x), model.classifier(model.encoder(x.float() / 127.5 - 1)))


def test_normalise() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    out = Model.normalise(x)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_normalise_leaves_other_shapes_alone() -> None:
    torch.testing.assert_close(Model.normalise(torch.tensor([[0.0, 127.5]])), torch.tensor([[-1.0, 0.0]]))


def test_normalise_does_not_change_its_input() -> None:
    x = torch.full((1, 3, 2, 2), 255.0)
    Model.normalise(x)
    assert (x == 255.0).all()


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
    for _ in range(30):
        optimizer.zero_grad()
        domain_adversarial(discriminator(source), discriminator(target)).backward()
        optimizer.step()
    assert (discriminator(source) > 0).all()
    assert (discriminator(target) < 0).all()
