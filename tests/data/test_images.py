from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iimt_search.data.images import SUFFIXES, read_image
from iimt_search.errors import DataError


def test_a_square_rgb_image_is_left_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 6), pixels.transpose(2, 0, 1))


def test_16_bit_grey_is_scaled_not_cut(tmp_path: Path) -> None:
    pixels = np.array([[0, 257], [25_700, 65_535]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 2)[0].tolist() == [[0, 1], [100, 255]]


def test_grey_palette_and_transparent_images(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "l.png")
    assert np.unique(read_image(tmp_path / "l.png", 4)).tolist() == [77]
    Image.new("RGB", (4, 4), (9, 8, 7)).convert("P").save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png", 4).shape == (3, 4, 4)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert np.unique(read_image(tmp_path / "a.png", 4)).tolist() == [255]  # nothing, on white


def test_the_middle_square_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert np.unique(read_image(tmp_path / "wide.png", 4)).tolist() == [200]


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180°
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(image)[::-1, ::-1].transpose(2, 0, 1)
    assert np.array_equal(read_image(tmp_path / "a.png", 4), expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_images_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=f"broken.{suffix}"):
        read_image(path, 8)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png cannot be read as an image"):
        read_image(tmp_path / "absent.png", 8)


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "jfif", "jpe", "bmp", "dib", "gif", "webp", "tif", "ppm", "avif"]
)
def test_types_that_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and ".avif" not in SUFFIXES:
        pytest.skip("this Pillow has no AVIF")
    assert f".{suffix}" in SUFFIXES
    Image.new("RGB", (8, 8), "white").save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}", 8).min() > 250
