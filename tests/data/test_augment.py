import math

import pytest
import torch
from torch import Tensor

from iimt_search.data.augment import AUGMENTATIONS, augment_digits


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, channels: int = 3, height: int = 8, width: int = 8) -> Tensor:
    return torch.rand(count, channels, height, width, generator=seeded(99)) * 2 - 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (1, 3, 16, 16), (4, 1, 9, 12)])
def test_shape_and_type_are_kept(name: str, shape: tuple[int, int, int, int]) -> None:
    out = AUGMENTATIONS[name](batch(*shape), 1.0, seeded())
    assert out.shape == shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_zero_is_the_identity(name: str) -> None:
    x = batch()
    assert torch.equal(AUGMENTATIONS[name](x, 0.0, seeded()), x)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_reproducible_from_the_generator(name: str) -> None:
    augment = AUGMENTATIONS[name]
    first = augment(batch(), 1.0, seeded(1))
    assert torch.equal(first, augment(batch(), 1.0, seeded(1)))
    assert not torch.equal(first, augment(batch(), 1.0, seeded(2)))
    generator = seeded(1)
    assert torch.equal(first, augment(batch(), 1.0, generator))
    assert not torch.equal(first, augment(batch(), 1.0, generator))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_neither_the_input_nor_the_global_state_is_touched(name: str) -> None:
    x, state = batch(), torch.get_rng_state()
    before = x.clone()
    AUGMENTATIONS[name](x, 1.0, seeded())
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_sample_is_changed_in_its_own_way() -> None:
    x = batch(count=1).expand(8, -1, -1, -1).contiguous()
    out = augment_digits(x, 1.0, seeded())
    assert len({image.numpy().tobytes() for image in out}) == 8


def test_next_to_no_strength_only_inverts() -> None:
    x = batch(count=64)
    out = augment_digits(x, 1e-6, seeded())
    sign = (out * x).sum(dim=(1, 2, 3)).sign()
    torch.testing.assert_close(out * sign.reshape(-1, 1, 1, 1), x, atol=1e-4, rtol=0)
    inverted = int((sign < 0).sum())
    assert 16 < inverted < 48  # 32 expected, standard deviation 4


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_flat_images_stay_flat_and_within_the_ranges(value: float, strength: float) -> None:
    # Border padding brings in no other value; colour then moves by at most 30 % + 0.2 + 0.4 at strength 1.
    out = augment_digits(torch.full((200, 3, 8, 8), value), strength, seeded())
    channels = out[:, :, :1, :1]
    torch.testing.assert_close(out, channels.expand_as(out))
    size = channels.abs()
    assert size.max() <= abs(value) * (1 + 0.3 * strength) + 0.6 * strength + 1e-6
    assert (channels[:, 0] - channels[:, 1]).abs().max() > 0.2 * strength  # each channel its own


def test_a_point_moves_no_further_than_the_ranges_allow() -> None:
    # A bright 2×2 spot in the middle of 33×33: 12 % of the width is 4 pixels, rotation moves it by none.
    x = torch.full((100, 1, 33, 33), -1.0)
    x[:, :, 16, 16] = 1.0
    out = augment_digits(x, 1.0, seeded())[:, 0]
    background = out[:, :1, :1]
    spot = (out - background).abs()
    place = spot.flatten(1).argmax(dim=1)
    distance = torch.maximum((place // 33 - 16).abs(), (place % 33 - 16).abs())
    # The shift is taken after rotation and scale, so √2 · 12 % · 1.12 · 1.1 of 33 pixels at the very most.
    assert 2 < int(distance.max()) <= math.ceil(math.sqrt(2) * 0.12 * 33 * 1.3)


def test_a_digit_is_not_mirrored() -> None:
    # Three spots in the corners of a triangle keep their sense of rotation.
    corners = torch.tensor([[6.0, 6.0], [6.0, 18.0], [20.0, 6.0]])  # (row, column)
    x = torch.full((60, 3, 27, 27), 0.0)
    for channel, (row, column) in enumerate(corners.int().tolist()):
        x[:, channel, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    out = augment_digits(x, 1.0, seeded())
    shown = (out - out[:, :, -1:, -1:]).abs().flatten(2)
    place = shown.argmax(dim=2)
    points = torch.stack([place // 27, place % 27], dim=2).double()
    a, b = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    sense = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    expected = torch.linalg.det((corners[1:] - corners[0]).double()).sign()
    assert (sense.sign() == expected).all()
