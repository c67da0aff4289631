import bz2
import hashlib
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import USPS

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.domains.torchvision_sets import usps
from iimt_search.errors import DataError

COUNTS = {"train": 6, "test": 4}


def content(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (COUNTS[split], 16, 16), np.uint8), rng.integers(0, 10, COUNTS[split])


def libsvm(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """One sample a line: its label from 1 to 10, then its 256 values in [−1, 1], numbered from 1."""
    lines = []
    for image, label in zip(images, labels, strict=True):
        # Half a level up, so that rounding down gives the level back.
        values = np.minimum((image.reshape(-1) + 0.5) / 255 * 2 - 1, 1)
        lines.append(" ".join([str(label + 1), *(f"{i}:{value:.6f}" for i, value in enumerate(values, 1))]))
    return bz2.compress(("\n".join(lines) + "\n").encode())


def place(monkeypatch: pytest.MonkeyPatch, root: Path, split: str, data: bytes) -> Path:
    """Write the file of a split and make torchvision expect it."""
    url, filename, _ = USPS.split_list[split]
    monkeypatch.setitem(USPS.split_list, split, [url, filename, hashlib.md5(data).hexdigest()])
    path = root / "torchvision" / filename
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setenv("IIMT_DATA", str(tmp_path))


def test_pixels_and_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for split in COUNTS:
        place(monkeypatch, tmp_path, split, libsvm(*content(split)))
    before = sorted(tmp_path.rglob("*"))
    stream = usps(16)
    for split, part in (("train", stream.train), ("test", stream.test)):
        images, labels = content(split)
        assert part is not None and part.y is not None
        x = np.concatenate(list(part.chunks()))
        assert (x.dtype, x.shape) == (np.uint8, (COUNTS[split], 3, 16, 16))
        assert all(np.array_equal(x[:, channel], images) for channel in range(3))
        assert part.y.dtype == np.int64
        assert np.array_equal(part.y, labels)
    assert (stream.classes, stream.kind, stream.augmentation) == (CLASSES, "image", "digits")
    assert usps(32).train.sample_shape == next(usps(32).train.chunks()).shape[1:] == (3, 32, 32)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_network_says_what_to_place_where(tmp_path: Path) -> None:
    url, filename, md5 = USPS.split_list["train"]
    with pytest.raises(DataError) as caught:
        usps(16)
    assert f"download {url} elsewhere and put it at {tmp_path / 'torchvision' / filename} (md5 {md5})" in str(
        caught.value
    )


def test_wrong_checksum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = place(monkeypatch, tmp_path, "train", libsvm(*content("train")))
    path.write_bytes(b"else")
    with pytest.raises(DataError, match=rf"usps: {path} has md5 {hashlib.md5(b'else').hexdigest()} instead"):
        usps(16)


@pytest.mark.parametrize("kind", ["cut", "text", "short line"])
def test_a_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    data = libsvm(*content("train"))
    text = bz2.decompress(data)
    bad = {
        "cut": data[: len(data) // 2],
        "text": text,
        "short line": bz2.compress(text[: len(text) // 2]),
    }[kind]
    path = place(monkeypatch, tmp_path, "train", bad)
    place(monkeypatch, tmp_path, "test", libsvm(*content("test")))
    with pytest.raises(DataError, match=rf"{path} cannot be read, it is damaged or cut short"):
        usps(16)
