import numpy as np
import pytest

from iimt_search.data.domains.digits import blend


def test_by_hand() -> None:
    # A photo as large as the patch leaves one place for it: |photo − digit| in each channel.
    grey = np.array([[[0, 255], [100, 30]]], dtype=np.uint8)
    photo = np.array([[[10, 20, 30], [10, 20, 30]], [[200, 100, 0], [30, 31, 29]]], dtype=np.uint8)
    out = blend(grey, [photo], np.random.default_rng(0), patch=2)
    assert out.dtype == np.uint8
    assert out.tolist() == [
        [[[10, 245], [100, 0]], [[20, 235], [0, 1]], [[30, 225], [100, 1]]],
    ]


def test_against_loop() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 4, 4)).astype(np.uint8)
    photos = [rng.integers(0, 256, shape).astype(np.uint8) for shape in [(5, 7, 3), (4, 6, 3), (9, 4, 3)]]
    out = blend(grey, photos, np.random.default_rng(1), patch=4)
    draws = np.random.default_rng(1)
    for n in range(6):
        photo = photos[draws.integers(3)]
        top, left = draws.integers(photo.shape[0] - 3), draws.integers(photo.shape[1] - 3)
        for c in range(3):
            for i in range(4):
                for j in range(4):
                    expected = abs(int(photo[top + i, left + j, c]) - int(grey[n, i, j]))
                    assert out[n, c, i, j] == expected


def test_black_digit_is_the_photo_and_white_its_negative() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (3, 3, 3)).astype(np.uint8)
    grey = np.stack([np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8)])
    out = blend(grey, [photo], rng, patch=3)
    assert np.array_equal(out[0], photo.transpose(2, 0, 1))
    assert np.array_equal(out[1], 255 - photo.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [4, 16])
def test_patch_is_resized_to_the_digit(size: int) -> None:
    photo = np.full((10, 12, 3), [50, 100, 150], dtype=np.uint8)
    out = blend(np.full((2, size, size), 20, np.uint8), [photo], np.random.default_rng(0), patch=8)
    assert out.shape == (2, 3, size, size)
    assert (out == np.array([30, 80, 130])[None, :, None, None]).all()


def test_every_place_of_the_patch_can_be_drawn() -> None:
    photo = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    out = blend(np.zeros((200, 1, 1), np.uint8), [photo], np.random.default_rng(0), patch=1)
    assert set(out[:, 0, 0, 0].tolist()) == {0, 1, 2, 3, 4, 5}


def test_inputs_are_not_changed() -> None:
    grey, photo = np.full((1, 2, 2), 9, np.uint8), np.full((2, 2, 3), 7, np.uint8)
    blend(grey, [photo], np.random.default_rng(0), patch=2)
    assert (grey == 9).all() and (photo == 7).all()
