import gzip
import hashlib
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import MNIST

from iimt_search.data.domains import mnist
from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.images import resize
from iimt_search.data.store import PartStream
from iimt_search.errors import DataError

REAL = Path(__file__).parents[4] / "shared" / "data"
COUNTS = {"train": 7, "t10k": 4}


def idx(values: NDArray[np.uint8]) -> bytes:
    """Write an idx file: two zeros, type 8 (uint8), the dimensions' number and sizes, big-endian; values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def content(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(len(split))
    count = COUNTS[split]
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)


def whole(part: PartStream) -> NDArray[np.uint8]:
    x = np.concatenate(list(part.chunks()))
    assert x.dtype == np.uint8
    assert x.shape == (part.count, *part.sample_shape)
    return x


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setenv("IIMT_DATA", str(tmp_path))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder with decompressed files."""
    folder = tmp_path / "torchvision" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split in COUNTS:
        images, labels = content(split)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def compress(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = []
    for path in sorted(raw.iterdir(), reverse=True):
        data = gzip.compress(path.read_bytes())
        (raw / f"{path.name}.gz").write_bytes(data)
        path.unlink()
        resources.append((f"{path.name}.gz", hashlib.md5(data).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)


@pytest.mark.parametrize("compressed", [False, True])
def test_pixels_and_labels(raw: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    if compressed:
        compress(raw, monkeypatch)
    stream = mnist.build(28)
    for split, part in (("train", stream.train), ("t10k", stream.test)):
        images, labels = content(split)
        assert part is not None and part.y is not None
        x = whole(part)
        assert all(np.array_equal(x[:, channel], images) for channel in range(3))
        assert part.y.dtype == np.int64
        assert np.array_equal(part.y, labels)
    assert (stream.classes, stream.kind, stream.augmentation) == (CLASSES, "image", "digits")


def test_files_that_are_there_are_all_that_is_there_afterwards(raw: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    mnist.build(28)
    assert sorted(tmp_path.rglob("*")) == before


def test_chunks_are_resized_with_pil(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iimt_search.data.images.CHUNK", 3)
    part = mnist.build(32).train
    images, _ = content("train")
    assert [len(chunk) for chunk in part.chunks()] == [3, 3, 1]
    expected = [
        np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in images
    ]
    assert np.array_equal(whole(part)[:, 1], np.stack(expected))


def test_colour_is_resized_channel_by_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
    resized = resize(images, 12)
    for n in range(3):
        for channel in range(3):
            grey = Image.fromarray(images[n, channel]).resize((12, 12), Image.Resampling.BICUBIC)
            assert np.array_equal(resized[n, channel], np.asarray(grey))


def test_no_network_says_what_to_place_where(tmp_path: Path) -> None:
    path = tmp_path / "torchvision" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    with pytest.raises(DataError) as caught:
        mnist.build(28)
    message = str(caught.value)
    assert str(path) in message
    assert f"{MNIST.mirrors[0]}train-images-idx3-ubyte.gz" in message
    assert all(mirror in message for mirror in MNIST.mirrors)
    assert dict(MNIST.resources)[path.name] in message


def test_wrong_checksum(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress(raw, monkeypatch)
    path = raw / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"else")
    with pytest.raises(DataError, match=rf"{path} has md5 {hashlib.md5(b'else').hexdigest()} instead of"):
        mnist.build(28)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("length", [0, 2, 9, -1])
def test_truncated_files_are_named(raw: Path, name: str, length: int) -> None:
    (raw / name).write_bytes((raw / name).read_bytes()[:length])
    with pytest.raises(DataError, match=rf"{raw / name} cannot be read, it is damaged or cut short"):
        mnist.build(28)


def test_labels_and_images_must_match(raw: Path) -> None:
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=r"images-idx3-ubyte has 7 images and .*labels-idx1-ubyte 5 labels"):
        mnist.build(28)


def test_labels_must_be_digits(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 9, 10, 3], np.uint8)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte has the label 10, which is no digit"):
        mnist.build(28)


@pytest.mark.skipif(not (REAL / "torchvision" / "MNIST").is_dir(), reason="the real MNIST is not here")
def test_the_real_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IIMT_DATA", str(REAL))
    stream = mnist.build(32)
    assert stream.test is not None
    assert (stream.train.count, stream.test.count) == (60_000, 10_000)
    # As published: the first ten labels of either part, and how often each digit occurs.
    assert stream.train.y is not None and stream.test.y is not None
    assert stream.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert stream.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(stream.train.y).tolist() == counts
    first = next(stream.test.chunks())
    assert first.shape == (1000, 3, 32, 32)
    assert first[:, :, :2, :2].max() == 0 and first.max() == 255


@pytest.mark.parametrize("name", ["mnist", "torchvision_sets", "motions"])
def test_import_loads_no_torch(name: str) -> None:
    code = (
        f"import sys, iimt_search.data.domains.{name};"
        "print(sorted({'torch', 'torchvision', 'aeon'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
