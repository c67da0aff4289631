from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.domains import mnist
from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.store import DomainStream, PartStream
from iimt_search.errors import DataError

REAL = Path(__file__).parents[4] / "shared" / "data"
COUNTS = {"train": 7, "t10k": 5}


def content(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(len(split))
    count = COUNTS[split]
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count)


def parts(stream: DomainStream) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    def whole(part: PartStream | None) -> NDArray[np.uint8]:
        assert part is not None
        x = np.concatenate(list(part.chunks()))
        assert x.dtype == np.uint8
        assert x.shape == (part.count, *part.sample_shape)
        return x

    return whole(stream.train), whole(stream.test)


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder with three photographs; MNIST is a handful of digits."""
    monkeypatch.setenv("IIMT_DATA", str(tmp_path))
    monkeypatch.setattr(mnist, "read_split", content)
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(9)
    for name, shape in (("b.png", (40, 30, 3)), ("a.PNG", (28, 28, 3)), ("c.png", (35, 50))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_photos_are_read_in_rgb_in_the_order_of_their_names(photos: Path) -> None:
    loaded = mnist.load_photos()
    assert [photo.shape for photo in loaded] == [(28, 28, 3), (40, 30, 3), (35, 50, 3)]
    assert np.array_equal(loaded[1], np.asarray(Image.open(photos / "b.png")))
    assert np.array_equal(loaded[2][..., 2], np.asarray(Image.open(photos / "c.png")))


def test_blended_against_the_recipe(photos: Path) -> None:
    loaded = mnist.load_photos()
    seeds = np.random.SeedSequence(mnist._SEED).spawn(2)
    stream = mnist.build_m(28)
    for split, x, seed in zip(("train", "t10k"), parts(stream), seeds, strict=True):
        rng = np.random.default_rng(seed)
        for digit, image in zip(content(split)[0], x, strict=True):
            photo = loaded[rng.integers(3)].astype(int)
            top, left = rng.integers(photo.shape[0] - 27), rng.integers(photo.shape[1] - 27)
            patch = photo[top : top + 28, left : left + 28]
            assert np.array_equal(image.transpose(1, 2, 0), np.abs(patch - digit[..., None]))
    assert (stream.classes, stream.kind, stream.augmentation) == (CLASSES, "image", "digits")


def test_labels_are_mnists(photos: Path) -> None:
    stream = mnist.build_m(8)
    assert stream.test is not None and stream.train.y is not None and stream.test.y is not None
    assert np.array_equal(stream.train.y, content("train")[1])
    assert np.array_equal(stream.test.y, content("t10k")[1])


def test_resized_after_blending(photos: Path) -> None:
    for small, large in zip(parts(mnist.build_m(28)), parts(mnist.build_m(32)), strict=True):
        for before, after in zip(small, large, strict=True):
            image = Image.fromarray(before.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BICUBIC)
            assert np.array_equal(after.transpose(1, 2, 0), np.asarray(image))


def test_the_same_every_time_and_in_chunks_of_any_size(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = mnist.build_m(12)
    first, again = parts(stream), parts(stream)
    monkeypatch.setattr(mnist, "CHUNK", 2)
    other = mnist.build_m(12)
    assert len(list(other.train.chunks())) == 4
    for a, b, c in zip(first, again, parts(other), strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_parts_draw_different_patches(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros((6, 28, 28), np.uint8), np.zeros(6, np.int64)
    monkeypatch.setattr(mnist, "read_split", lambda split: black)
    train, test = parts(mnist.build_m(28))
    assert not np.array_equal(train, test)


@pytest.mark.parametrize("make", [False, True])
def test_no_photos_says_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: bool
) -> None:
    monkeypatch.setenv("IIMT_DATA", str(tmp_path))
    if make:
        (tmp_path / "photos").mkdir()
    with pytest.raises(
        DataError, match=rf"no \.jpg or \.png file in {tmp_path}/photos: put some there, .*BSDS500"
    ):
        mnist.build_m(28)


@pytest.mark.parametrize("shape", [(27, 60, 3), (60, 27, 3)])
def test_a_small_photo_is_refused_by_name(photos: Path, shape: tuple[int, ...]) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(photos / "small.png")
    size = f"{shape[1]}×{shape[0]}"
    with pytest.raises(DataError, match=rf"{photos}/small\.png has {size} pixels, and at least 28×28"):
        mnist.build_m(28)


@pytest.mark.parametrize("length", [0, 10, 300, -500])
def test_a_damaged_photo_is_named(photos: Path, length: int) -> None:
    path = photos / "b.png"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=rf"{path} cannot be read, it is damaged or cut short"):
        mnist.build_m(28)


@pytest.mark.skipif(not (REAL / "photos").is_dir(), reason="the real photographs are not here")
def test_the_real_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IIMT_DATA", str(REAL))
    stream = mnist.build_m(32)
    assert stream.test is not None
    assert (stream.train.count, stream.test.count) == (60_000, 10_000)
    first = next(stream.test.chunks())
    assert first.shape == (1000, 3, 32, 32)
    assert np.abs(first[:, 0].astype(int) - first[:, 2]).mean() > 5  # coloured
    assert len({image.tobytes() for image in first}) == 1000
