import hashlib
import io
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import SVHN

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.domains.torchvision_sets import svhn
from iimt_search.errors import DataError

COUNTS = {"train": 12, "test": 5}


def content(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 32, 32, 3) and labels as the set has them, 1 to 10."""
    rng = np.random.default_rng(len(split))
    labels = (np.arange(COUNTS[split]) % 10 + 1).astype(np.uint8)
    return rng.integers(0, 256, (COUNTS[split], 32, 32, 3), np.uint8), labels


def mat(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """A MATLAB 5 file: X (32, 32, 3, N) and y (N, 1)."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]}, do_compression=True)
    return file.getvalue()


def place(monkeypatch: pytest.MonkeyPatch, root: Path, split: str, data: bytes) -> Path:
    """Write the file of a split and make torchvision expect it."""
    url, filename, _ = SVHN.split_list[split]
    monkeypatch.setitem(SVHN.split_list, split, [url, filename, hashlib.md5(data).hexdigest()])
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
        place(monkeypatch, tmp_path, split, mat(*content(split)))
    before = sorted(tmp_path.rglob("*"))
    stream = svhn(32)
    for split, part in (("train", stream.train), ("test", stream.test)):
        images, labels = content(split)
        assert part is not None and part.y is not None
        x = np.concatenate(list(part.chunks()))
        assert x.dtype == np.uint8
        assert np.array_equal(x, images.transpose(0, 3, 1, 2))
        assert part.y.dtype == np.int64
        assert np.array_equal(part.y, labels % 10)
    assert stream.train.y is not None
    assert stream.train.y[9] == 0  # 10 in the file
    assert (stream.classes, stream.kind, stream.augmentation) == (CLASSES, "image", "digits")
    assert sorted(tmp_path.rglob("*")) == before


def test_resized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for split in COUNTS:
        place(monkeypatch, tmp_path, split, mat(*content(split)))
    part = svhn(16).train
    expected = Image.fromarray(content("train")[0][3]).resize((16, 16), Image.Resampling.BICUBIC)
    x = np.concatenate(list(part.chunks()))
    assert x.shape == (part.count, *part.sample_shape) == (12, 3, 16, 16)
    assert np.array_equal(x[3].transpose(1, 2, 0), np.asarray(expected))


def test_no_network_says_what_to_place_where(tmp_path: Path) -> None:
    url, filename, md5 = SVHN.split_list["train"]
    with pytest.raises(DataError) as caught:
        svhn(32)
    assert f"download {url} elsewhere and put it at {tmp_path / 'torchvision' / filename} (md5 {md5})" in str(
        caught.value
    )


def test_wrong_checksum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = place(monkeypatch, tmp_path, "train", mat(*content("train")))
    path.write_bytes(b"else")
    with pytest.raises(DataError, match=rf"svhn: {path} has md5 {hashlib.md5(b'else').hexdigest()} instead"):
        svhn(32)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float) -> None:
    data = mat(*content("train"))
    path = place(monkeypatch, tmp_path, "train", data[: int(len(data) * share)])
    with pytest.raises(DataError, match=rf"{path} cannot be read, it is damaged or cut short"):
        svhn(32)
